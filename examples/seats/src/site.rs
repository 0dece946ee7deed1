//! The page and the API.

use std::rc::Rc;

use entwined::{
    Handle,
    broadcast::{Broadcast, Received},
    deferred::Deferred,
};
use entwined_http::{Html, Json, Path, Request, Response, Router, State, StatusCode, layers, sse};
use entwined_rusqlite::ConnectionPool;

use crate::booking::{self, Flight, Hold, Refusal, Seat, Wish};

/// How many changes a page that was away for a moment can catch up with.
const KEPT: usize = 1_000;

/// A request is much shorter. Names of customers are kept.
const MAX_BODY: usize = 4 * 1024;

#[derive(Clone)]
struct Office {
    handle: Handle,
    database: ConnectionPool,
    /// Every change, for the pages that are open.
    changes: Rc<Broadcast<Seat>>,
}

impl Office {
    /// Tells of a change when it is made, also if the customer hangs up meanwhile: nobody knows
    /// then whether it was made.
    fn tell<T: 'static>(
        &self,
        change: Deferred<T, Refusal>,
        seat: impl FnOnce(&T) -> Seat + 'static,
    ) -> Deferred<T, Refusal> {
        let (made, told) = Deferred::new();
        let changes = self.changes.clone();
        self.handle.spawn(async move {
            let result = change.await;
            if let Ok(value) = &result {
                changes.send(seat(value));
            }
            made.settle(result);
        });
        told
    }
}

pub fn router(handle: &Handle, database: ConnectionPool) -> Router {
    let office = Office {
        handle: handle.clone(),
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
        .layer(layers::max_body_size(MAX_BODY))
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
    let held = booking::hold(&office.database, (flight, number), wish);
    let seat = move |_: &Hold| Seat {
        flight,
        number,
        state: booking::State::Held,
    };
    Ok((StatusCode::CREATED, Json(office.tell(held, seat).await?)))
}

async fn confirm(
    State(office): State<Office>,
    Path(token): Path<String>,
) -> Result<Json<Seat>, Refusal> {
    let sold = booking::confirm(&office.database, token);
    Ok(Json(office.tell(sold, Seat::clone).await?))
}

async fn cancel(
    State(office): State<Office>,
    Path(token): Path<String>,
) -> Result<StatusCode, Refusal> {
    let free = booking::cancel(&office.database, token);
    office.tell(free, Seat::clone).await?;
    Ok(StatusCode::NO_CONTENT)
}
