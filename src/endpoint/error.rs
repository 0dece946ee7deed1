//! Errors.

use std::{error::Error, fmt, io};

use crate::{
    report,
    transport::{HostError, ListenError},
};

/// Why an endpoint cannot be used. `Debug` prints the same text as `Display`, and the causes.
#[non_exhaustive]
pub enum EndpointError {
    /// Listening on the address failed.
    Listen(ListenError),
    /// Connecting to the host failed.
    Host(HostError),
    /// The file descriptor does not exist or is not of the expected type.
    Fd(String),
    /// There was no connection before the timeout.
    TimedOut,
    /// The TLS configuration is invalid.
    #[cfg(feature = "tls")]
    Tls(crate::tls::Error),
    /// Anything else.
    Io(io::Error),
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointError::Listen(source) => source.fmt(f),
            EndpointError::Host(source) => source.fmt(f),
            EndpointError::Fd(what) => f.write_str(what),
            EndpointError::TimedOut => f.write_str("connecting timed out"),
            #[cfg(feature = "tls")]
            EndpointError::Tls(source) => source.fmt(f),
            EndpointError::Io(source) => source.fmt(f),
        }
    }
}

impl fmt::Debug for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        report::debug(self, f)
    }
}

impl Error for EndpointError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            EndpointError::Listen(source) => Some(source),
            EndpointError::Host(source) => Some(source),
            #[cfg(feature = "tls")]
            EndpointError::Tls(source) => Some(source),
            EndpointError::Io(source) => Some(source),
            EndpointError::Fd(_) | EndpointError::TimedOut => None,
        }
    }
}

impl From<ListenError> for EndpointError {
    fn from(source: ListenError) -> Self {
        EndpointError::Listen(source)
    }
}

impl From<HostError> for EndpointError {
    fn from(source: HostError) -> Self {
        EndpointError::Host(source)
    }
}

impl From<io::Error> for EndpointError {
    fn from(source: io::Error) -> Self {
        EndpointError::Io(source)
    }
}

#[cfg(feature = "tls")]
impl From<crate::tls::Error> for EndpointError {
    fn from(source: crate::tls::Error) -> Self {
        EndpointError::Tls(source)
    }
}
