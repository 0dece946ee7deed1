//! The server kit: what a server of any protocol needs, as public API.
//!
//! The HTTP server, [`protocol::serve`](crate::protocol::serve) and
//! [`endpoint::forward`](crate::endpoint::forward()) are built on it, and on nothing else.
//!
//! | what a server needs | how |
//! |---|---|
//! | to accept, with a limit on connections | [`Acceptor`], which hands each connection a [`Permit`] |
//! | to know when its last connection is gone | [`Acceptor::closed`] |
//! | a name for its work in figures and stall reports | [`Label`](crate::reactor::Label), [`Origin`](crate::reactor::Origin), [`Handle::spawn_detached`] |
//! | to survive a panic in code that it calls | [`Handle::contain`], and [`Handle::measure`] to time it too |
//! | to give way, however much a peer sends | [`Handle::spend`] |
//! | to send what many connections have, in a row | [`Cork`], or any work of its own by [`Handle::on_turn_end`] |
//! | something once for each reactor | [`Handle::extension`] |
//!
//! A server that greets, counts, and closes when it is told:
//!
//! ```
//! use std::{error::Error, future::poll_fn, pin::Pin};
//!
//! use entwined::{
//!     Handle, Standalone,
//!     reactor::{Label, Origin},
//!     server::Acceptor,
//!     transport::{AsyncWrite, Listen, tcp},
//! };
//!
//! fn greet(handle: &Handle, listener: impl Listen) -> Acceptor {
//!     let origin = Origin::here(Label::new("greeting"));
//!     let handle = handle.clone();
//!     Acceptor::new(listener, origin, move |mut stream, permit| {
//!         handle.spawn_detached(origin, async move {
//!             // The connection counts until the permit is dropped.
//!             let _permit = permit;
//!             let _ = poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, b"hello\n")).await;
//!         });
//!     })
//! }
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let server = greet(&handle, tcp::listen(&handle, "127.0.0.1:0")?);
//! server.set_max_connections(100);
//! server.stop();
//! reactor.block_on(async move { Ok::<_, Box<dyn Error>>(server.closed().await?) })?;
//! # Ok::<(), Box<dyn Error>>(())
//! ```
//!
//! [`Handle::spawn_detached`]: crate::Handle::spawn_detached
//! [`Handle::contain`]: crate::Handle::contain
//! [`Handle::measure`]: crate::Handle::measure
//! [`Handle::spend`]: crate::Handle::spend
//! [`Handle::on_turn_end`]: crate::Handle::on_turn_end
//! [`Handle::extension`]: crate::Handle::extension

mod acceptor;
mod cork;

pub use acceptor::{AcceptError, Acceptor, DEFAULT_MAX_CONNECTIONS, Permit};
pub use cork::{Cork, Outlet};
