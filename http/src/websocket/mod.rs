//! WebSockets (RFC 6455) over HTTP/1.1 and HTTP/2 (RFC 8441), for servers and clients (feature
//! `websocket`).
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
//! Use a route for [any](crate::Router::any) method: HTTP/1.1 starts a WebSocket with GET, HTTP/2
//! with CONNECT.
//!
//! # Bounds
//!
//! See [`Config`]; every limit and timeout has a default. A task that awaits
//! [`send`](WebSocket::send) sends as fast as the peer reads. Other parts of the program send
//! through a [`Sender`], whose queue is bounded. If you send to many peers, its error tells you
//! which ones are slow, and you decide what to do with them. A silent peer gets a PING; if it does
//! not answer, the WebSocket ends. A peer that does not read ends it too. However small and many a
//! peer's frames are, a task gives way to others after a few dozen of them.
//!
//! A peer that violates the protocol is told why (RFC 6455, 7.4.1) with the code 1002, 1007 or
//! 1009, as soon as the first wrong byte arrives.

mod client;
mod config;
mod error;
mod frame;
mod message;
mod sender;
mod socket;
mod upgrade;
mod wire;

pub use client::{ConnectError, connect, connect_with};
pub use config::Config;
pub use error::{Closed, Error};
pub use message::Message;
pub use sender::{SendError, Sender};
pub use socket::WebSocket;
pub use upgrade::{upgrade, upgrade_with};
