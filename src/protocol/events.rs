//! What a protocol is told: the callbacks of a connection, and why it ended.

use std::{fmt, io};

use super::Connection;
#[cfg(doc)]
use super::{Config, Flow};
use crate::transport::Address;

/// Handles the events of one connection.
///
/// Any callback may write to the connection, pause it or close it. Other code can do the same
/// through a clone of the connection.
pub trait Protocol {
    /// Called once the connection is ready. Nothing has been received yet; pausing reading here
    /// holds all input back.
    fn connection_made(&mut self, connection: &Connection) {
        let _ = connection;
    }

    /// Called when the wrapper added by [`Connection::upgrade`] is established. From now on, bytes
    /// are received and written through it.
    fn upgraded(&mut self, connection: &Connection) {
        let _ = connection;
    }

    /// Called when bytes arrive, at least one. How the bytes are split between calls has no
    /// meaning.
    fn data_received(&mut self, connection: &Connection, data: &[u8]);

    /// Called when reading resumes after a pause. A protocol that splits its input into messages
    /// may have been paused between two of them; it delivers the messages that it held back now.
    fn reading_resumed(&mut self, connection: &Connection) {
        let _ = connection;
    }

    /// The peer will send no more. The result decides whether this side may continue writing. The
    /// default is [`End::Close`].
    fn end_received(&mut self, connection: &Connection) -> End {
        let _ = connection;
        End::Close
    }

    /// More than [`Config::high_water`] bytes are queued, and the peer does not take them at once.
    /// The producer should pause until `resume_writing`.
    fn pause_writing(&mut self, connection: &Connection) {
        let _ = connection;
    }

    /// Called after a write returned [`Flow::Full`], when the queue has shrunk to
    /// [`Config::low_water`].
    fn resume_writing(&mut self, connection: &Connection) {
        let _ = connection;
    }

    /// Called instead of everything else if the connection never became ready: a handshake failed
    /// or took too long, or the run ended before. Then the protocol is dropped. A protocol that a
    /// [server](super::serve) would have built does not exist then.
    fn connection_failed(&mut self, why: &Lost) {
        let _ = why;
    }

    /// Called last, when a connection that was ready is over. Then the protocol is dropped.
    fn connection_lost(&mut self, why: &Lost) {
        let _ = why;
    }
}

impl<P: Protocol + ?Sized> Protocol for Box<P> {
    fn connection_made(&mut self, connection: &Connection) {
        (**self).connection_made(connection);
    }

    fn upgraded(&mut self, connection: &Connection) {
        (**self).upgraded(connection);
    }

    fn data_received(&mut self, connection: &Connection, data: &[u8]) {
        (**self).data_received(connection, data);
    }

    fn reading_resumed(&mut self, connection: &Connection) {
        (**self).reading_resumed(connection);
    }

    fn end_received(&mut self, connection: &Connection) -> End {
        (**self).end_received(connection)
    }

    fn pause_writing(&mut self, connection: &Connection) {
        (**self).pause_writing(connection);
    }

    fn resume_writing(&mut self, connection: &Connection) {
        (**self).resume_writing(connection);
    }

    fn connection_lost(&mut self, why: &Lost) {
        (**self).connection_lost(why);
    }

    fn connection_failed(&mut self, why: &Lost) {
        (**self).connection_failed(why);
    }
}

/// What to do when the peer has ended its direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Close this direction as well, after sending what is queued.
    Close,
    /// Continue writing (a half-open connection); [`Connection::close`] ends it.
    KeepWriting,
}

/// Why a connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Lost {
    /// Both directions ended gracefully: this side closed the connection, or the peer did and this
    /// side followed.
    Closed,
    /// This side [aborted](Connection::abort) it.
    Aborted,
    /// The peer or the network broke the connection: reset, broken pipe, timed out. See
    /// [`io::Error::kind`].
    Failed(io::Error),
    /// More than [`Config::max_queued`] bytes were queued while the peer did not read.
    Overflow,
    /// The peer did not take the last bytes within [`Config::close_timeout`] after this side
    /// closed.
    Stuck,
    /// No byte moved for [`Config::idle_timeout`].
    Idle,
    /// A callback of the protocol panicked, or its stream did.
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
            Lost::Idle => f.write_str("the connection was idle for too long"),
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

/// Builds the protocol for a connection with a peer, or refuses it.
pub(super) type Factory = dyn Fn(&Address) -> Option<Box<dyn Protocol>>;
