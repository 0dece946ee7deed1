//! Protocols: what is said, apart from what it is said over.
//!
//! A [`Protocol`] hears of what happens on one connection by callbacks, and answers through the
//! [`Transport`] that each of them is given. The two meet at the last moment, in [`serve`],
//! [`connect`] or [`start`]; the same protocol runs over TCP, Unix sockets and any other
//! [`ByteStream`].
//!
//! ```
//! use entwined::{Standalone, protocol::{self, Flow, Protocol, Transport}, transport::tcp};
//!
//! struct Shout;
//!
//! impl Protocol for Shout {
//!     fn data_received(&mut self, transport: &Transport, data: &[u8]) {
//!         transport.write(&data.to_ascii_uppercase());
//!     }
//! }
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let listener = tcp::listen(&handle, ([127, 0, 0, 1], 0).into())?;
//! println!("listening on {}", listener.local_address());
//! let server = protocol::serve(listener, |_peer: &_| Some(Shout));
//! # handle.call_soon({ let handle = handle.clone(); move || handle.stop().unwrap() });
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The course of a connection
//!
//! ```text
//! build -> connection_made -> (data_received | upgraded | reading_resumed | pause_writing | resume_writing)* -> end_received? -> ... -> connection_lost
//! ```
//!
//! `connection_lost` comes exactly once and last, also when the reactor's run ends or a callback
//! panicked. No callback is entered while another of the same connection is on the stack, even if
//! that one spins the host's loop; what happens meanwhile is told afterwards. A panic in a callback
//! ends its connection ([`Lost::Panicked`]) and nothing else.

mod connection;
mod datagram;
mod echo;
mod framed;
mod server;
mod transport;

use std::{fmt, io, panic::Location};

pub use datagram::{DatagramProtocol, DatagramTransport, Sending, start_datagrams};
pub use echo::Echo;
pub use framed::{FrameReceiver, Framed};
pub use server::{Factory, Server, connect, serve};
pub use transport::{Flow, Limits, Transport};

use self::connection::Content;
use crate::{reactor::Handle, transport::ByteStream};

/// What one connection is about.
///
/// The transport may be written to, paused and closed from any callback, and from elsewhere through
/// a clone of it.
pub trait Protocol {
    /// The connection is there. Nothing was received yet; to pause reading here holds it back.
    fn connection_made(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// The layer that [`Transport::upgrade`] put in is established: what is received and written is
    /// now on top of it.
    fn upgraded(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// Bytes have arrived, at least one. How they are cut says nothing.
    fn data_received(&mut self, transport: &Transport, data: &[u8]);

    /// Reading goes on after a pause. A protocol that holds back what it was given (since it cuts
    /// it into messages, and was paused between two) hands it on now.
    fn reading_resumed(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// The peer will send no more. What it gives back decides whether this end may go on writing;
    /// [`End::Close`] unless overridden.
    fn end_received(&mut self, transport: &Transport) -> End {
        let _ = transport;
        End::Close
    }

    /// More was written than [`Limits::high`], and the peer does not take it at once: whoever
    /// produces should rest until `resume_writing`.
    fn pause_writing(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// After a write gave [`Flow::Full`]: what waits to be sent has fallen to [`Limits::low`].
    fn resume_writing(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// The connection is over; the last callback. The protocol is dropped after it.
    fn connection_lost(&mut self, why: &Lost) {
        let _ = why;
    }
}

impl<P: Protocol + ?Sized> Protocol for Box<P> {
    fn connection_made(&mut self, transport: &Transport) {
        (**self).connection_made(transport);
    }

    fn upgraded(&mut self, transport: &Transport) {
        (**self).upgraded(transport);
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        (**self).data_received(transport, data);
    }

    fn reading_resumed(&mut self, transport: &Transport) {
        (**self).reading_resumed(transport);
    }

    fn end_received(&mut self, transport: &Transport) -> End {
        (**self).end_received(transport)
    }

    fn pause_writing(&mut self, transport: &Transport) {
        (**self).pause_writing(transport);
    }

    fn resume_writing(&mut self, transport: &Transport) {
        (**self).resume_writing(transport);
    }

    fn connection_lost(&mut self, why: &Lost) {
        (**self).connection_lost(why);
    }
}

/// What to do when the peer has ended its direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Close as well, after what was written is sent.
    Close,
    /// Go on writing (a half-open connection); [`Transport::close`] ends it.
    KeepWriting,
}

/// Why a connection is over.
#[derive(Debug)]
#[non_exhaustive]
pub enum Lost {
    /// Both directions came to their end in order: this side closed it, or the peer did and this
    /// side followed.
    Closed,
    /// This side [aborted](Transport::abort) it.
    Aborted,
    /// The peer or the network broke it: reset, broken pipe, timed out; see [`io::Error::kind`].
    Failed(io::Error),
    /// More was written than [`Limits::most`] allows while the peer did not read.
    Overflow,
    /// The peer did not take the last bytes within [`Limits::linger`] after this side closed.
    Stuck,
    /// A callback of the protocol panicked.
    Panicked,
    /// The reactor's run ended.
    Stopped,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::Closed => f.write_str("the connection was closed"),
            Lost::Aborted => f.write_str("the connection was aborted"),
            Lost::Failed(error) => write!(f, "the connection failed: {error}"),
            Lost::Overflow => f.write_str("the peer does not read, and too much was written"),
            Lost::Stuck => f.write_str("the peer did not take the last bytes in time"),
            Lost::Panicked => f.write_str("the protocol panicked"),
            Lost::Stopped => f.write_str("the reactor stopped"),
        }
    }
}

impl std::error::Error for Lost {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Lost::Failed(error) => Some(error),
            _ => None,
        }
    }
}

/// Runs `protocol` over `stream`, which is connected. `connection_made` comes in the next turn, or
/// when the stream is [established](ByteStream::poll_established).
#[track_caller]
pub fn start(
    handle: &Handle,
    stream: impl ByteStream,
    protocol: impl Protocol + 'static,
) -> Transport {
    start_boxed(
        handle,
        Box::new(stream),
        Box::new(protocol),
        Location::caller(),
    )
}

pub(crate) fn start_boxed(
    handle: &Handle,
    stream: Box<dyn ByteStream>,
    protocol: Box<dyn Protocol>,
    location: &'static Location<'static>,
) -> Transport {
    connection::start(
        handle,
        stream,
        Content::Protocol(protocol),
        Limits::default(),
        None,
        location,
    )
}
