//! An HTTP/1.1 and HTTP/2 server whose handlers run on the reactor's thread.
//!
//! Handlers are async functions and need not be `Send`: they may hold an `Rc`, a widget, anything.
//!
//! ```
//! use std::{cell::Cell, rc::Rc};
//! use entwined::{Standalone, transport::tcp};
//! use entwined_http::{self as http, Json, Request, Router};
//!
//! let count = Rc::new(Cell::new(0));
//! let router = Router::new()
//!     .get("/hello", || "hello, world")
//!     .post("/count/{step}", move |request: Request| {
//!         let count = count.clone();
//!         async move {
//!             count.set(count.get() + request.parse_param::<u32>("step")?);
//!             Ok::<_, http::Error>(Json(count.get()))
//!         }
//!     });
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let server = http::serve(tcp::listen(&handle, "127.0.0.1:0")?, router);
//! println!("http listening on {}", server.local_address());
//! # handle.call_soon({ let handle = handle.clone(); move || handle.stop() });
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The server is hyper's, on top of this crate's streams. Everything a peer can use up has a limit:
//! see [`Config`]. When the reactor stops, the server stops accepting, closes idle connections, and
//! lets requests in flight finish. It drops what is left after [`Config::shutdown_grace`].

mod answer;
mod body;
mod check;
#[cfg(feature = "client")]
pub mod client;
#[cfg(any(feature = "compression", feature = "files"))]
mod coding;
mod config;
mod connection;
mod error;
mod exchange;
mod extract;
#[cfg(feature = "files")]
mod files;
mod handler;
#[cfg(feature = "http2")]
mod http2;
mod io;
mod json;
mod labels;
mod layer;
pub mod layers;
#[cfg(feature = "monitor")]
mod monitor;
#[cfg(feature = "multipart")]
mod multipart;
mod offload;
mod pace;
mod rate;
mod request;
mod response;
mod router;
mod server;
mod service;
pub mod sse;
mod state;
#[cfg(feature = "tower")]
mod tower;
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
pub use extract::{Form, Local, Path, Query};
#[cfg(feature = "files")]
pub use files::Files;
pub use handler::{FromParts, FromRequest, Handler, IntoAnswer, Later, Mounted, Now, Parts, Whole};
pub use io::HyperIo;
pub use labels::{Labels, labels};
pub use layer::{Layer, Next};
#[cfg(feature = "monitor")]
pub use monitor::monitor;
#[cfg(feature = "multipart")]
pub use multipart::{Multipart, Part};
pub use offload::{BlockingRequest, Offloaded, offload};
pub use request::Request;
pub use response::{Html, IntoResponse, Json, Response};
pub use router::Router;
pub use server::{Server, serve, serve_with};
#[cfg(feature = "tower")]
pub use tower::tower;
