//! The client's error type.

use std::{error, fmt, io};

use super::super::StatusCode;
use entwined::{deferred::Interrupted, transport::HostError};

/// Why a request got no response, or why its body was not complete.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The URL is not valid, or its scheme is not supported.
    Url(String),
    /// The request cannot be encoded (for example a header or a value).
    Request(String),
    /// Too many requests wait for their turn with this host: see
    /// [`max_waiting`](super::Builder::max_waiting).
    TooManyWaiting,
    /// The connection to the host, or to the proxy, failed.
    Host(HostError),
    /// The proxy did not open a tunnel.
    Proxy(String),
    /// The connection could not be set up, for example because of TLS or a certificate.
    Establish(io::Error),
    /// The connection failed, or the server violated HTTP.
    Http(hyper::Error),
    /// Something took too long. The string names it.
    TimedOut(&'static str),
    /// There were more redirects than allowed, or a redirect that cannot be followed.
    Redirect(String),
    /// The body is longer than this limit, in bytes.
    TooLarge(usize),
    /// The body could not be decoded.
    Decode(String),
    /// What the program has chained to it, or work on a thread, has no result: it has panicked, or
    /// there was no room for it.
    Interrupted(Interrupted),
    /// The server answered with an error status: see
    /// [`error_for_status`](super::ClientResponse::error_for_status).
    Status(StatusCode),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Url(what) | ClientError::Request(what) | ClientError::Redirect(what) => {
                f.write_str(what)
            }
            ClientError::Host(source) => source.fmt(f),
            ClientError::TooManyWaiting => {
                f.write_str("too many requests are waiting for this host")
            }
            ClientError::Proxy(what) => write!(f, "the proxy did not open a tunnel: {what}"),
            ClientError::Establish(source) => {
                write!(f, "cannot connect to the server: {source}")
            }
            ClientError::Http(source) => write!(f, "the exchange with the server failed: {source}"),
            ClientError::TimedOut(what) => write!(f, "{what} took too long"),
            ClientError::TooLarge(limit) => write!(f, "the body has more than {limit} bytes"),
            ClientError::Decode(what) => write!(f, "the body cannot be decoded: {what}"),
            ClientError::Interrupted(why) => write!(f, "the exchange was interrupted: {why}"),
            ClientError::Status(status) => write!(f, "the server answered {status}"),
        }
    }
}

impl error::Error for ClientError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            ClientError::Host(source) => Some(source),
            ClientError::Establish(source) => Some(source),
            ClientError::Http(source) => Some(source),
            ClientError::Interrupted(source) => Some(source),
            _ => None,
        }
    }
}

impl From<Interrupted> for ClientError {
    fn from(why: Interrupted) -> Self {
        match why {
            Interrupted::TimedOut => ClientError::TimedOut("the exchange"),
            why => ClientError::Interrupted(why),
        }
    }
}
