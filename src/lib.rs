//! Network code in a GUI program's own thread.
//!
//! ```
//! use std::{cell::Cell, rc::Rc, time::Duration};
//!
//! use entwined::{Standalone, transport::tcp};
//! use entwined_http::{self as http, Json, Router};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//!
//! // State without a lock: everything here runs on one thread.
//! let count = Rc::new(Cell::new(0));
//! let router = Router::new().get("/hello", || async { "hello, world" }).post("/count", move || {
//!     count.set(count.get() + 1);
//!     let count = count.get();
//!     async move { Json(count) }
//! });
//! let server = http::serve(tcp::listen(&handle, "127.0.0.1:0")?, router);
//! println!("http listening on {}", server.local_address());
//!
//! handle.call_later(Duration::from_millis(10), {
//!     let handle = handle.clone();
//!     move || handle.stop()
//! });
//! reactor.run()?;
//! # Ok(())
//! # }
//! ```
//!
//! The same program runs inside a GTK 4 window, a winit window or a calloop loop: only the first
//! line changes, and the handlers may hold a `gtk::Label` where this one holds a `Cell`. There is
//! no second thread, no lock, no channel, and nothing has to be `Send`.
//!
//! # What is here
//!
//! | module | what it is for |
//! |---|---|
//! | [`reactor`] | the seam to the loop that owns the thread; calls, timers, the order of things, the life of a run |
//! | [`task`] | futures on that thread |
//! | [`thread`] | jobs on other threads, with their results on that one |
//! | [`deferred`] | results that have not come yet, as callback chains or to be awaited |
//! | [`endpoint`] | where to listen and what to connect to, as text |
//! | [`process`] | child processes |
//! | [`resolve`] | names of hosts |
//! | [`transport`] | TCP, UDP, Unix sockets, pipes, terminals, any fd; for async code |
//! | [`protocol`] | callbacks for each connection, apart from what carries it |
//! | [`tls`] | TLS over any of them (feature `tls`) |
//! | [`proxy`] | the PROXY protocol |
//! | [`policy`] | what holds for a connection whatever is said: time limits, rates, connections a peer, a log |
//! | [`framing`] | where one message ends and the next begins: lines, netstrings, lengths, delimiters |
//! | [`rpc`] | calls between programs (feature `rpc`) |
//! | [`service`] | parts of a program, started and stopped in order; clients that connect again |
//! | [`http`] | a web server whose handlers run here (feature `http`, on by default) |
//! | [`testing`] | the conformance suite for backends (feature `testing`) |
//!
//! # Which loop
//!
//! | crate | the loop | how |
//! |---|---|---|
//! | `entwined` | its own, on mio | [`Standalone`] |
//! | `entwined-glib` | any GLib main context | `entwined_glib::attach(&context)` |
//! | `entwined-gtk4` | a GTK 4 application's | `entwined_gtk4::attach(&application)` |
//! | `entwined-calloop` | a calloop event loop | `entwined_calloop::attach(&loop_handle)` |
//! | `entwined-winit` | winit's, both ways round | `entwined_winit::Winit::new()` |
//! | `entwined` | any that can be sent a closure | [`Interleave::new(post)`](reactor::Interleave) |
//!
//! Each gives a [`Handle`], and from there on everything is the same. Another loop needs some
//! hundred lines: see [`reactor`] for the seam and [`testing`] for the suite that says whether they
//! are right.
//!
//! # What to know
//!
//! - A callback, a task's poll or a handler has the thread until it returns. One that takes longer
//!   than 8 ms is named in the log: see [`Handle::observe`]. Long work belongs on another thread,
//!   which answers by a Deferred ([`Handle::defer_to_thread`]), or is done in
//!   [steps](Handle::cooperate).
//! - A callback may open a modal dialog, or wait by [`Handle::wait`]: everybody else goes on, and
//!   what is on the stack is not entered again.
//! - A panic ends the callback, task or connection that it happens in, is reported, and nothing
//!   else.
//! - All that a peer may use up is bounded; the defaults are documented where they can be changed:
//!   [`http::Config`], [`protocol::Config`], [`thread::Config`].
//!
//! Linux only so far: deadlines are a timerfd, and nothing was tried elsewhere.
#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("entwined runs on Linux only so far: its selector needs a timerfd");

mod address;
pub mod broadcast;
pub mod deferred;
pub mod endpoint;
pub mod framing;
mod log;
mod panic;
pub mod policy;
pub mod process;
pub mod protocol;
pub mod proxy;
pub mod reactor;
mod report;
pub mod resolve;
#[cfg(feature = "rpc")]
pub mod rpc;
pub mod server;
pub mod service;
pub mod signal;
pub mod simulation;
pub mod task;
pub mod thread;
#[cfg(feature = "tls")]
pub mod tls;
pub mod transport;
mod wake;

#[cfg(doc)]
#[doc = include_str!("../docs/twisted.md")]
pub mod twisted {}

pub use reactor::{Handle, Reactor, Remote, Standalone};
