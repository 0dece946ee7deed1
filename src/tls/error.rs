//! Errors.

use std::{error, fmt, io, path::PathBuf};

use rustls::{InvalidMessage, pki_types::pem};

/// Why creating an [`Acceptor`](super::Acceptor), [`Connector`](super::Connector) or
/// [`Identity`](super::Identity) failed: the mistake is on this side, not the peer's.
///
/// `Debug` prints the same text as `Display`, and the causes.
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read, or its content is wrong.
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// The input cannot be read.
    Read(io::Error),
    /// The input is not PEM.
    Pem(pem::Error),
    /// The input contains no certificate.
    NoCertificate,
    /// The input contains no private key.
    NoKey,
    /// The private key does not belong to the first certificate.
    KeyMismatch(rustls::Error),
    /// The system has no certificate authorities, or they cannot be read.
    NoSystemRoots(String),
    /// There is no certificate authority among the roots, so nobody could be trusted.
    NoRoots,
    /// Not a valid server name: neither a DNS name nor an IP address.
    Name(String),
    /// rustls rejects the configuration.
    Configuration(rustls::Error),
    /// A certificate cannot be created.
    Making(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::File { path, source } => write!(f, "{}: {source}", path.display()),
            Error::Read(source) => write!(f, "cannot read the file: {source}"),
            Error::Pem(source) => write!(f, "not in PEM format: {source}"),
            Error::NoCertificate => {
                f.write_str("no certificate found (-----BEGIN CERTIFICATE-----)")
            }
            Error::NoKey => f.write_str(
                "no private key found (-----BEGIN PRIVATE KEY-----); \
                 a key with a password must be decrypted first",
            ),
            Error::KeyMismatch(source) => write!(
                f,
                "the private key does not belong to the first certificate: {source}"
            ),
            Error::NoSystemRoots(what) => write!(
                f,
                "cannot use the system's certificate authorities: {what}; \
                 install ca-certificates, or name your own roots"
            ),
            Error::NoRoots => f.write_str(
                "there is no certificate authority among the roots, so nobody could be trusted; \
                 name one at least",
            ),
            Error::Name(name) => write!(
                f,
                "{name:?} is neither a DNS name nor an IP address, so no certificate can be valid \
                 for it"
            ),
            Error::Configuration(source) => write!(f, "invalid TLS configuration: {source}"),
            Error::Making(what) => write!(f, "cannot create a certificate: {what}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::report::debug(self, f)
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
            | Error::NoRoots
            | Error::Name(_)
            | Error::Making(_) => None,
        }
    }
}

/// Why TLS failed on a connection. Reading and writing then return an [`io::Error`] of kind
/// [`InvalidData`](io::ErrorKind::InvalidData) that contains this error. The peer has been sent an
/// alert.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProtocolError {
    /// Whether the handshake was still in progress.
    pub in_handshake: bool,
    /// The error of rustls.
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
