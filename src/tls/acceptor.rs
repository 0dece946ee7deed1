//! The server's side.

use std::{cell::RefCell, collections::HashMap, fmt, rc::Rc, sync::Arc};

use rustls::{
    ServerConfig, ServerConnection,
    crypto::ring,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};

use super::{Error, Identity, Roots, TlsStream, provider};
use crate::transport::{ByteStream, Layered, Listen};

/// Puts TLS above streams that were accepted. Cheap to clone; its clones change together.
#[derive(Clone)]
pub struct Acceptor {
    config: Rc<RefCell<Arc<ServerConfig>>>,
}

impl Acceptor {
    /// An acceptor that shows this identity to clients, unless [another](AcceptorBuilder::name) is
    /// for the name that they ask for.
    pub fn builder(identity: Identity) -> AcceptorBuilder {
        AcceptorBuilder {
            default: identity.key,
            names: HashMap::new(),
            protocols: Vec::new(),
            clients: ClientCertificates::None,
        }
    }

    /// An acceptor with a configuration of your own.
    ///
    /// # Errors
    /// When rustls refuses it.
    pub fn from_config(config: Arc<ServerConfig>) -> Result<Self, Error> {
        // What can be wrong with it is the same for every connection.
        ServerConnection::new(config.clone()).map_err(Error::Configuration)?;
        Ok(Acceptor {
            config: Rc::new(RefCell::new(config)),
        })
    }

    /// Puts TLS above each connection that `listener` accepts.
    pub fn listen<L: Listen>(
        &self,
        listener: L,
    ) -> Layered<L, impl Fn(L::Stream) -> TlsStream + 'static> {
        let acceptor = self.clone();
        listener.layered(move |stream| acceptor.accept(stream))
    }

    /// Puts TLS above `stream`. The handshake begins when the stream is used, or asked whether it
    /// is [established](ByteStream::poll_established).
    pub fn accept(&self, stream: impl ByteStream) -> TlsStream {
        let config = self.config.borrow().clone();
        let session = ServerConnection::new(config).expect("the configuration was tried before");
        TlsStream::new(Box::new(stream), session.into())
    }

    /// From now on accepts as `other` does, on every listener that this acceptor or a clone of it
    /// is used by: for certificates that were renewed. Connections that are there go on as they
    /// are.
    pub fn replace(&self, other: &Acceptor) {
        let config = other.config.borrow().clone();
        let old = self.config.replace(config);
        drop(old);
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

/// Whether clients show certificates.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientCertificates {
    /// They are not asked for any.
    None,
    /// They may; what they show must come from these authorities.
    Optional(Roots),
    /// They must, and from these authorities.
    Required(Roots),
}

/// What an [`Acceptor`] is made of.
#[must_use = "it makes an acceptor when it is built"]
pub struct AcceptorBuilder {
    default: Arc<CertifiedKey>,
    names: HashMap<String, Arc<CertifiedKey>>,
    protocols: Vec<Vec<u8>>,
    clients: ClientCertificates,
}

impl AcceptorBuilder {
    /// The identity for clients that ask for this name (SNI, RFC 6066, 3). `*.example.org` is for
    /// every name one level below; a name that is written out comes before it.
    pub fn name(mut self, name: &str, identity: Identity) -> Self {
        self.names.insert(name.to_ascii_lowercase(), identity.key);
        self
    }

    /// Protocols that are spoken, the preferred one first (ALPN, RFC 7301). A client that offers
    /// some and none of these is refused.
    pub fn protocols<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.protocols = protocols
            .into_iter()
            .map(|protocol| protocol.as_ref().to_vec())
            .collect();
        self
    }

    /// Whether clients show certificates; they do not unless told.
    pub fn client_certificates(mut self, clients: ClientCertificates) -> Self {
        self.clients = clients;
        self
    }

    /// The acceptor: TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// When the authorities for clients cannot be used.
    pub fn build(self) -> Result<Acceptor, Error> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(Error::Configuration)?;
        let (roots, required) = match &self.clients {
            ClientCertificates::None => (None, false),
            ClientCertificates::Optional(roots) => (Some(roots), false),
            ClientCertificates::Required(roots) => (Some(roots), true),
        };
        let builder = match roots {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(
                    Arc::new(roots.store()?),
                    provider(),
                );
                let verifier = if required {
                    verifier
                } else {
                    verifier.allow_unauthenticated()
                };
                let verifier = verifier.build().map_err(|error| {
                    Error::Configuration(rustls::Error::General(format!(
                        "authorities for clients: {error}"
                    )))
                })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName {
            default: self.default,
            names: self.names,
        }));
        config.alpn_protocols = self.protocols;
        config.ticketer = ring::Ticketer::new().map_err(Error::Configuration)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Acceptor::from_config(Arc::new(config))
    }
}

impl fmt::Debug for AcceptorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptorBuilder")
            .field("names", &self.names.keys())
            .field("protocols", &self.protocols)
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}

/// Chooses by the name that a client asks for.
#[derive(Debug)]
struct ByName {
    default: Arc<CertifiedKey>,
    names: HashMap<String, Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives it in lower case.
        let exact = hello.server_name().and_then(|name| {
            let above = || Some(format!("*.{}", name.split_once('.')?.1));
            self.names.get(name).or_else(|| self.names.get(&above()?))
        });
        Some(exact.unwrap_or(&self.default).clone())
    }
}
