//! Why there is no response.

use std::{error, fmt, io};

use super::super::StatusCode;
use entwined::transport::HostError;

/// Why there is no response, or not all of it.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The address cannot be asked.
    Url(String),
    /// The request cannot be written: a header, a value.
    Request(String),
    /// The host, or the proxy, is not reached.
    Host(HostError),
    /// The proxy opens no tunnel.
    Proxy(String),
    /// The connection was not established: TLS, a certificate.
    Establish(io::Error),
    /// The connection failed, or the server does not keep to HTTP.
    Http(hyper::Error),
    /// Something took too long, and what.
    TimedOut(&'static str),
    /// More redirects than are followed, or one that cannot be.
    Redirect(String),
    /// The body has more bytes than may be read.
    TooLarge(usize),
    /// The body is not what it is said to be.
    Decode(String),
    /// The server says that it has failed: see
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
            ClientError::Proxy(what) => write!(f, "the proxy opens no way to the server: {what}"),
            ClientError::Establish(source) => {
                write!(f, "there is no connection with the server: {source}")
            }
            ClientError::Http(source) => write!(f, "the exchange with the server failed: {source}"),
            ClientError::TimedOut(what) => write!(f, "{what} took too long"),
            ClientError::TooLarge(limit) => write!(f, "the body has more than {limit} bytes"),
            ClientError::Decode(what) => write!(f, "the body cannot be read: {what}"),
            ClientError::Status(status) => write!(f, "the server answers {status}"),
        }
    }
}

impl error::Error for ClientError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            ClientError::Host(source) => Some(source),
            ClientError::Establish(source) => Some(source),
            ClientError::Http(source) => Some(source),
            _ => None,
        }
    }
}

impl From<entwined::deferred::Interrupted> for ClientError {
    fn from(_: entwined::deferred::Interrupted) -> Self {
        ClientError::TimedOut("the exchange")
    }
}
