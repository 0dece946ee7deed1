//! Protocols: the logic of a connection, separate from its transport.
//!
//! A [`Protocol`] receives the events of one connection as callbacks, and acts through the
//! [`Transport`] that is passed to each of them. The two are joined only in [`serve`], [`connect`]
//! or [`start`], so the same protocol runs over TCP, Unix sockets and any other [`ByteStream`].
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

/// Handles the events of one connection.
///
/// Any callback may write to the transport, pause it or close it. Other code can do the same
/// through a clone of the transport.
pub trait Protocol {
    /// Called once the connection is ready. Nothing has been received yet; pausing reading here
    /// holds all input back.
    fn connection_made(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// Called when the layer added by [`Transport::upgrade`] is established. From now on, bytes are
    /// received and written through it.
    fn upgraded(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// Called when bytes arrive, at least one. How the bytes are split between calls has no
    /// meaning.
    fn data_received(&mut self, transport: &Transport, data: &[u8]);

    /// Called when reading resumes after a pause. A protocol that splits its input into messages
    /// may have been paused between two of them; it delivers the messages that it held back now.
    fn reading_resumed(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// The peer will send no more. The result decides whether this side may continue writing. The
    /// default is [`End::Close`].
    fn end_received(&mut self, transport: &Transport) -> End {
        let _ = transport;
        End::Close
    }

    /// More than [`Limits::high`] bytes are queued, and the peer does not take them at once. The
    /// producer should pause until `resume_writing`.
    fn pause_writing(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// Called after a write returned [`Flow::Full`], when the queue has shrunk to [`Limits::low`].
    fn resume_writing(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// Called last, when the connection is over. Then the protocol is dropped.
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
    /// Close this direction as well, after sending what is queued.
    Close,
    /// Continue writing (a half-open connection); [`Transport::close`] ends it.
    KeepWriting,
}

/// Why a connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Lost {
    /// Both directions ended gracefully: this side closed the connection, or the peer did and this
    /// side followed.
    Closed,
    /// This side [aborted](Transport::abort) it.
    Aborted,
    /// The peer or the network broke the connection: reset, broken pipe, timed out. See
    /// [`io::Error::kind`].
    Failed(io::Error),
    /// More than [`Limits::most`] bytes were queued while the peer did not read.
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

/// Runs `protocol` over a connected `stream`. `connection_made` is called in the next turn, or when
/// the stream is [established](ByteStream::poll_established).
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
