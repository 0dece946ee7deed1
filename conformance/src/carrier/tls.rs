//! Streams over TLS.

use std::sync::{Arc, LazyLock};

use entwined::{
    Handle,
    protocol::Connection,
    tls::{self, TlsStream},
    transport::{Listen, tcp},
};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};

use super::{Carrier, Dialer, Door, Peer, ask_addresses, boxed, tcp_listener, tls_peer::TlsPeer};

/// TLS over TCP. Both sides present a certificate.
pub(crate) struct Tls;

/// Made once, because generating keys is slow without optimization.
static CERTIFICATE: LazyLock<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> =
    LazyLock::new(|| tls::development::certificate(["localhost"]).expect("a certificate"));

fn peer_config() -> Arc<ClientConfig> {
    let (chain, key) = &*CERTIFICATE;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(chain[0].clone()).expect("a certificate");
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.clone(), key.clone_key());
    Arc::new(config.expect("a key"))
}

impl Carrier for Tls {
    const MANY: u64 = 1_000;

    fn open(handle: &Handle) -> Door {
        let (chain, key) = &*CERTIFICATE;
        let identity = tls::Identity::new(chain.clone(), key.clone_key()).expect("an identity");
        let clients = tls::ClientCertificates::Required(tls::Roots::only(chain));
        let acceptor = tls::Acceptor::builder(identity.clone())
            .client_certificates(clients)
            .build();
        let connector = tls::Connector::builder()
            .roots(tls::Roots::only(chain))
            .identity(identity)
            .build();
        let connector = connector.expect("a connector");
        let (listener, address) = tcp_listener(handle);
        let (handle, config) = (handle.clone(), peer_config());
        Door {
            listener: acceptor.expect("an acceptor").listen(listener).boxed(),
            dialer: Dialer::new(move || Peer::Tls(Box::new(TlsPeer::new(&config, address)))),
            connect: boxed(move || {
                let (handle, connector) = (handle.clone(), connector.clone());
                async move {
                    let stream = tcp::connect(&handle, address).await.expect("a connection");
                    connector.connect(stream, "localhost").expect("a name")
                }
            }),
        }
    }

    fn ask_identity(connection: &Connection) {
        ask_addresses(connection);
        let asked = connection.ask(|tls: &TlsStream| {
            assert_eq!(tls.peer_certificates().map(<[_]>::len), Some(1));
            assert!(tls.version().is_some() && tls.cipher_suite().is_some());
            assert_eq!(
                (tls.server_name(), tls.protocol()),
                (Some("localhost"), None)
            );
        });
        asked.expect("a layer of TLS");
    }
}
