//! The client side.

use std::{fmt, net::Ipv6Addr, path::Path, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{CertificateDer, ServerName},
};

use super::{Error, Identity, TlsStream, chain::Bounded, identity, provider};
use crate::transport::ByteStream;

/// A set of trusted certificate authorities.
#[derive(Clone)]
pub struct Roots(Source);

#[derive(Clone)]
enum Source {
    System,
    Only(Vec<CertificateDer<'static>>),
}

impl Roots {
    /// The authorities of the system (on Debian the package ca-certificates; the environment
    /// variables `SSL_CERT_FILE` and `SSL_CERT_DIR` select others). They are loaded when something
    /// is built with them, which blocks for some milliseconds.
    pub fn system() -> Self {
        Roots(Source::System)
    }

    /// Only these authorities. A server's self-signed certificate may be among them. What is built
    /// with none at all fails with [`Error::NoRoots`].
    pub fn only(certificates: &[CertificateDer<'static>]) -> Self {
        Roots(Source::Only(certificates.to_vec()))
    }

    /// Only the authorities in a PEM file.
    ///
    /// # Errors
    /// Fails if the file cannot be read or contains no certificate.
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
                // It is normal that rustls cannot parse some of them.
                let (usable, _) = store.add_parsable_certificates(found.certs);
                if usable == 0 {
                    let what = found
                        .errors
                        .first()
                        .map_or_else(|| "there are none".to_owned(), ToString::to_string);
                    return Err(Error::NoSystemRoots(what));
                }
            }
            Source::Only(certificates) if certificates.is_empty() => return Err(Error::NoRoots),
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

/// Adds TLS to connected streams. Cheap to clone; clones share the cache of sessions that can be
/// resumed (at most 256).
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
}

impl Connector {
    /// Creates a builder. By default the connector trusts the system's authorities.
    pub fn builder() -> ConnectorBuilder {
        ConnectorBuilder {
            roots: Roots::system(),
            identity: None,
            protocols: Vec::new(),
        }
    }

    /// Creates a connector with a custom configuration.
    pub fn from_config(config: Arc<ClientConfig>) -> Self {
        Connector { config }
    }

    /// Adds TLS to `stream`. The server must prove that it is `server_name`, a DNS name or an IP
    /// address. The zone of an IPv6 address (`fe80::1%eth0`) is not a part of it: no certificate
    /// has one. The handshake starts when the stream is first used, or when
    /// [`poll_established`](ByteStream::poll_established) is called.
    ///
    /// # Errors
    /// [`Error::Name`] if `server_name` is neither.
    pub fn connect(&self, stream: impl ByteStream, server_name: &str) -> Result<TlsStream, Error> {
        let name = ServerName::try_from(without_zone(server_name).to_owned())
            .map_err(|_| Error::Name(server_name.to_owned()))?;
        let session =
            ClientConnection::new(self.config.clone(), name).map_err(Error::Configuration)?;
        Ok(TlsStream::new(Box::new(stream), session.into()))
    }
}

/// RFC 4007, section 11: the zone is for this machine only.
fn without_zone(name: &str) -> &str {
    match name.split_once('%') {
        Some((address, zone)) if !zone.is_empty() && address.parse::<Ipv6Addr>().is_ok() => address,
        _ => name,
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// Builds a [`Connector`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ConnectorBuilder {
    roots: Roots,
    identity: Option<Identity>,
    protocols: Vec<Vec<u8>>,
}

impl ConnectorBuilder {
    /// Sets the authorities that are trusted to identify servers.
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }

    /// Sets the identity to present to a server that requests a certificate.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Sets the protocols to offer, in order of preference (ALPN, RFC 7301).
    pub fn protocols<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.protocols = protocols
            .into_iter()
            .map(|protocol| protocol.as_ref().to_vec())
            .collect();
        self
    }

    /// Builds the connector, for TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// Fails if the authorities cannot be used.
    pub fn build(self) -> Result<Connector, Error> {
        let roots = Arc::new(self.roots.store()?);
        let verifier: Arc<dyn ServerCertVerifier> =
            WebPkiServerVerifier::builder_with_provider(roots.clone(), provider())
                .build()
                .map_err(|error| {
                    Error::Configuration(rustls::Error::General(format!("authorities: {error}")))
                })?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(Error::Configuration)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Bounded { verifier, roots }));
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
