//! The pages, and the WebSocket of a page.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    error::Error as StdError,
    fs, io,
    path::{Path as FilePath, PathBuf},
    rc::Rc,
};

#[cfg(feature = "window")]
use entwined::broadcast::Subscriber;
use entwined::{
    Handle,
    broadcast::{Broadcast, Received},
};
use entwined_http::{
    Error, Html, IntoResponse, Json, Path, Request, Response, Router, State, StatusCode, layers,
    websocket::{self, Message},
};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::{
    document::Document,
    kernel::Kinds,
    notebook::{Notebook, Wish},
};

/// The most notebooks that are open at a time, each with a kernel.
const MAX_OPEN: usize = 64;
/// A cell may have this many bytes, in JSON.
const MAX_MESSAGE: usize = 1024 * 1024;

/// All notebooks.
#[derive(Clone)]
pub struct Shelf(Rc<Inner>);

struct Inner {
    handle: Handle,
    /// Sent when a notebook was made.
    made: Broadcast<()>,
    folder: PathBuf,
    kinds: Kinds,
    open: RefCell<BTreeMap<String, Rc<Notebook>>>,
}

/// A notebook in the list.
#[derive(Serialize)]
struct Entry {
    name: String,
    /// The process of its kernel, if it has one.
    kernel: Option<u32>,
}

#[derive(Serialize)]
struct List {
    notebooks: Vec<Entry>,
    kinds: Vec<String>,
}

#[derive(Deserialize, Serialize)]
pub struct New {
    pub name: String,
    pub kernel: String,
}

impl Shelf {
    pub fn new(handle: &Handle, folder: PathBuf, kinds: Kinds) -> Shelf {
        Shelf(Rc::new(Inner {
            handle: handle.clone(),
            made: Broadcast::new(1),
            folder,
            kinds,
            open: RefCell::default(),
        }))
    }

    /// Hears when a notebook is made.
    #[cfg(feature = "window")]
    pub fn made(&self) -> Subscriber<()> {
        self.0.made.subscribe()
    }

    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.0.kinds.names()
    }

    fn path(&self, name: &str) -> Result<PathBuf, Error> {
        match is_allowed(name) {
            true => Ok(self.0.folder.join(format!("{name}.ipynb"))),
            false => Err(Error::bad_request(
                "a name has letters, digits, spaces and \"._-\" only",
            )),
        }
    }

    pub async fn open(&self, name: &str) -> Result<Rc<Notebook>, Error> {
        if let Some(notebook) = self.0.open.borrow().get(name) {
            return Ok(notebook.clone());
        }
        let path = self.path(name)?;
        let file = path.clone();
        let read = self
            .0
            .handle
            .defer_to_thread(move |_| Document::read(&file));
        let document: io::Result<Document> = read.await;
        let document = document.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::not_found("there is no such notebook"),
            io::ErrorKind::InvalidData => Error::bad_request("the file is not a notebook"),
            _ => Error::internal(error),
        })?;
        if !self.0.kinds.has(&document.kernel) {
            return Err(Error::bad_request(format!(
                "there is no kernel {:?}; --kernel adds one",
                document.kernel
            )));
        }
        let mut open = self.0.open.borrow_mut();
        // While the file was read, another page may have opened it.
        if !open.contains_key(name) {
            if open.len() >= MAX_OPEN {
                // Those that nobody looks at, that run nothing and are on the disk are not needed.
                open.retain(|_, notebook| {
                    notebook.kernel_id().is_some()
                        || notebook.news.subscribers() > 0
                        || notebook.is_to_be_saved()
                });
            }
            if open.len() >= MAX_OPEN {
                let text = "too many notebooks are open; close the kernels of some";
                return Err(Error::new(StatusCode::SERVICE_UNAVAILABLE, text));
            }
            let notebook = Notebook::new(&self.0.handle, &self.0.kinds, path, document);
            open.insert(name.to_owned(), notebook);
        }
        Ok(open[name].clone())
    }

    pub async fn names(&self) -> Result<Vec<String>, Error> {
        let folder = self.0.folder.clone();
        let names = self.0.handle.defer_to_thread(move |_| names(&folder));
        let names: io::Result<Vec<String>> = names.await;
        names.map_err(Error::internal)
    }

    pub async fn create(&self, new: &New) -> Result<(), Error> {
        let path = self.path(&new.name)?;
        if !self.0.kinds.has(&new.kernel) {
            return Err(Error::bad_request("there is no such kernel"));
        }
        let document = Document {
            kernel: new.kernel.clone(),
            ..Document::default()
        };
        // Another page may make one of the same name at the same time.
        let written = self
            .0
            .handle
            .defer_to_thread(move |_| document.create(&path));
        let written: io::Result<()> = written.await;
        written.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Error::new(StatusCode::CONFLICT, "there is a notebook of this name")
            }
            _ => Error::internal(error),
        })?;
        self.0.made.send(());
        Ok(())
    }

    pub async fn save_all(&self) -> Result<(), Box<dyn StdError>> {
        let open: Vec<_> = self.0.open.borrow().values().cloned().collect();
        for notebook in open {
            notebook.save().await?;
        }
        Ok(())
    }
}

