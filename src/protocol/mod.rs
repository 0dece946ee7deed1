//! Protocols: the logic of a connection, separate from its transport.
//!
//! A [`Protocol`] receives the events of one connection as callbacks, and acts through the
//! [`Connection`] that is passed to each of them. The two are joined only in [`serve`], [`connect`]
//! or [`start`], so the same protocol runs over TCP, Unix sockets and any other
//! [`ByteStream`](crate::transport::ByteStream).
//!
//! ```
//! use entwined::{Standalone, protocol::{self, Flow, Protocol, Connection}, transport::tcp};
//!
//! struct Shout;
//!
//! impl Protocol for Shout {
//!     fn data_received(&mut self, connection: &Connection, data: &[u8]) {
//!         connection.write(&data.to_ascii_uppercase());
//!     }
//! }
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let listener = tcp::listen(&handle, "127.0.0.1:0")?;
//! println!("listening on {}", listener.local_address());
//! let server = protocol::serve(listener, |_| Some(Shout));
//! # handle.call_soon({ let handle = handle.clone(); move || handle.stop() });
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The life of a connection
//!
//! ```text
//! build -> connection_made
//!       -> (data_received | upgraded | reading_resumed | pause_writing | resume_writing)*
//!       -> end_received? -> ... -> connection_lost
//! ```
//!
//! `connection_lost` is called exactly once, as the last callback, even if the reactor's run ends
//! or a callback panicked. A callback is never entered while another of the same connection is on
//! the stack, even if that one spins the host's loop; events that happen meanwhile are delivered
//! afterwards. A panic in a callback ends its connection ([`Lost::Panicked`]) and nothing else.

mod connection;
mod datagram;
mod driver;
mod echo;
mod events;
mod framed;
mod held;
mod server;

pub use connection::{Config, Connection, Flow};
pub use datagram::{DatagramProtocol, DatagramTransport, Sending, start_datagrams};
pub use driver::start;
pub(crate) use driver::start_boxed;
pub use echo::Echo;
use events::Factory;
pub use events::{End, Lost, Protocol};
pub use framed::{FrameReceiver, Framed};
pub(crate) use held::Held;
pub use server::{Server, connect, serve};
