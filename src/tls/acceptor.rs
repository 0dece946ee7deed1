//! The server side.

use std::{cell::RefCell, collections::HashMap, fmt, rc::Rc, sync::Arc};

use rustls::{
    ServerConfig, ServerConnection,
    crypto::ring,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};

use super::{Error, Identity, Roots, TlsStream, chain::Bounded, provider};
use crate::transport::{ByteStream, Listen, MapStream};

/// Adds TLS to accepted streams. Cheap to clone; [`replace`](Acceptor::replace) affects all clones.
#[derive(Clone)]
pub struct Acceptor {
    config: Rc<RefCell<Arc<ServerConfig>>>,
}

impl Acceptor {
    /// Creates a builder. The acceptor presents this identity to clients, unless
    /// [another](AcceptorBuilder::name) matches the server name that they request.
    pub fn builder(identity: Identity) -> AcceptorBuilder {
        AcceptorBuilder {
            default: identity.key,
            names: HashMap::new(),
            protocols: Vec::new(),
            clients: ClientCertificates::None,
        }
    }

    /// Creates an acceptor with a custom configuration. What clients send before the handshake
    /// ends (RFC 8446, section 2.3) is refused, so they send it again: rustls keeps it apart from
    /// the rest, and an attacker can repeat it.
    ///
    /// # Errors
    /// Fails if rustls rejects the configuration.
    pub fn from_config(mut config: Arc<ServerConfig>) -> Result<Self, Error> {
        if config.max_early_data_size > 0 {
            Arc::make_mut(&mut config).max_early_data_size = 0;
        }
        // An invalid configuration fails for every connection, so try it once here.
        ServerConnection::new(config.clone()).map_err(Error::Configuration)?;
        Ok(Acceptor {
            config: Rc::new(RefCell::new(config)),
        })
    }

    /// Adds TLS to each connection that `listener` accepts.
    pub fn listen<L: Listen>(
        &self,
        listener: L,
    ) -> MapStream<L, impl Fn(L::Stream) -> TlsStream + 'static> {
        let acceptor = self.clone();
        listener.map_stream(move |stream| acceptor.accept(stream))
    }

    /// Adds TLS to `stream`. The handshake starts when the stream is first used, or when
    /// [`poll_established`](ByteStream::poll_established) is called. Servers limit its time
    /// ([`establish_timeout`](crate::protocol::Config::establish_timeout)). In code of your own,
    /// wait for [`TlsStream::established`] first: reading and writing wait for the peer's handshake
    /// for ever.
    pub fn accept(&self, stream: impl ByteStream) -> TlsStream {
        let config = self.config.borrow().clone();
        let session = ServerConnection::new(config).expect("the configuration was tried before");
        TlsStream::new(Box::new(stream), session.into())
    }

    /// Uses the configuration of `other` from now on, on every listener that uses this acceptor or
    /// a clone of it: for renewed certificates. Open connections are not affected.
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

/// Whether clients present certificates.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientCertificates {
    /// Clients are not asked for a certificate.
    None,
    /// Clients may present a certificate. It must be issued by one of these authorities.
    Optional(Roots),
    /// Clients must present a certificate issued by one of these authorities.
    Required(Roots),
}

/// Builds an [`Acceptor`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct AcceptorBuilder {
    default: Arc<CertifiedKey>,
    names: HashMap<String, Arc<CertifiedKey>>,
    protocols: Vec<Vec<u8>>,
    clients: ClientCertificates,
}

impl AcceptorBuilder {
    /// Sets the identity for clients that request this name (SNI, RFC 6066, section 3).
    /// `*.example.org` matches every name one level below; an exact name takes precedence. A final
    /// dot is not a part of the name.
    pub fn name(mut self, name: &str, identity: Identity) -> Self {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.names.insert(name.to_ascii_lowercase(), identity.key);
        self
    }

    /// Sets the supported protocols, in order of preference (ALPN, RFC 7301). A client that offers
    /// protocols but none of these is refused.
    pub fn protocols<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.protocols = protocols
            .into_iter()
            .map(|protocol| protocol.as_ref().to_vec())
            .collect();
        self
    }

    /// Sets whether clients present certificates. The default is [`ClientCertificates::None`].
    pub fn client_certificates(mut self, clients: ClientCertificates) -> Self {
        self.clients = clients;
        self
    }

    /// Builds the acceptor, for TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// Fails if the authorities for client certificates cannot be used.
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
                let roots = Arc::new(roots.store()?);
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
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
                builder.with_client_cert_verifier(Arc::new(Bounded { verifier, roots }))
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

/// Selects the identity by the name that a client requests.
#[derive(Debug)]
struct ByName {
    default: Arc<CertifiedKey>,
    names: HashMap<String, Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls returns the name in lower case.
        let exact = hello.server_name().and_then(|name| {
            let above = || Some(format!("*.{}", name.split_once('.')?.1));
            self.names.get(name).or_else(|| self.names.get(&above()?))
        });
        Some(exact.unwrap_or(&self.default).clone())
    }
}
