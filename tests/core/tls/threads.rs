//! Handshakes are done on threads.

use std::{
    cell::RefCell,
    fmt, io,
    rc::Rc,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use entwined::{
    Standalone,
    simulation::Simulation,
    tls::{
        Acceptor, Connector,
        rustls::{
            ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
            ServerConfig, SignatureScheme,
            client::{
                Resumption,
                danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
            },
            crypto::{CryptoProvider, ring},
            pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
            server::{ClientHello, ResolvesServerCert},
            sign::CertifiedKey,
            version::TLS12,
        },
    },
    transport::memory::{self, Link},
};

use super::support::{both, converse, established, streams, write_all};

const PATIENCE: Duration = Duration::from_secs(30);

/// Says that it begins, and trusts everyone as soon as it hears a word; panics if it never will.
struct Slow {
    begins: Begins,
    word: Mutex<mpsc::Receiver<()>>,
}

type Begins = Box<dyn Fn() + Send + Sync>;

impl fmt::Debug for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slow")
    }
}

impl ServerCertVerifier for Slow {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        (self.begins)();
        let word = self.word.lock().expect("one at a time");
        word.recv_timeout(PATIENCE).expect("a word");
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn asking(verifier: Slow) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Arc::new(config)
}

/// Runs a handshake whose verifier waits for a word. `begun` is called on the loop when it waits.
fn shake_hands(
    limit: Duration,
    begun: impl Fn(mpsc::Sender<()>) + Send + Sync + 'static,
) -> io::Result<()> {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let (sender, word) = mpsc::channel();
    let (remote, begun, sender) = (handle.remote(), Arc::new(begun), Mutex::new(Some(sender)));
    let begins = move || {
        let begun = begun.clone();
        let sender = sender.lock().expect("one").take().expect("once");
        remote.post(move |_| begun(sender)).expect("a loop");
    };
    let verifier = Slow {
        begins: Box::new(begins),
        word: Mutex::new(word),
    };
    let connector = Connector::from_config(asking(verifier));
    let (mut client, mut server) = streams(&handle, &both().0, &connector, Link::default());
    let waits = handle.clone();
    let serving = handle.spawn(async move {
        let _ = server.established(&waits, PATIENCE).await;
        std::future::pending::<()>().await;
    });
    let heard = Rc::new(RefCell::new(None));
    let result = heard.clone();
    let connecting = handle.clone().spawn(async move {
        let heard = client.established(&handle, limit).await;
        drop(client);
        *result.borrow_mut() = Some(heard);
        handle.stop();
    });
    reactor.run().expect("a run");
    drop((serving, connecting));
    heard.take().expect("an end")
}

#[test]
fn the_loop_goes_on_while_a_thread_shakes_hands() {
    let heard = shake_hands(PATIENCE, |word| word.send(()).expect("a verifier"));
    heard.expect("a handshake");
}

#[test]
fn a_panic_of_a_verifier_is_an_error_of_its_connection() {
    let error = shake_hands(PATIENCE, drop).expect_err("no handshake");
    assert!(error.to_string().contains("a word"), "{error}");
}

/// There is no other thread in a simulation.
#[test]
fn a_panic_of_a_verifier_is_an_error_of_its_connection_in_a_simulation_too() {
    let simulation = Simulation::new();
    let verifier = Slow {
        begins: Box::new(|| panic!("a verifier")),
        word: Mutex::new(mpsc::channel().1),
    };
    let connector = Connector::from_config(asking(verifier));
    let (acceptor, link) = (both().0, Link::default());
    let (mut client, mut server) = streams(&simulation.handle(), &acceptor, &connector, link);
    let client = async move { established(&mut client).await.expect_err("no handshake") };
    let server = async move { established(&mut server).await.expect_err("no handshake") };
    let (error, _) = converse(&simulation, client, server);
    assert!(error.to_string().contains("a verifier"), "{error}");
}

/// The thread has the connection when its time is over.
#[test]
fn a_handshake_on_a_thread_has_its_time_limit() {
    let (keep, kept) = mpsc::channel();
    let error = shake_hands(Duration::from_secs(1), move |word| {
        keep.send(word).expect("a test");
    })
    .expect_err("no handshake");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    // The thread is let go, and nobody waits for what it did.
    let _ = kept.recv().expect("the word").send(());
}

/// Tells which thread asks for the certificate, and signs next.
#[derive(Debug)]
struct Telling {
    key: Arc<CertifiedKey>,
    asks: mpsc::Sender<Option<String>>,
}

impl ResolvesServerCert for Telling {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asks = thread::current().name().map(str::to_owned);
        self.asks.send(asks).expect("a test");
        Some(self.key.clone())
    }
}

/// The shortest greeting that rustls sends.
fn greeting() -> Vec<u8> {
    let provider = CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS12])
        .expect("a version")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let mut session = ClientConnection::new(Arc::new(config), name).expect("a session");
    let mut greeting = Vec::new();
    session.write_tls(&mut greeting).expect("written");
    greeting
}

#[test]
fn a_server_signs_on_a_thread_however_short_the_greeting_or_its_end() {
    for fragment in [usize::MAX, 1] {
        let (asks, asked) = mpsc::channel();
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("names");
        let key = PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
        let key = ring::sign::any_supported_type(&key).expect("a key");
        let key = Arc::new(CertifiedKey::new(vec![issued.cert.der().clone()], key));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Telling { key, asks }));
        let acceptor = Acceptor::from_config(Arc::new(config)).expect("a configuration");

        let reactor = Standalone::new().expect("a reactor");
        let handle = reactor.handle();
        let link = Link {
            fragment,
            ..Link::default()
        };
        let (mut near, far) = memory::pair_over(&handle, link);
        let mut server = acceptor.accept(far);
        let greeting = greeting();
        assert!(greeting.len() < 128, "{}", greeting.len());
        handle.clone().spawn(async move {
            write_all(&mut near, &greeting).await.expect("written");
            drop(near);
            let ended = server.established(&handle, PATIENCE).await;
            ended.expect_err("the peer is gone");
            handle.stop();
        });
        reactor.run().expect("a run");
        let thread = asked.try_recv().expect("a greeting").expect("a name");
        assert!(thread.starts_with("tls-"), "{thread}, {fragment} at a time");
    }
}

/// A program that becomes a daemon after it has fetched something. Runs alone, in a process of its
/// own.
#[cfg(target_os = "linux")]
#[test]
fn a_fork_of_the_process_has_threads_of_its_own() {
    use std::process::{Command, Stdio};

    const VARIABLE: &str = "ENTWINED_TEST_FORK";
    if std::env::var_os(VARIABLE).is_none() {
        let name = "tls::threads::a_fork_of_the_process_has_threads_of_its_own";
        let status = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", name])
            .env(VARIABLE, "1")
            .stdout(Stdio::null())
            .status()
            .expect("it starts");
        assert!(status.success(), "{status}");
        return;
    }
    let handshake = |limit| shake_hands(limit, |word| word.send(()).expect("a verifier"));
    handshake(PATIENCE).expect("a handshake");
    // SAFETY: no thread holds a lock that the fork needs: those of the pool rest.
    match unsafe { nix::libc::fork() } {
        0 => {
            let status = i32::from(handshake(Duration::from_secs(10)).is_err());
            // SAFETY: it ends the fork, and calls nothing of the test's.
            unsafe { nix::libc::_exit(status) }
        }
        fork => {
            let mut status = -1;
            // SAFETY: `status` is there until it returns.
            let waited = unsafe { nix::libc::waitpid(fork, &raw mut status, 0) };
            assert_eq!((waited, status), (fork, 0));
        }
    }
}
