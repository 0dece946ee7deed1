//! Network code in a GUI program's own thread.
//!
//! A [reactor](reactor::Reactor) runs in the loop that owns the thread: a toolkit's, or
//! [its own](Standalone). Protocols, tasks and servers run on it. They need no second thread, no
//! lock and no channel, and nothing has to be `Send`: a callback may hold an `Rc`, a widget,
//! anything.
//!
//! ```
//! use std::{cell::Cell, rc::Rc};
//!
//! use entwined::{
//!     Standalone,
//!     protocol::{self, Connection, Protocol},
//!     transport::tcp,
//! };
//!
//! /// Answers each piece of data with the number of bytes that all peers have sent.
//! struct Count(Rc<Cell<usize>>);
//!
//! impl Protocol for Count {
//!     fn data_received(&mut self, connection: &Connection, data: &[u8]) {
//!         self.0.set(self.0.get() + data.len());
//!         connection.write(format!("{} bytes so far\n", self.0.get()).as_bytes());
//!     }
//! }
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let bytes = Rc::new(Cell::new(0));
//! let listener = tcp::listen(&handle, "127.0.0.1:0")?;
//! let server = protocol::serve(listener, move |_| Some(Count(bytes.clone())));
//! println!("listening on {}", server.local_address());
//! # handle.call_soon({ let handle = handle.clone(); move || handle.stop() });
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In a GTK 4, winit or calloop program only the first line differs.
//!
//! # Modules
//!
//! | module | what it is for |
//! |---|---|
//! | [`reactor`] | calls, timers, runs, figures; the seam that a backend implements |
//! | [`task`] | sleeping, timeouts and repetition for futures on this thread |
//! | [`deferred`] | results that come later, as chains of callbacks or to be awaited |
//! | [`broadcast`] | one sender, many readers |
//! | [`thread`] | jobs on other threads, with their results on this one |
//! | [`transport`] | TCP, UDP, Unix sockets, pipes, terminals, any fd; for async code |
//! | [`protocol`] | callbacks for each connection, apart from its transport |
//! | [`framing`] | where a message ends: lines, netstrings, lengths, delimiters |
//! | [`server`] | the kit for servers of your own |
//! | [`endpoint`], [`resolve`] | where to listen and what to connect to, as text; host names |
//! | [`policy`], [`proxy`] | limits of time and rate; the PROXY protocol |
//! | [`process`], [`signal`] | child processes; signals |
//! | [`service`] | parts of a program that start and stop in order |
#![cfg_attr(feature = "tls", doc = "| [`tls`] | TLS over any stream |")]
#![cfg_attr(feature = "rpc", doc = "| [`rpc`] | calls between programs |")]
//! | [`simulation`] | a reactor in simulated time, for tests |
//!
//! HTTP is in the crate `entwined-http`, the suite for backends in `entwined-conformance`.
//!
//! The [guide] has a page for each question of those who begin: a first window, callbacks or async,
//! long work, tests, a safe server. The [small examples] show one idea each.
//!
//! [guide]: https://github.com/entwined-rs/entwined/tree/main/docs/guide
//! [small examples]: https://github.com/entwined-rs/entwined#small-examples
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | what it adds |
//! |---|---|
//! | `rpc` | the module `rpc`: calls between programs |
//! | `tls` | the module `tls`: TLS over any stream, and endpoints that use it |
//! | `tls-development` | `tls`, and `tls::development`: certificates made when the program starts |
//!
//! # Which loop
//!
//! | crate | loop | how |
//! |---|---|---|
//! | `entwined` | its own, on mio | [`Standalone::new()`](Standalone::new) |
//! | `entwined-glib` | any GLib main context | `entwined_glib::attach(&context)` |
//! | `entwined-gtk4` | a GTK 4 application's | `entwined_gtk4::attach(&application)` |
//! | `entwined-qt` | a Qt application's | `entwined_qt::attach()` |
//! | `entwined-calloop` | a calloop event loop | `entwined_calloop::attach(&loop_handle)` |
//! | `entwined-winit` | winit's, both ways round | `entwined_winit::Winit::new()` |
//! | `entwined-cocoa` | a Cocoa application's run loop | `entwined_cocoa::attach()` |
//! | `entwined-win32` | a Windows message loop | `entwined_win32::attach()` |
//! | `entwined` | any that can be sent a closure | [`Interleave::new(post)`](reactor::Interleave) |
//!
//! Each gives a [`Handle`], and from there on everything is the same. A backend for another loop
//! takes about 200 lines: see [`reactor`].
//!
//! # What to know
//!
//! - A callback has the thread until it returns. One that takes longer than 8 ms is reported with
//!   the line that registered it: see [`Handle::observe`]. Do long work on another thread
//!   ([`Handle::defer_to_thread`]) or in [steps](Handle::cooperate).
//! - A callback may open a modal dialog, or wait with [`Handle::wait`]. Everything else goes on,
//!   and what is on the stack is not entered again.
//! - A panic ends the callback, task or connection that it happens in, and is reported.
//! - Everything that a peer can use up is bounded. The defaults are documented where they can be
//!   changed, for example in [`protocol::Config`] and [`thread::Config`].
//! - Errors that nobody handles, panics and stalls go to `tracing`, and to standard error if the
//!   program has no subscriber.
//!
//! It is made for Linux. On Windows the core passes the conformance suite under Wine, without Unix
//! sockets and signals other than Ctrl-C; macOS and BSD were not tried.
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

mod address;
pub mod broadcast;
pub mod deferred;
pub mod endpoint;
pub mod framing;
mod log;
#[cfg(any(not(target_os = "linux"), entwined_portable))]
mod notice;
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
mod scratch;
pub mod server;
pub mod service;
mod share;
pub mod signal;
pub mod simulation;
mod sys;
mod table;
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
