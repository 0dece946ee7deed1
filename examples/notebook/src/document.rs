//! A notebook on disk: the format of Jupyter (nbformat 4), so that other programs can open it.

use std::{fs, io, io::Write as _, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A file may have this many bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Document {
    pub kernel: String,
    pub cells: Vec<Content>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Content {
    pub source: String,
    pub outputs: Vec<Output>,
    /// Which one it was when it ran.
    pub count: Option<u32>,
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
        let file = fs::File::open(path)?;
        if file.metadata()?.len() > MAX_FILE {
            return Err(io::Error::other("the notebook is too large"));
        }
        let value: Value = serde_json::from_reader(io::BufReader::new(file))?;
        Ok(Document::from_jupyter(&value))
    }

    /// Writes the file as a whole, or not at all.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer_pretty(io::BufWriter::new(&mut file), &self.to_jupyter())?;
        file.flush()?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        // The name is on the disk when the folder is.
        fs::File::open(folder)?.sync_all()
    }

    fn from_jupyter(value: &Value) -> Document {
        let language = value.pointer("/metadata/kernelspec/name");
        let cells = value["cells"].as_array().map_or(&[][..], Vec::as_slice);
        // A text between cells becomes a cell, which does not run by itself.
        let cells = cells.iter().map(|cell| {
            let outputs = cell["outputs"].as_array().map_or(&[][..], Vec::as_slice);
            Content {
                source: text(&cell["source"]),
                outputs: outputs.iter().filter_map(output).collect(),
                count: cell["execution_count"].as_u64().map(|count| count as u32),
            }
        });
        Document {
            kernel: match language.and_then(Value::as_str) {
                None | Some("python3") => "python".into(),
                Some("bash") => "shell".into(),
                Some(name) => name.to_owned(),
            },
            cells: cells.collect(),
        }
    }

    fn to_jupyter(&self) -> Value {
        let (name, language) = match self.kernel.as_str() {
            "python" => ("python3", "python"),
            "shell" => ("bash", "bash"),
            name => (name, name),
        };
        let cells: Vec<_> = self
            .cells
            .iter()
            .map(|cell| {
                let outputs = cell.outputs.iter();
                let outputs: Vec<_> = outputs
                    .map(|output| to_jupyter(output, cell.count))
                    .collect();
                json!({
                    "cell_type": "code",
                    "metadata": {},
                    "source": cell.source,
                    "execution_count": cell.count,
                    "outputs": outputs,
                })
            })
            .collect();
        json!({
            "nbformat": 4,
            "nbformat_minor": 4,
            "metadata": {
                "kernelspec": {"name": name, "display_name": name, "language": language},
                "language_info": {"name": language},
            },
            "cells": cells,
        })
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
    use super::*;

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
                },
                Content::default(),
            ],
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.ipynb");
        document.write(&path).expect("it is written");
        assert_eq!(Document::read(&path).expect("it is read"), document);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
