//! axum on tokio's current-thread runtime.

use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use peers::{Outcome, address_from_command_line, announce, files, records};
use tokio::net::TcpListener;
use tower_http::services::ServeFile;

fn main() -> Outcome {
    let address = address_from_command_line()?;
    let file = files()?.join("file.bin");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        announce(listener.local_addr()?);
        // Errors from a peer that resets its connection do not matter in a benchmark.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let router = Router::new()
            .route("/hello", get(|| async { "hello, world" }))
            .route("/json", get(|| async { Json(records()) }))
            .route_service("/file.bin", ServeFile::new(file))
            .route("/ws", get(upgrade));
        axum::serve(listener, router).await?;
        Ok(())
    })
}

async fn upgrade(request: WebSocketUpgrade) -> Response {
    request.on_upgrade(echo)
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            break;
        }
    }
}
