//! The same by HTTP, for scripts and other programs: who has the token may ask for downloads.

use std::rc::Rc;

use entwined_http::{Error, Json, Path, Router, State, StatusCode, layers};
use serde::Serialize;

use crate::{
    download::{self, Download, Downloads},
    name,
};

#[derive(Serialize)]
struct Entry {
    id: u32,
    url: String,
    name: String,
    received: u64,
    total: Option<u64>,
    #[serde(flatten)]
    state: download::State,
}

impl From<&Rc<Download>> for Entry {
    fn from(download: &Rc<Download>) -> Self {
        Entry {
            id: download.id,
            url: name::without_password(&download.url),
            name: download.name(),
            received: download.received(),
            total: download.total(),
            state: download.state(),
        }
    }
}

type All = State<Rc<Downloads>>;

pub fn router(downloads: Rc<Downloads>) -> Router {
    Router::new()
        .get("/downloads", |State(all): All| {
            Json(all.all().iter().map(Entry::from).collect::<Vec<_>>())
        })
        .post("/downloads", add)
        .get("/downloads/{id}", |State(all): All, Path(id): Path<u32>| {
            Ok::<_, Error>(Json(Entry::from(&find(&all, id)?)))
        })
        .delete("/downloads/{id}", |all: All, id: Path<u32>| {
            act(&all, &id, Downloads::remove)
        })
        .post("/downloads/{id}/pause", |all: All, id: Path<u32>| {
            act(&all, &id, |all, download| all.pause(download))
        })
        .post("/downloads/{id}/resume", |all: All, id: Path<u32>| {
            act(&all, &id, Downloads::resume)
        })
        .layer(layers::state(downloads))
}

async fn add(State(all): All, url: String) -> Result<(StatusCode, Json<Entry>), Error> {
    let download = all.add(&url).map_err(Error::bad_request)?;
    Ok((StatusCode::CREATED, Json(Entry::from(&download))))
}

fn act(
    State(all): &All,
    Path(id): &Path<u32>,
    act: fn(&Rc<Downloads>, &Rc<Download>),
) -> Result<(), Error> {
    act(all, &find(all, *id)?);
    Ok(())
}

fn find(all: &Downloads, id: u32) -> Result<Rc<Download>, Error> {
    all.find(id)
        .ok_or_else(|| Error::not_found("there is no such download"))
}