pub fn router(shelf: Shelf) -> Router {
    Router::new()
        .get("/", || Html(include_str!("list.html")))
        .get("/style.css", || {
            ([("content-type", "text/css")], include_str!("style.css"))
        })
        .get("/notebooks", list)
        .post("/notebooks", create)
        .get("/n/{name}", page)
        .any("/n/{name}/socket", socket)
        .layer(layers::state(shelf))
}

async fn list(State(shelf): State<Shelf>) -> Result<Json<List>, Error> {
    let names = shelf.names().await?;
    let open = shelf.0.open.borrow();
    let entry = |name: String| Entry {
        kernel: open.get(&name).and_then(|notebook| notebook.kernel_id()),
        name,
    };
    Ok(Json(List {
        notebooks: names.into_iter().map(entry).collect(),
        kinds: shelf.kinds().map(str::to_owned).collect(),
    }))
}

fn names(folder: &FilePath) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        names.extend(
            name.to_str()
                .and_then(|name| name.strip_suffix(".ipynb"))
                .filter(|name| is_allowed(name))
                .map(str::to_owned),
        );
    }
    names.sort_unstable();
    Ok(names)
}

fn is_allowed(name: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || " ._-".contains(c);
    !name.is_empty()
        && !name.starts_with(['.', ' '])
        && name.len() <= 100
        && name.chars().all(allowed)
}

async fn create(
    State(shelf): State<Shelf>,
    Json(new): Json<New>,
) -> Result<(StatusCode, Json<New>), Error> {
    shelf.create(&new).await?;
    Ok((StatusCode::CREATED, Json(new)))
}

async fn page(
    State(shelf): State<Shelf>,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, Error> {
    shelf.open(&name).await?;
    Ok(Html(include_str!("page.html")))
}

async fn socket(State(shelf): State<Shelf>, request: Request) -> Result<Response, Error> {
    let notebook = shelf
        .open(request.param("name").unwrap_or_default())
        .await?;
    let limits = websocket::Config {
        max_message_size: MAX_MESSAGE,
        ..websocket::Config::default()
    };
    websocket::upgrade_with(request, limits, move |socket| show(notebook, socket))
}

/// Shows a notebook to a page: all of it first, and then what happens.
async fn show(notebook: Rc<Notebook>, mut socket: websocket::WebSocket) {
    // The newest that was in the whole already.
    let seen = Rc::new(Cell::new(0));
    let nothing_yet = stream::iter([Received::Missed(0)]);
    let news = nothing_yet.chain(notebook.news.subscribe());
    let shown = notebook.clone();
    let news = news.filter_map(move |received| {
        let (shown, seen) = (shown.clone(), seen.clone());
        async move {
            match received {
                Received::Message { id, .. } if id <= seen.get() => None,
                Received::Message { message, .. } => Some(Message::Text(message.text.clone())),
                // The page reads more slowly than the kernel writes: it gets what there is now.
                Received::Missed(_) => {
                    seen.set(shown.news.newest());
                    match shown.whole().await {
                        Ok(whole) => Some(Message::Text(whole)),
                        Err(error) => {
                            tracing::error!(%error, "a page cannot be shown a notebook");
                            None
                        }
                    }
                }
            }
        }
    });
    let acted = notebook.clone();
    let result = socket
        .talk(news, move |message| {
            let Message::Text(text) = message else { return };
            match serde_json::from_str::<Wish>(&text) {
                Ok(wish) => acted.act(wish),
                Err(error) => tracing::warn!(%error, "a page asks for what is not there"),
            }
        })
        .await;
    if let Err(error) = result {
        tracing::debug!(%error, "a page has gone");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_the_names_that_can_be_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a.ipynb", "b (1).ipynb", ".c.ipynb", ".ipynb", "d.txt"] {
            fs::write(folder.path().join(name), "").expect("a file");
        }
        assert_eq!(names(folder.path()).expect("a list"), ["a"]);
    }
}
