//! WebSockets (RFC 6455), over HTTP/1.1 and HTTP/2 (RFC 8441), for servers and clients (feature
//! `websocket`). The protocol is tungstenite's.
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
//! A route for them is one for [any](super::Router::any) method: HTTP/1.1 begins them by GET,
//! HTTP/2 by CONNECT.
//!
//! # Bounds
//!
//! See [`Config`]. Who awaits [`send`](WebSocket::send) goes as fast as the peer reads. What others
//! of the program have to say goes through a [`Sender`], whose queue has a limit; who sends to many
//! decides by its answer what becomes of one that is slow. A peer that is silent is asked whether
//! it is there (PING), and given up if it does not answer.

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

/// What one WebSocket allows.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Bytes of a message that is received; a longer one ends the connection with the code 1009. 1
    /// MiB. A message is checked and copied as a whole: echoing one of 16 MiB was seen to hold the
    /// thread for 8 to 46 ms, which a window shows.
    pub message_limit: usize,
    /// Bytes that wait to be sent, beyond which a [`Sender`] refuses. 1 MiB.
    pub queue_limit: usize,
    /// After so much silence the peer is asked whether it is there; after as much again it is given
    /// up. 30 s.
    pub ping_interval: Duration,
    /// Subprotocols, the best first; of a server those that it speaks, of a client those that it
    /// would like to.
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

/// Answers a request for a WebSocket, and runs `talk` over it as a task.
///
/// # Errors
/// 426 when the client asks for none, or for another version than 13; 400 when it does so wrongly.
pub fn upgrade<F, Fut>(request: Request, talk: F) -> Result<Response, super::Error>
where
    F: FnOnce(WebSocket) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    upgrade_with(request, Config::default(), talk)
}

/// The same with bounds and subprotocols of your own.
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
        handle.spawn(talk(socket)).detach();
    })?;
    if version.as_deref() != Some("13") {
        return Err(super::Error::new(
            StatusCode::UPGRADE_REQUIRED,
            "the version of WebSockets is 13",
        ));
    }
    // HTTP/2 has no key (RFC 8441, 5).
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let key = key.ok_or_else(|| {
            super::Error::bad_request("a WebSocket begins with Sec-WebSocket-Key")
        })?;
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
