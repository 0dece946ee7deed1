//! An HTTP/1.1 and HTTP/2 server and client whose code runs in the GUI program's own thread.
//!
//! Handlers are plain functions, async or not. They run on the thread of the
//! [reactor](entwined::reactor), so they need not be `Send`: a handler may hold an `Rc`, a widget,
//! anything. There are no locks, and no second runtime.
//!
//! ```no_run
//! use entwined::{Standalone, transport::tcp};
//! use entwined_http::{self as http, Path, Router};
//!
//! async fn hello(Path(name): Path<String>) -> String {
//!     format!("hello, {name}")
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let reactor = Standalone::new()?;
//!     let listener = tcp::listen(&reactor.handle(), "127.0.0.1:8080")?;
//!     let _server = http::serve(listener, Router::new().get("/hello/{name}", hello));
//!     Ok(reactor.run()?)
//! }
//! ```
//!
//! In a GUI program, take the handle of the reactor on the toolkit's loop instead; the rest is the
//! same. [`State`] gives the program's own values to handlers.
//!
//! The server is hyper's, on top of the reactor's streams. Everything a peer can use up has a
//! limit: see [`Config`]. When the reactor stops, the server stops accepting, closes idle
//! connections, and lets requests in flight finish. It drops what is left after
//! [`Config::shutdown_grace`].
//!
//! # Where to find what
//!
//! | items | for |
//! |---|---|
//! | [`serve`], [`serve_with`], [`Config`], [`Server`] | starting a server, and its limits |
//! | [`Router`], [`Handler`] | which function answers |
//! | [`Path`], [`Query`], [`Json`], [`Form`], [`State`], [`Request`] | arguments of handlers |
//! | [`IntoResponse`], [`Response`], [`Html`], [`Redirect`], [`Error`] | results of handlers |
//! | [`Preconditions`], [`ETag`] | conditional requests |
//! | [`layers`], [`Layer`], [`Next`] | code around handlers: logs, sessions, authentication, CORS |
//! | [`offload()`] | handlers that block, on a thread |
//! | [`sse`] | server-sent events |
//! | [`handler`] | the traits behind handlers, for types of your own |
#![cfg_attr(feature = "client", doc = "| [`client`] | the client |")]
#![cfg_attr(feature = "websocket", doc = "| [`websocket`] | WebSockets |")]
#![cfg_attr(feature = "files", doc = "| [`Files`] | static files |")]
#![cfg_attr(feature = "multipart", doc = "| [`Multipart`] | forms with files |")]
#![cfg_attr(
    feature = "monitor",
    doc = "| [`monitor()`] | a page that shows the reactor |"
)]
#![cfg_attr(
    feature = "tower",
    doc = "| [`tower()`] | services of the tower family |"
)]
//!
//! # Features
//!
//! Without a feature: the server of HTTP/1.1, the router, typed handlers, JSON, layers and
//! server-sent events.
//!
//! | feature | what it adds |
//! |---|---|
//! | `client` | the client, which speaks HTTP/2 too and decodes compressed responses |
//! | `compression` | compressed responses |
//! | `files` | folders of files, and files inside the program |
//! | `http2` | HTTP/2, for the server and the client |
//! | `monitor` | a site that shows what the reactor does, and figures for Prometheus |
//! | `multipart` | forms with files |
//! | `sessions` | signed cookies |
//! | `tls` | TLS for the client, and HTTP/2 over TLS for the server |
//! | `tower` | services of the tower family, such as an axum router |
//! | `websocket` | WebSockets, for the server and the client |

#![warn(missing_debug_implementations)]

mod answer;
mod aside;
mod authority;
mod body;
mod check;
#[cfg(feature = "client")]
pub mod client;
#[cfg(any(feature = "compression", feature = "files"))]
mod coding;
mod config;
mod connection;
#[cfg(any(feature = "client", feature = "websocket"))]
mod credentials;
mod error;
mod exchange;
mod extract;
#[cfg(feature = "files")]
mod files;
pub mod handler;
mod headers;
mod held;
#[cfg(feature = "http2")]
mod http2;
mod io;
mod json;
mod labels;
pub mod layers;
mod log;
#[cfg(feature = "monitor")]
mod monitor;
#[cfg(feature = "multipart")]
mod multipart;
mod offload;
mod origin;
mod pace;
mod path;
mod percent;
mod precondition;
mod rate;
mod redirect;
mod request;
mod response;
mod router;
mod server;
mod service;
pub mod sse;
mod state;
mod sys;
mod times;
#[cfg(feature = "tower")]
mod tower;
mod unread;
mod upgrade;
#[cfg(feature = "websocket")]
pub mod websocket;
mod wire;

pub use ::bytes::Bytes;
pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
pub use answer::ResponseFuture;
pub use body::Body;
pub use config::Config;
pub use error::Error;
pub use extract::{Form, Path, Query, State};
#[cfg(feature = "files")]
pub use files::Files;
pub use handler::{FromParts, FromRequest, Handler};
pub use headers::IntoHeaders;
pub use io::HyperIo;
pub use json::Json;
pub use labels::{Labels, labels};
#[cfg(feature = "monitor")]
pub use monitor::monitor;
#[cfg(feature = "multipart")]
pub use multipart::{Multipart, Part};
pub use offload::{BlockingRequest, offload};
pub use precondition::{ETag, Preconditions, Validators};
pub use redirect::Redirect;
pub use request::Request;
pub use response::{Html, IntoResponse, Response};
pub use router::{Layer, Next, Router};
pub use server::{Server, serve, serve_with};
#[cfg(feature = "tower")]
pub use tower::{RequestBody, tower};
