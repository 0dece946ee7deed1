//! WebSockets (RFC 6455) over HTTP/1.1 and HTTP/2 (RFC 8441), for servers and clients (feature
//! `websocket`). The protocol is implemented by tungstenite.
//!
//! ```
//! use entwined_http::{Error, Request, Router, websocket::{self, Message}};
//!
//! async fn echo(request: Request) -> Result<entwined_http::Response, Error> {
//!     websocket::upgrade(request, |mut socket| async move {
//!         while let Some(Ok(message)) = socket.next().await {
//!             if socket.send(message).await.is_err() {
//!                 break;
//!             }
//!         }
//!     })
//! }
//!
//! let router = Router::new().any("/echo", echo);
//! ```
//!
//! Use a route for [any](super::Router::any) method: HTTP/1.1 starts a WebSocket with GET, HTTP/2
//! with CONNECT.
//!
//! # Bounds
//!
//! See [`Config`]. A task that awaits [`send`](WebSocket::send) sends as fast as the peer reads.
//! Other parts of the program send through a [`Sender`], whose queue is bounded. If you send to
//! many peers, its error tells you which ones are slow, and you decide what to do with them. A
//! silent peer gets a PING; if it does not answer, the WebSocket ends.

mod client;
mod socket;

pub use client::{ConnectError, connect, connect_with};
pub use socket::{Closed, Error, Full, Message, Sender, WebSocket};
use std::{future::Future, time::Duration};

use super::{
    HeaderValue, Request, Response, StatusCode,
    header::{
        SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    },
};

/// The limits of one WebSocket.
#[derive(Clone, Debug)]
pub struct Config {
    /// The most bytes in a received message. A longer one closes the connection with the code 1009.
    /// The default is 1 MiB. A message is checked and copied as a whole: in a measurement, echoing
    /// one of 16 MiB held the thread for 8 to 46 ms, which is visible in a window.
    pub message_limit: usize,
    /// The most bytes that may wait to be sent. Beyond them, a [`Sender`] refuses messages. The
    /// default is 1 MiB.
    pub queue_limit: usize,
    /// After this much silence the peer gets a PING. If it stays silent for as long again, the
    /// WebSocket ends. The default is 30 s.
    pub ping_interval: Duration,
    /// Subprotocols, best first: those that a server speaks, or those that a client asks for.
    pub protocols: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            message_limit: 1024 * 1024,
            queue_limit: 1024 * 1024,
            ping_interval: Duration::from_secs(30),
            protocols: Vec::new(),
        }
    }
}

/// Accepts a WebSocket, and runs `talk` on it as a task.
///
/// # Errors
/// 426 if the request does not ask for a WebSocket, or asks for a version other than 13. 400 if it
/// is malformed.
pub fn upgrade<F, Fut>(request: Request, talk: F) -> Result<Response, super::Error>
where
    F: FnOnce(WebSocket) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    upgrade_with(request, Config::default(), talk)
}

/// Like [`upgrade`], with your own limits and subprotocols.
///
/// # Errors
/// As [`upgrade`].
pub fn upgrade_with<F, Fut>(
    request: Request,
    config: Config,
    talk: F,
) -> Result<Response, super::Error>
where
    F: FnOnce(WebSocket) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let handle = request.handle().clone();
    let text = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let key = text(SEC_WEBSOCKET_KEY).map(str::to_owned);
    let version = text(SEC_WEBSOCKET_VERSION).map(str::to_owned);
    let wanted: Vec<_> = text(SEC_WEBSOCKET_PROTOCOL)
        .unwrap_or("")
        .split(',')
        .map(|name| name.trim().to_owned())
        .collect();
    let protocol = config
        .protocols
        .iter()
        .find(|ours| wanted.contains(ours))
        .cloned();
    let chosen = protocol.clone();
    let mut response = request.upgrade("websocket", move |stream| {
        let socket = WebSocket::new(
            &handle,
            stream,
            tungstenite::protocol::Role::Server,
            &config,
            chosen,
        );
        handle.spawn(talk(socket));
    })?;
    if version.as_deref() != Some("13") {
        return Err(super::Error::new(
            StatusCode::UPGRADE_REQUIRED,
            "only version 13 of the WebSocket protocol is supported",
        ));
    }
    // HTTP/2 has no key (RFC 8441, 5).
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let key = key
            .ok_or_else(|| super::Error::bad_request("the header Sec-WebSocket-Key is missing"))?;
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        if let Ok(accept) = HeaderValue::from_str(&accept) {
            response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
    }
    if let Some(protocol) = protocol.and_then(|protocol| HeaderValue::from_str(&protocol).ok()) {
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(response)
}
