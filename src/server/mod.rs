//! The server kit: public API with everything that a server of any protocol needs.
//!
//! The HTTP server, [`protocol::serve`](crate::protocol::serve) and
//! [`endpoint::forward`](crate::endpoint::forward()) are built on it, and on nothing else.
//!
//! - [`Acceptor`] accepts connections, up to a limit, and hands each one a [`Permit`].
//!   [`Acceptor::closed`] fires when the last connection is gone.
//! - [`Label`](crate::reactor::Label), [`Origin`](crate::reactor::Origin) and
//!   [`Handle::spawn_detached`] give its work a name in metrics and stall reports.
//! - [`Handle::contain`] catches panics in the code that it calls. [`Handle::measure`] also
//!   measures that code's time.
//! - [`Handle::spend`] lets a task yield, however much its peer sends.
//! - [`Cork`] sends the output of many connections in a batch. [`Handle::on_turn_end`] does the
//!   same for any other work.
//! - [`Scratch`] is memory for one call that all connections share.
//! - [`Handle::extension`] stores one value per reactor.
//!
//! This server greets each peer, counts connections, and closes when it is told to:
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

pub use crate::scratch::Scratch;
pub use acceptor::{AcceptError, Acceptor, DEFAULT_MAX_CONNECTIONS, Permit};
pub use cork::{Cork, Outlet};
