//! A WebSocket: answers each message in capitals, and sends one of its own each second.
//!
//! ```text
//! cargo run -p entwined-http --features websocket --example websocket
//! python3 -m websockets ws://ADDRESS/
//! ```

use std::{error::Error, time::Duration};

use entwined::{Handle, Standalone, transport::tcp};
use entwined_http::websocket::{self, Message, WebSocket};
use entwined_http::{self as http, Request, Router};

/// How large a message may be, and how long a peer may be silent: `websocket::Config`.
async fn talk(mut socket: WebSocket, handle: Handle) {
    let sender = socket.sender();
    let clock = handle.call_every(Duration::from_secs(1), move |_missed| {
        // Never waits. An error means that the peer is too slow, or gone.
        let _ = sender.send("a second has passed");
    });
    while let Some(Ok(message)) = socket.next().await {
        let answer = match message {
            Message::Text(text) => text.to_uppercase(),
            Message::Binary(bytes) => format!("{} bytes", bytes.len()),
        };
        // Waits as long as the peer does not read.
        if socket.send(answer).await.is_err() {
            break;
        }
    }
    clock.cancel();
}

fn main() -> Result<(), Box<dyn Error>> {
    let reactor = Standalone::new()?;
    let handle = reactor.handle();
    let own = handle.clone();
    // Pages of other sites get 403.
    let router = Router::new().any("/", move |request: Request| {
        let own = own.clone();
        websocket::upgrade(request, |socket| talk(socket, own))
    });
    let server = http::serve(tcp::listen(&handle, "127.0.0.1:0")?, router);
    println!("listening on {}", server.local_address());
    Ok(reactor.run()?)
}
