//! The page and the API.

use std::rc::Rc;

use entwined::broadcast::{Broadcast, Received};
use entwined_http::{Html, Json, Path, Request, Response, Router, State, StatusCode, layers, sse};
use entwined_rusqlite::ConnectionPool;

use crate::booking::{self, Flight, Hold, Refusal, Seat, Wish};

/// How many changes a page that was away for a moment can catch up with.
const KEPT: usize = 1_000;

#[derive(Clone)]
struct Office {
    database: ConnectionPool,
    /// Every change, for the pages that are open.
    changes: Rc<Broadcast<Seat>>,
}

pub fn router(database: ConnectionPool) -> Router {
    let office = Office {
        database,
        changes: Rc::new(Broadcast::new(KEPT)),
    };
    Router::new()
        .get("/", || Html(include_str!("page.html")))
        .get("/style.css", || {
            ([("content-type", "text/css")], include_str!("style.css"))
        })
        .get("/flights", flights)
        .get("/flights/{flight}", seats)
        .get("/changes", changes)
        .post("/flights/{flight}/{seat}/hold", hold)
        .post("/holds/{token}/confirm", confirm)
        .delete("/holds/{token}", cancel)
        .layer(layers::state(office))
}

async fn flights(State(office): State<Office>) -> Result<Json<Vec<Flight>>, Refusal> {
    Ok(Json(booking::flights(&office.database).await?))
}

async fn seats(
    State(office): State<Office>,
    Path(flight): Path<u32>,
) -> Result<Json<Vec<Seat>>, Refusal> {
    Ok(Json(booking::seats(&office.database, flight).await?))
}

/// The changes since the page was last connected, and those to come.
fn changes(State(office): State<Office>, request: Request) -> Response {
    sse::follow(&request, &office.changes, |received| match received {
        Received::Message { message, .. } => {
            let seat = serde_json::to_string(&*message).expect("a seat is JSON");
            Some(sse::Event::data(&seat))
        }
        Received::Missed(_) => Some(sse::Event::data("").name("reload")),
    })
}

async fn hold(
    State(office): State<Office>,
    Path((flight, number)): Path<(u32, u32)>,
    Json(wish): Json<Wish>,
) -> Result<(StatusCode, Json<Hold>), Refusal> {
    let held = booking::hold(&office.database, (flight, number), wish).await?;
    office.changes.send(Seat {
        flight,
        number,
        state: booking::State::Held,
    });
    Ok((StatusCode::CREATED, Json(held)))
}

async fn confirm(
    State(office): State<Office>,
    Path(token): Path<String>,
) -> Result<Json<Seat>, Refusal> {
    let seat = booking::confirm(&office.database, token).await?;
    office.changes.send(seat.clone());
    Ok(Json(seat))
}

async fn cancel(
    State(office): State<Office>,
    Path(token): Path<String>,
) -> Result<StatusCode, Refusal> {
    let seat = booking::cancel(&office.database, token).await?;
    office.changes.send(seat);
    Ok(StatusCode::NO_CONTENT)
}
