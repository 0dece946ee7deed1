//! People with a browser: a page, and a WebSocket of events as JSON.

use std::rc::Rc;

use entwined_http::{
    Error, Html, Request, Response, Router, State, layers,
    websocket::{self, Message, WebSocket},
};

use crate::hall::Hall;

/// A stranger can neither send much at once, nor make much pile up.
fn limits() -> websocket::Config {
    websocket::Config {
        max_message_size: 8 * 1024,
        max_queued: 64 * 1024,
        ..Default::default()
    }
}

pub fn router(hall: &Rc<Hall>) -> Router {
    Router::new()
        .get("/", || Html(include_str!("page.html")))
        .get("/style.css", || {
            ([("content-type", "text/css")], include_str!("style.css"))
        })
        .any("/talk", talk)
        .layer(layers::state(hall.clone()))
}

fn talk(State(hall): State<Rc<Hall>>, request: Request) -> Result<Response, Error> {
    websocket::upgrade_with(request, limits(), move |socket| converse(hall, socket))
}

async fn converse(hall: Rc<Hall>, mut socket: WebSocket) {
    let sender = socket.sender();
    let place = hall.enter(move |event| {
        let event = serde_json::to_string(&event).expect("an event is JSON");
        // Somebody who reads too slowly misses this; one who does not read at all is cut off.
        let _ = sender.send(event);
    });
    while let Some(message) = socket.next().await {
        let action = match &message {
            Ok(Message::Text(text)) => serde_json::from_str(text),
            Ok(Message::Binary(_)) => continue,
            Err(error) => {
                tracing::debug!(%error, "a browser has gone");
                return;
            }
        };
        match action {
            Ok(action) => place.act(action),
            Err(error) => {
                let _ = socket.close(1003, &error.to_string()).await;
                return;
            }
        }
    }
}
