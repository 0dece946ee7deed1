//! What can go wrong.

use std::{error, fmt, io, path::PathBuf};

use rustls::{InvalidMessage, pki_types::pem};

/// Why there is no [`Acceptor`](super::Acceptor), [`Connector`](super::Connector) or
/// [`Identity`](super::Identity): the mistake is on this side.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read, or is not what it should be.
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// The input cannot be read.
    Read(io::Error),
    /// The input is no PEM.
    Pem(pem::Error),
    /// There is no certificate in the input.
    NoCertificate,
    /// There is no private key in the input.
    NoKey,
    /// The private key is not that of the first certificate.
    KeyMismatch(rustls::Error),
    /// The system has no certificates of authorities, or they cannot be read.
    NoSystemRoots(String),
    /// A server cannot have this name: it is neither a DNS name nor an IP address.
    Name(String),
    /// rustls refuses the configuration.
    Configuration(rustls::Error),
    /// A certificate cannot be made.
    Making(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::File { path, source } => write!(f, "{}: {source}", path.display()),
            Error::Read(source) => write!(f, "it cannot be read: {source}"),
            Error::Pem(source) => write!(f, "it is not in the PEM format: {source}"),
            Error::NoCertificate => f.write_str("there is no certificate in it (-----BEGIN CERTIFICATE-----)"),
            Error::NoKey => f.write_str("there is no private key in it (-----BEGIN PRIVATE KEY-----); one with a password must be decrypted first"),
            Error::KeyMismatch(source) => write!(f, "the private key is not that of the first certificate: {source}"),
            Error::NoSystemRoots(what) => {
                write!(f, "the certificates of the system's authorities cannot be used: {what}; install ca-certificates, or name your own roots")
            }
            Error::Name(name) => write!(f, "{name:?} is neither a DNS name nor an IP address, so no certificate can be for it"),
            Error::Configuration(source) => write!(f, "TLS cannot be configured like this: {source}"),
            Error::Making(what) => write!(f, "a certificate cannot be made: {what}"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::File { source, .. } => Some(source),
            Error::Read(source) => Some(source),
            Error::Pem(source) => Some(source),
            Error::KeyMismatch(source) | Error::Configuration(source) => Some(source),
            Error::NoCertificate
            | Error::NoKey
            | Error::NoSystemRoots(_)
            | Error::Name(_)
            | Error::Making(_) => None,
        }
    }
}

/// Why a connection has failed in TLS: inside the [`io::Error`] of the kind
/// [`InvalidData`](io::ErrorKind::InvalidData) that reading and writing give then. The peer was
/// told by an alert.
#[derive(Clone, Debug)]
pub struct ProtocolError {
    /// Whether the handshake was not over.
    pub in_handshake: bool,
    /// What rustls says.
    pub source: rustls::Error,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)
                if self.in_handshake =>
            {
                f.write_str("the peer does not speak TLS")
            }
            source if self.in_handshake => write!(f, "the TLS handshake failed: {source}"),
            source => write!(f, "TLS failed: {source}"),
        }
    }
}

impl error::Error for ProtocolError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.source)
    }
}

impl From<ProtocolError> for io::Error {
    fn from(error: ProtocolError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}
