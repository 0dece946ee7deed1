//! The client's side.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};

use super::{Error, Identity, TlsStream, identity, provider};
use crate::transport::ByteStream;

/// The authorities that are trusted.
#[derive(Clone)]
pub struct Roots(Source);

#[derive(Clone)]
enum Source {
    System,
    Only(Vec<CertificateDer<'static>>),
}

impl Roots {
    /// Those of the system (on Debian the package ca-certificates; the environment variables
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` name others). They are read, which blocks for some
    /// milliseconds, when something is built with them.
    pub fn system() -> Self {
        Roots(Source::System)
    }

    /// These and no others. The certificate of a server that signed it itself may be among them.
    pub fn only(certificates: &[CertificateDer<'static>]) -> Self {
        Roots(Source::Only(certificates.to_vec()))
    }

    /// Those in a PEM file and no others.
    ///
    /// # Errors
    /// When the file cannot be read or has no certificate.
    pub fn from_pem_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let chain = identity::read(path).and_then(|pem| identity::chain(&pem));
        Ok(Roots(Source::Only(identity::in_file(path, chain)?)))
    }

    pub(super) fn store(&self) -> Result<RootCertStore, Error> {
        let mut store = RootCertStore::empty();
        match &self.0 {
            Source::System => {
                let found = rustls_native_certs::load_native_certs();
                // Some that rustls cannot read are usual.
                let (usable, _) = store.add_parsable_certificates(found.certs);
                if usable == 0 {
                    let what = found
                        .errors
                        .first()
                        .map_or_else(|| "there are none".to_owned(), ToString::to_string);
                    return Err(Error::NoSystemRoots(what));
                }
            }
            Source::Only(certificates) => {
                for certificate in certificates {
                    store
                        .add(certificate.clone())
                        .map_err(Error::Configuration)?;
                }
            }
        }
        Ok(store)
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::System => f.write_str("Roots::system()"),
            Source::Only(certificates) => write!(f, "Roots::only({})", certificates.len()),
        }
    }
}

/// Puts TLS above streams that were connected. Cheap to clone; clones share the sessions that may
/// be resumed (of 256 at most).
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
}

impl Connector {
    /// A connector that trusts the system's authorities, unless told otherwise.
    pub fn builder() -> ConnectorBuilder {
        ConnectorBuilder {
            roots: Roots::system(),
            identity: None,
            protocols: Vec::new(),
        }
    }

    /// A connector with a configuration of your own.
    pub fn from_config(config: Arc<ClientConfig>) -> Self {
        Connector { config }
    }

    /// Puts TLS above `stream`, with a server that must prove to be `server_name`: a DNS name, or
    /// an IP address. The handshake begins when the stream is used, or asked whether it is
    /// [established](ByteStream::poll_established).
    ///
    /// # Errors
    /// [`Error::Name`] when that is neither.
    pub fn connect(&self, stream: impl ByteStream, server_name: &str) -> Result<TlsStream, Error> {
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| Error::Name(server_name.to_owned()))?;
        let session =
            ClientConnection::new(self.config.clone(), name).map_err(Error::Configuration)?;
        Ok(TlsStream::new(Box::new(stream), session.into()))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// What a [`Connector`] is made of.
#[derive(Debug)]
#[must_use = "it makes a connector when it is built"]
pub struct ConnectorBuilder {
    roots: Roots,
    identity: Option<Identity>,
    protocols: Vec<Vec<u8>>,
}

impl ConnectorBuilder {
    /// Who is trusted to say who a server is.
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }

    /// What to show to a server that asks for a certificate.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Protocols to offer, the preferred one first (ALPN, RFC 7301).
    pub fn protocols<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.protocols = protocols
            .into_iter()
            .map(|protocol| protocol.as_ref().to_vec())
            .collect();
        self
    }

    /// The connector: TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// When the authorities cannot be used.
    pub fn build(self) -> Result<Connector, Error> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(Error::Configuration)?
            .with_root_certificates(self.roots.store()?);
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(
                    identity.certificates().to_vec(),
                    identity.secret.clone_key(),
                )
                .map_err(Error::Configuration)?,
        };
        config.alpn_protocols = self.protocols;
        Ok(Connector::from_config(Arc::new(config)))
    }
}
