//! The page and the API.

use std::rc::Rc;

use entwined::broadcast::Received;
use entwined_http::{
    Body, Bytes, Error, Files, HeaderValue, Html, IntoResponse, Json, Next, Path, Request,
    Response, Router, State, StatusCode, header, layers, sse,
};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    master::Master,
    store::{self, Build},
};

/// The longest script: Linux gives a program 128 KiB as one argument, and a page shows a hundred of
/// them.
const MAX_BODY: usize = 64 * 1024;

/// A build runs a script with the rights of a worker, so other people's pages must not ask for one.
pub fn router(master: &Rc<Master>) -> Router {
    Router::new()
        .get("/", || Html(include_str!("page.html")))
        .get("/style.css", || {
            ([("content-type", "text/css")], include_str!("style.css"))
        })
        .get("/builds", list)
        .post("/builds", add)
        .get("/builds/{id}", show)
        .post("/builds/{id}/cancel", cancel)
        .get("/builds/{id}/log", log)
        .nest("/artifacts", artifacts(master))
        .get("/changes", changes)
        .layer(layers::state(master.clone()))
        .layer(layers::max_body_size(MAX_BODY))
        .layer(layers::local_only())
}

/// What builds have left. A page among it is not a page of this server, which may ask for builds.
fn artifacts(master: &Master) -> Router {
    let apart = |request: Request, next: Next| async move {
        let mut response = next.run(request).await;
        let headers = response.headers_mut();
        let sandbox =
            HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox");
        headers.insert(header::CONTENT_SECURITY_POLICY, sandbox);
        let exactly = HeaderValue::from_static("nosniff");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, exactly);
        response
    };
    Router::new()
        .fallback(Files::new(master.files.artifacts()).listing())
        .layer(apart)
}

#[derive(Serialize)]
struct List {
    builds: Vec<Build>,
    workers: Vec<String>,
}

#[derive(Deserialize)]
struct New {
    repository: Option<String>,
    script: String,
}

async fn list(State(master): State<Rc<Master>>) -> Result<Json<List>, Error> {
    let builds = master.store.newest().await?;
    let mut workers: Vec<_> = master.workers.borrow().iter().cloned().collect();
    workers.sort_unstable();
    Ok(Json(List { builds, workers }))
}

async fn add(
    State(master): State<Rc<Master>>,
    Json(new): Json<New>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let repository = new.repository.filter(|text| !text.is_empty());
    let texts = [Some(&new.script), repository.as_ref()];
    if texts.into_iter().flatten().any(|text| text.contains('\0')) {
        return Err(Error::bad_request("no program takes a NUL"));
    }
    let id = master.add(repository, new.script).await?;
    Ok((StatusCode::CREATED, Json(json!({ "id": id }))))
}

async fn find(master: &Master, id: i64) -> Result<Build, Error> {
    let found = master.store.find(id).await?;
    found.ok_or_else(|| Error::not_found("there is no such build"))
}

async fn show(State(master): State<Rc<Master>>, Path(id): Path<i64>) -> Result<Json<Build>, Error> {
    Ok(Json(find(&master, id).await?))
}

async fn cancel(
    State(master): State<Rc<Master>>,
    Path(id): Path<i64>,
) -> Result<Json<Build>, Error> {
    master.cancel(id).await?;
    Ok(Json(find(&master, id).await?))
}

/// A build's log as plain text: what there is, and then what comes, to the build's end.
async fn log(State(master): State<Rc<Master>>, Path(id): Path<i64>) -> Result<Response, Error> {
    find(&master, id).await?;
    let headers = [("content-type", "text/plain; charset=utf-8")];
    Ok((headers, Body::live(follow(master, id))).into_response())
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Lost => Error::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            error => Error::internal(error),
        }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn follow(master: Rc<Master>, id: i64) -> impl Stream<Item = Result<Bytes, BoxError>> {
    let changes = master.changes.subscribe();
    stream::try_unfold((changes, 0), move |(mut changes, at)| {
        let master = master.clone();
        async move {
            loop {
                // In this order: what is written before the end is not missed.
                let ended = master
                    .store
                    .find(id)
                    .await?
                    .is_none_or(|build| build.has_ended());
                let piece = master.files.read(id, at).await?;
                let next = at + piece.len() as u64;
                if !piece.is_empty() {
                    return Ok(Some((piece.into(), (changes, next))));
                }
                if ended || changes.next().await.is_none() {
                    return Ok(None);
                }
            }
        }
    })
}

fn changes(State(master): State<Rc<Master>>, request: Request) -> Response {
    sse::follow(&request, &master.changes, |received| match received {
        Received::Message { message, .. } => Some(sse::Event::data(&message.to_string())),
        Received::Missed(_) => Some(sse::Event::data("0")),
    })
}
