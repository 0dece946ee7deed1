//! The files that pages have uploaded. They are in the app's own folder, which is deleted when the
//! app ends.

use std::{fs, io, rc::Rc};

use entwined_http::{
    Error, Files, HeaderMap, Multipart, Next, Request, Response, Router, StatusCode,
    header::{CONTENT_DISPOSITION, CONTENT_LENGTH, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};
use tempfile::TempDir;

use crate::Model;

/// The maximum size in bytes of the files in one form.
const MAX_FORM: usize = 256 * 1024 * 1024;

/// The maximum number of files.
const MAX_FILES: usize = 100;

/// The maximum number of characters in a file's name, and of bytes: most file systems have room for
/// 255, and a number may come behind it.
const MAX_NAME: usize = 80;
const MAX_NAME_BYTES: usize = 240;

/// Where the files are. Cheap to clone.
#[derive(Clone)]
pub struct Shelf {
    folder: Rc<TempDir>,
    model: Model,
}

impl Shelf {
    /// Creates an empty shelf.
    ///
    /// # Errors
    /// Returns an error if no temporary folder can be created.
    pub fn new(model: &Model) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("entwined-").tempdir()?;
        Ok(Shelf {
            folder: Rc::new(folder),
            model: model.clone(),
        })
    }

    /// `POST /`: a form with files. `GET /NAME`: one of them. `DELETE /NAME` deletes it.
    pub fn router(&self) -> Router {
        let (adding, removing) = (self.clone(), self.clone());
        Router::new()
            .post("/", move |headers: HeaderMap, form: Multipart| {
                adding.clone().add(headers, form)
            })
            .delete("/{name}", move |request: Request| {
                removing.clone().remove(request)
            })
            .fallback(Files::new(self.folder.path()))
            .layer(as_a_download)
    }

    async fn add(self, headers: HeaderMap, form: Multipart) -> Result<String, Error> {
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok())
            .unwrap_or(0);
        let mut form = form.max_size(MAX_FORM);
        let mut names = Vec::new();
        while let Some(mut part) = form.next().await? {
            let Some(name) = part.file_name().map(plain) else {
                continue;
            };
            if self.model.last_file().0 + self.model.uploads().len() >= MAX_FILES {
                let message = format!("there are already {MAX_FILES} files: delete some first");
                return Err(Error::new(StatusCode::INSUFFICIENT_STORAGE, message));
            }
            let upload = self.model.begin_upload(&name, length);
            let size = part
                .save_with(self.folder.path().join(upload.name()), |done| {
                    upload.progress(done)
                })
                .await?;
            names.push(upload.done(size));
        }
        Ok(names.join("\n"))
    }

    async fn remove(self, request: Request) -> Result<(), Error> {
        let name = request.param("name").unwrap_or("");
        if !self.model.remove_file(name) {
            return Err(Error::not_found("there is no such file"));
        }
        let path = self.folder.path().join(name);
        let gone = request
            .handle()
            .defer_to_thread(move |_| fs::remove_file(path).map_err(Error::internal));
        gone.await
    }
}

/// Serves uploaded files as downloads, so that a browser never shows one as a page of this server.
async fn as_a_download(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Returns a name that is safe in any folder and in any URL.
fn plain(name: &str) -> String {
    let keeps = |c: &char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ' | '(' | ')');
    let last = name.rsplit(['/', '\\']).next().unwrap_or("");
    let mut kept: String = last.chars().filter(keeps).take(MAX_NAME).collect();
    while kept.len() > MAX_NAME_BYTES {
        kept.pop();
    }
    let kept = kept.trim_matches(['.', ' ']);
    if kept.is_empty() {
        "file".to_owned()
    } else {
        kept.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_its_folder() {
        for (said, kept) in [
            ("Photo 1.jpg", "Photo 1.jpg"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\me\\a.txt", "a.txt"),
            ("..", "file"),
            ("", "file"),
            (".hidden", "hidden"),
            ("Größe <b>.txt", "Größe b.txt"),
            ("a\0b\n", "ab"),
        ] {
            assert_eq!(plain(said), kept, "{said:?}");
        }
        assert_eq!(plain(&"ü".repeat(500)).chars().count(), MAX_NAME);
        // A system counts bytes, 255 of them; a number may come behind it.
        for letter in ["ü", "文", "𠀀"] {
            assert!(plain(&letter.repeat(500)).len() <= 240, "{letter}");
        }
    }
}
