//! A notebook on disk: the format of Jupyter (nbformat 4), so that other programs can open it.

use std::{
    fs, io,
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A file may have this many bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// A file may have this many cells.
const MAX_CELLS: usize = 10_000;
/// If a file would have more, the outputs of cells with more than this many bytes are left out.
const MAX_LARGE: usize = 16 * 1024;

/// A notebook. What other programs have put into its file, and this one does not know, stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    pub kernel: String,
    pub cells: Vec<Content>,
    /// All but the cells, if it is from a file.
    pub rest: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    pub source: String,
    pub outputs: Vec<Output>,
    /// Which one it was when it ran.
    pub count: Option<u32>,
    /// The outputs as they are in the file, as long as it was not run since.
    pub kept: Option<Arc<Value>>,
    /// All else that the cell has in the file.
    pub rest: Arc<Map<String, Value>>,
}

impl Content {
    /// Whether it is code, not a text between cells.
    fn is_code(&self) -> bool {
        self.rest.get("cell_type").is_none_or(|kind| kind == "code")
    }
}

/// What a cell has to show.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Output {
    Text {
        text: String,
    },
    Value {
        text: String,
    },
    Error {
        text: String,
    },
    /// PNG in base64.
    Picture {
        png: String,
    },
}

impl Output {
    pub fn len(&self) -> usize {
        match self {
            Output::Text { text } | Output::Value { text } | Output::Error { text } => text.len(),
            Output::Picture { png } => png.len(),
        }
    }
}

impl Document {
    pub fn read(path: &Path) -> io::Result<Document> {
        // Somebody may have put a pipe there, whose opening would wait for a writer.
        let flags = OFlags::NONBLOCK.bits() as i32;
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).custom_flags(flags).open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if about.len() > MAX_FILE {
            return Err(io::Error::other("the notebook is too large"));
        }
        let value: Value = serde_json::from_reader(io::BufReader::new(file.take(MAX_FILE)))?;
        let cells = value["cells"].as_array().map_or(0, Vec::len);
        if cells > MAX_CELLS {
            return Err(io::Error::other("the notebook has too many cells"));
        }
        Ok(Document::from_jupyter(&value))
    }

    /// Writes the file as a whole, or not at all. It keeps its place, if it is a link, and who may
    /// read it.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        // Somebody may have removed it.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let allowed = fs::metadata(path).map(|file| file.permissions());
        self.put(path, allowed.ok(), |file| {
            file.persist(path)?;
            Ok(())
        })
    }

    /// Writes a new file. Fails if there is one of this name.
    pub fn create(&self, path: &Path) -> io::Result<()> {
        self.put(path, None, |file| {
            file.persist_noclobber(path)?;
            Ok(())
        })
    }

    fn put(
        &self,
        path: &Path,
        allowed: Option<fs::Permissions>,
        persist: impl FnOnce(tempfile::NamedTempFile) -> io::Result<()>,
    ) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        if let Some(allowed) = allowed {
            file.as_file().set_permissions(allowed)?;
        }
        serde_json::to_writer_pretty(io::BufWriter::new(&mut file), &self.to_jupyter())?;
        if file.as_file().metadata()?.len() > MAX_FILE {
            // It could not be opened again.
            file.as_file().set_len(0)?;
            file.as_file().rewind()?;
            let less = self.without_outputs().to_jupyter();
            serde_json::to_writer_pretty(io::BufWriter::new(&mut file), &less)?;
        }
        file.flush()?;
        if file.as_file().metadata()?.len() > MAX_FILE {
            return Err(io::Error::other("the notebook is too large"));
        }
        file.as_file().sync_all()?;
        persist(file)?;
        // The name is on the disk when the folder is.
        fs::File::open(folder)?.sync_all()
    }

    /// The same without the outputs of the cells that have most of them.
    fn without_outputs(&self) -> Document {
        let mut document = self.clone();
        for cell in &mut document.cells {
            let kept = cell.kept.as_ref().map_or(0, |kept| kept.to_string().len());
            if kept + cell.outputs.iter().map(Output::len).sum::<usize>() > MAX_LARGE {
                cell.kept = None;
                let text = "There is too much output for a file; it is left out.".into();
                cell.outputs = vec![Output::Error { text }];
            }
        }
        document
    }

    fn from_jupyter(value: &Value) -> Document {
        let language = value.pointer("/metadata/kernelspec/name");
        let cells = value["cells"].as_array().map_or(&[][..], Vec::as_slice);
        // A text between cells becomes a cell, which does not run by itself.
        let cells = cells.iter().map(|cell| {
            let outputs = cell["outputs"].as_array().map_or(&[][..], Vec::as_slice);
            let known = |name: &str| ["source", "outputs", "execution_count"].contains(&name);
            let all = cell.as_object().into_iter().flatten();
            let rest = all.filter(|(name, _)| !known(name));
            Content {
                source: text(&cell["source"]),
                outputs: outputs.iter().filter_map(output).collect(),
                count: cell["execution_count"].as_u64().map(|count| count as u32),
                kept: cell.get("outputs").cloned().map(Arc::new),
                rest: Arc::new(
                    rest.map(|(name, value)| (name.clone(), value.clone()))
                        .collect(),
                ),
            }
        });
        let mut rest = value.as_object().cloned().unwrap_or_default();
        rest.remove("cells");
        Document {
            kernel: match language.and_then(Value::as_str) {
                None | Some("python3") => "python".into(),
                Some("bash") => "shell".into(),
                Some(name) => name.to_owned(),
            },
            cells: cells.collect(),
            rest,
        }
    }

    fn to_jupyter(&self) -> Value {
        let (name, language) = match self.kernel.as_str() {
            "python" => ("python3", "python"),
            "shell" => ("bash", "bash"),
            name => (name, name),
        };
        let mut document = self.rest.clone();
        if document.is_empty() {
            let new = json!({
                "nbformat": 4,
                "nbformat_minor": 4,
                "metadata": {
                    "kernelspec": {"name": name, "display_name": name, "language": language},
                    "language_info": {"name": language},
                },
            });
            document = new.as_object().cloned().unwrap_or_default();
        }
        // Since 4.5 each cell has a name.
        let minor = document.get("nbformat_minor").and_then(Value::as_u64);
        let has_ids = minor.is_some_and(|minor| minor >= 5);
        let taken = |id: &str| {
            let mut cells = self.cells.iter();
            cells.any(|cell| cell.rest.get("id").is_some_and(|known| known == id))
        };
        let mut ids = (1..).map(|number| format!("cell-{number}"));
        let cells: Vec<_> = self
            .cells
            .iter()
            .map(|cell| {
                let mut all = (*cell.rest).clone();
                all.insert("source".into(), cell.source.clone().into());
                all.entry("cell_type").or_insert("code".into());
                all.entry("metadata").or_insert(json!({}));
                if has_ids && !all.contains_key("id") {
                    let id = ids.find(|id| !taken(id)).unwrap_or_default();
                    all.insert("id".into(), id.into());
                }
                if cell.is_code() {
                    let outputs = cell.outputs.iter();
                    let outputs = outputs.map(|output| to_jupyter(output, cell.count));
                    let kept = cell.kept.as_deref().cloned();
                    let outputs = kept.unwrap_or_else(|| outputs.collect());
                    all.insert("execution_count".into(), cell.count.into());
                    all.insert("outputs".into(), outputs);
                }
                all
            })
            .collect();
        document.insert("cells".into(), json!(cells));
        Value::Object(document)
    }
}

