//! Handshakes are done on threads.

use std::{
    cell::RefCell,
    fmt, io,
    rc::Rc,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use entwined::{
    Standalone,
    tls::{
        Connector,
        rustls::{
            ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
            client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
            crypto::ring,
            pki_types::{CertificateDer, ServerName, UnixTime},
        },
    },
    transport::memory::Link,
};

use super::support::{both, streams};

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
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let connector = Connector::from_config(Arc::new(config));
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
