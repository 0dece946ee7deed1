//! How a WebSocket ends.

use std::{error, fmt, io};

#[cfg(doc)]
use super::Config;

/// Why a WebSocket ended without a closing handshake.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The stream failed, or ended before the WebSocket was closed.
    Stream(io::Error),
    /// The peer violated the protocol, or exceeded a limit. The peer is told so: with the close
    /// code 1002 (protocol), 1007 (a text that is not UTF-8) or 1009 (too long a message).
    Protocol(String),
    /// Nothing arrived from the peer for [`Config::ping_interval`], and it did not answer a PING.
    Silent,
    /// The peer does not read: see [`Config::write_timeout`].
    Stuck,
    /// The WebSocket is closed.
    Closed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Stream(source) => write!(f, "the connection failed: {source}"),
            Error::Protocol(what) => write!(f, "the peer violated the WebSocket protocol: {what}"),
            Error::Silent => f.write_str("the peer does not answer"),
            Error::Stuck => f.write_str("the peer does not read"),
            Error::Closed => f.write_str("the WebSocket is closed"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::Stream(source) => Some(source),
            _ => None,
        }
    }
}

/// How the peer closed the WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The close code (RFC 6455, 7.4). 1005 if the peer sent none.
    pub code: u16,
    /// The peer's reason.
    pub reason: String,
}