/// A text is one string, or a list of lines.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        _ => String::new(),
    }
}

fn output(value: &Value) -> Option<Output> {
    let data = &value["data"];
    Some(match value["output_type"].as_str()? {
        "stream" => Output::Text {
            text: text(&value["text"]),
        },
        "error" => Output::Error {
            text: match &value["traceback"] {
                Value::Array(lines) => {
                    let lines = lines.iter().filter_map(Value::as_str);
                    lines.collect::<Vec<_>>().join("\n")
                }
                _ => text(&value["evalue"]),
            },
        },
        _ if data["image/png"].is_null() => Output::Value {
            text: text(&data["text/plain"]),
        },
        _ => Output::Picture {
            // Jupyter breaks it into lines.
            png: text(&data["image/png"]).split_whitespace().collect(),
        },
    })
}

fn to_jupyter(output: &Output, count: Option<u32>) -> Value {
    match output {
        Output::Text { text } => json!({"output_type": "stream", "name": "stdout", "text": text}),
        Output::Value { text } => json!({
            "output_type": "execute_result",
            "execution_count": count,
            "metadata": {},
            "data": {"text/plain": text},
        }),
        Output::Error { text } => {
            let last = text.lines().last().unwrap_or_default();
            let (name, value) = last.split_once(": ").unwrap_or((last, ""));
            let traceback: Vec<_> = text.lines().collect();
            json!({
                "output_type": "error",
                "ename": name,
                "evalue": value,
                "traceback": traceback,
            })
        }
        Output::Picture { png } => json!({
            "output_type": "display_data",
            "metadata": {},
            "data": {"image/png": png},
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{PermissionsExt as _, symlink},
        process::Command,
        sync::mpsc,
        thread,
        time::Duration,
    };

    use super::*;

    #[test]
    fn what_other_programs_have_written_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.ipynb");
        let mut value = json!({
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {
                "kernelspec": {"name": "python3", "display_name": "Mine", "language": "python"},
                "title": "Fish",
            },
            "cells": [
                {"cell_type": "markdown", "id": "a", "metadata": {"tags": ["x"]},
                    "attachments": {"b.png": {"image/png": "AAAA"}}, "source": "# Fish"},
                {"cell_type": "code", "id": "cell-1", "metadata": {"collapsed": true},
                    "execution_count": 1, "source": "table", "outputs": [{
                        "output_type": "execute_result", "execution_count": 1, "metadata": {},
                        "data": {"text/html": "<table>", "text/plain": "a table"}}]},
            ],
        });
        fs::write(&path, value.to_string()).expect("a file");
        let read = || {
            let text = fs::read_to_string(&path).expect("a file");
            serde_json::from_str::<Value>(&text).expect("JSON")
        };
        let mut document = Document::read(&path).expect("it is read");
        document.write(&path).expect("it is written");
        assert_eq!(read(), value);
        // A new cell, and one that was run again.
        document.cells.push(Content::default());
        document.cells[1].kept = None;
        document.cells[1].outputs = vec![Output::Text { text: "b".into() }];
        document.write(&path).expect("it is written");
        value["cells"][1]["outputs"] =
            json!([{"output_type": "stream", "name": "stdout", "text": "b"}]);
        let cells = value["cells"].as_array_mut().expect("a list");
        cells.push(json!({"cell_type": "code", "id": "cell-2", "metadata": {},
            "execution_count": null, "source": "", "outputs": []}));
        assert_eq!(read(), value);
    }

    #[test]
    fn a_file_keeps_its_place_and_who_may_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (there, path) = (folder.path().join("there"), folder.path().join("a.ipynb"));
        fs::create_dir(&there).expect("a folder");
        let file = there.join("b.ipynb");
        fs::write(&file, "{}").expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o664)).expect("it is ours");
        symlink(&file, &path).expect("a link");
        let mut document = Document::read(&path).expect("it is read");
        document.cells.push(Content::default());
        document.write(&path).expect("it is written");
        assert!(fs::symlink_metadata(&path).expect("a link").is_symlink());
        let mode = fs::metadata(&file).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o664);
        assert_eq!(Document::read(&file).expect("it is read").cells.len(), 1);
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.ipynb");
        let png = "A".repeat(8 * 1024 * 1024);
        let large = |number: u32| Content {
            source: number.to_string(),
            outputs: vec![Output::Picture { png: png.clone() }],
            ..Content::default()
        };
        let document = Document {
            cells: (0..9).map(large).collect(),
            ..Document::default()
        };
        document.create(&path).expect("it is written");
        let again = Document::read(&path).expect("it is read");
        let sources: String = again.cells.iter().map(|cell| &*cell.source).collect();
        assert_eq!(sources, "012345678");
        // Nothing is replaced by a new one.
        let error = Document::default().create(&path).expect_err("it is there");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    /// The window and the pages show all of them, in the program's own thread.
    #[test]
    fn a_file_with_a_million_cells_is_no_notebook() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.ipynb");
        let with = |cells: usize| {
            let cells = vec!["{}"; cells].join(",");
            fs::write(&path, format!("{{\"cells\":[{cells}]}}")).expect("a file");
            Document::read(&path)
        };
        let error = with(1_000_000).expect_err("it is too large");
        assert_eq!(error.to_string(), "the notebook has too many cells");
        assert_eq!(with(MAX_CELLS).expect("it is read").cells.len(), MAX_CELLS);
    }

    /// The thread that opened it would wait for whoever writes.
    #[test]
    fn a_pipe_or_a_device_is_no_notebook() {
        let folder = tempfile::tempdir().expect("a folder");
        let (pipe, link) = (folder.path().join("a.ipynb"), folder.path().join("b.ipynb"));
        let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
        assert!(made.success());
        symlink("/dev/zero", &link).expect("a link");
        for path in [pipe, link] {
            let (send, receive) = mpsc::channel();
            thread::spawn(move || send.send(Document::read(&path).map_err(|error| error.kind())));
            let result = receive.recv_timeout(Duration::from_secs(10));
            let error = result
                .expect("it does not wait")
                .expect_err("it is refused");
            assert_eq!(error, io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_document_comes_back_from_its_file() {
        let document = Document {
            kernel: "python".into(),
            cells: vec![
                Content {
                    source: "1 / 0".into(),
                    outputs: vec![
                        Output::Text { text: "a\n".into() },
                        Output::Picture { png: "AAAA".into() },
                        Output::Value { text: "1".into() },
                        Output::Error {
                            text: "Traceback:\nZeroDivisionError: division by zero".into(),
                        },
                    ],
                    count: Some(3),
                    ..Content::default()
                },
                Content::default(),
            ],
            ..Document::default()
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.ipynb");
        document.create(&path).expect("it is written");
        let again = Document::read(&path).expect("it is read");
        assert_eq!(again.kernel, document.kernel);
        for (again, cell) in again.cells.iter().zip(&document.cells) {
            assert_eq!(again.source, cell.source);
            assert_eq!((&again.outputs, again.count), (&cell.outputs, cell.count));
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
