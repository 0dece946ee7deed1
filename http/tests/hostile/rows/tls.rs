//! What a peer sends to servers of other protocols: TLS, RPC.

use std::{future::poll_fn, io::Write, pin::Pin, process::Command, sync::Arc};

use entwined::{
    Handle,
    protocol::{self, Echo},
    rpc::{self, Failure, Methods},
    tls::{
        Acceptor, ClientCertificates, Connector, Identity, Roots, development,
        rustls::{
            ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig,
            ServerConnection, SignatureScheme,
            client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
            crypto::{CryptoProvider, ring},
            pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
        },
    },
    transport::{ByteStream, tcp},
};
use futures_io::AsyncRead;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::CALLBACK;
use crate::{
    Row, Victim,
    attack::{self, Target},
    victim,
};

const SECURE: victim::Server = |handle: &Handle| {
    let listener = tcp::listen(handle, "127.0.0.1:0").expect("a port");
    let identity = development::identity(["localhost"]).expect("a name");
    let acceptor = Acceptor::builder(identity).build().expect("an acceptor");
    let server = protocol::serve(acceptor.listen(listener), |_| Some(Echo));
    let address = server.local_address().tcp().expect("TCP");
    (address, Box::new(server))
};

const CALLS: victim::Server = |handle: &Handle| {
    let listener = tcp::listen(handle, "127.0.0.1:0").expect("a port");
    let server = rpc::serve(listener, |_| {
        let mut methods = Methods::new();
        for number in 0..100 {
            let name = format!("the method with the number {number}");
            methods.add(name, |_, (): ()| async { Ok::<_, Failure>(()) });
        }
        methods
    });
    let address = server.local_address().tcp().expect("TCP");
    (address, Box::new(server))
};

/// A server that asks for certificates of the authorities, and writes the first bytes.
const ASKING: victim::Server = |handle: &Handle| {
    let listener = tcp::listen(handle, "127.0.0.1:0").expect("a port");
    let identity = development::identity(["localhost"]).expect("a name");
    let acceptor = Acceptor::builder(identity)
        .client_certificates(ClientCertificates::Required(authorities()))
        .build()
        .expect("an acceptor");
    let server = protocol::serve(acceptor.listen(listener), |_| Some(Echo));
    let address = server.local_address().tcp().expect("TCP");
    (address, Box::new(server))
};

/// A server with a key that takes longest to sign with.
const RSA: victim::Server = |handle: &Handle| {
    let mut openssl = Command::new("openssl");
    openssl.args("req -x509 -newkey rsa:4096 -noenc -days 1 -subj /CN=localhost".split(' '));
    openssl.args("-addext subjectAltName=DNS:localhost -keyout /dev/stdout".split(' '));
    let made = openssl.output().expect("openssl");
    let identity = Identity::from_pem(&made.stdout, &made.stdout).expect("a certificate, a key");
    let listener = tcp::listen(handle, "127.0.0.1:0").expect("a port");
    let acceptor = Acceptor::builder(identity).build().expect("an acceptor");
    let server = protocol::serve(acceptor.listen(listener), |_| Some(Echo));
    let address = server.local_address().tcp().expect("TCP");
    (address, Box::new(server))
};

/// A client of a server that shows a certificate of the authorities; says how that went.
const TRUSTING: victim::Client = |handle, address| {
    let connector = Connector::builder().roots(authorities()).build();
    let connector = connector.expect("a connector");
    Box::pin(async move {
        let stream = tcp::connect(&handle, address).await.expect("a server");
        let mut stream = connector.connect(stream, "localhost").expect("a name");
        let stream: &mut dyn ByteStream = &mut stream;
        match stream.established(&handle, attack::PATIENCE).await {
            Ok(()) => "trusted".to_owned(),
            Err(error) => error.to_string(),
        }
    })
};

/// A client that trusts everyone, and reads once.
const READING: victim::Client = |handle, address| {
    Box::pin(async move {
        let connector = Connector::from_config(trusting(ring::default_provider()));
        let stream = tcp::connect(&handle, address).await.expect("a server");
        let mut stream = connector.connect(stream, "localhost").expect("a name");
        let mut buffer = [0; 100];
        let read = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut buffer));
        match read.await {
            Ok(count) => String::from_utf8_lossy(&buffer[..count]).into_owned(),
            Err(error) => error.to_string(),
        }
    })
};

/// Who a certificate is of, and whether it may issue others.
fn subject(name: &str, is_ca: bool) -> CertificateParams {
    let names: &[String] = if is_ca {
        &[]
    } else {
        &["localhost".to_owned()]
    };
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

/// Authorities whose keys the attacker has not. To check a signature of this kind takes longest.
fn authorities() -> Roots {
    let roots = (0..8).map(|number| {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
        let root = subject(&format!("authority {number}"), true).self_signed(&key);
        root.expect("a root").der().clone()
    });
    Roots::only(&roots.collect::<Vec<_>>())
}

/// The subject of a certificate, and who has issued it.
type Issued = [String; 2];

/// 60 of one name that issued each other: there are more ways than anyone can try.
fn mutual() -> Vec<Issued> {
    vec![["middle".to_owned(), "middle".to_owned()]; 60]
}

/// 100 of one name that an authority is said to have issued.
fn many() -> Vec<Issued> {
    vec![["middle".to_owned(), "authority 0".to_owned()]; 100]
}

/// Authorities are said to have issued each other.
fn crossed() -> Vec<Issued> {
    let name = |number: usize| format!("authority {number}");
    (0..14)
        .map(|number| [name(number / 2), name(number / 2 + 1)])
        .collect()
}

/// A certificate of `localhost` from the first of these, and theirs.
fn chain(issued: &[Issued]) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
    let of = |name: &str| Issuer::new(subject(name, true), &key);
    let own = KeyPair::generate().expect("a key");
    let leaf = subject("leaf", false).signed_by(&own, &of(&issued[0][0]));
    let mut chain = vec![leaf.expect("a certificate").der().clone()];
    for [name, issuer] in issued {
        let own = KeyPair::generate().expect("a key");
        let issuer = subject(name, true).signed_by(&own, &of(issuer));
        chain.push(issuer.expect("a certificate").der().clone());
    }
    (chain, PrivateKeyDer::Pkcs8(own.serialize_der().into()))
}

/// Shakes hands as a server with this chain.
fn show(target: &Target, issued: &[Issued]) -> String {
    let (chain, key) = chain(issued);
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate");
    let mut session = ServerConnection::new(Arc::new(config)).expect("a session");
    let mut stream = target.connect();
    while session.is_handshaking() && session.complete_io(&mut stream).is_ok() {}
    String::new()
}

/// Shakes hands as a server with a long chain, and gives the client these many tickets.
fn give_tickets(target: &Target, count: usize) -> String {
    let (chain, key) = chain(&many());
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate");
    config.send_tls13_tickets = count;
    let mut session = ServerConnection::new(Arc::new(config)).expect("a session");
    session.set_buffer_limit(None);
    let mut stream = target.connect();
    while session.is_handshaking() {
        session.complete_io(&mut stream).expect("a handshake");
    }
    session.writer().write_all(b"done").expect("room");
    let mut records = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut records).expect("room");
    }
    attack::send(&mut stream, &records);
    attack::read(&mut stream, usize::MAX);
    String::new()
}

/// Shakes hands as a client with this chain; says what comes of it.
fn show_as_client(target: &Target, issued: &[Issued]) -> String {
    let (chain, key) = chain(issued);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any))
        .with_client_auth_cert(chain, key)
        .expect("a certificate");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut session = ClientConnection::new(Arc::new(config), name).expect("a session");
    let mut stream = target.connect();
    let _ = session.writer().write_all(b"x");
    loop {
        if let Err(error) = session.complete_io(&mut stream) {
            return error.to_string();
        }
    }
}

/// Shakes hands ten times at once, with the curve that takes longest.
fn shake_hands(target: &Target) -> String {
    let config = trusting(CryptoProvider {
        kx_groups: vec![ring::kx_group::SECP384R1],
        ..ring::default_provider()
    });
    let peers = [(); 10].map(|()| {
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(config.clone(), name).expect("a session");
        (session, target.connect())
    });
    // Their greetings come together.
    let mut peers = peers.map(|(mut session, mut stream)| {
        session.write_tls(&mut stream).expect("a greeting");
        (session, stream)
    });
    for (session, stream) in &mut peers {
        while session.is_handshaking() {
            session.complete_io(stream).expect("a handshake");
        }
    }
    "answered".to_owned()
}

/// A client that takes every certificate.
fn trusting(provider: CryptoProvider) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any))
        .with_no_client_auth();
    Arc::new(config)
}

/// Takes every certificate.
#[derive(Debug)]
struct Any;

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
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

/// Shakes hands, lets `write` fill a buffer with records, sends it, and says whether the server
/// answers after that.
fn over_tls(target: &Target, write: fn(&mut ClientConnection, &mut Vec<u8>)) -> String {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut session =
        ClientConnection::new(trusting(ring::default_provider()), name).expect("a session");
    let mut stream = target.connect();
    while session.is_handshaking() {
        session.complete_io(&mut stream).expect("a handshake");
    }
    let mut records = Vec::new();
    write(&mut session, &mut records);
    attack::send(&mut stream, &records);
    if attack::read(&mut stream, 1).is_empty() {
        "the connection is over".to_owned()
    } else {
        "answered".to_owned()
    }
}

fn put(session: &mut ClientConnection, records: &mut Vec<u8>, data: &[u8]) {
    session.writer().write_all(data).expect("room");
    while session.wants_write() {
        session.write_tls(records).expect("room");
    }
}

/// A frame of RPC: a call of a method by its name, without arguments.
fn call(id: u16, name: &str) -> Vec<u8> {
    // MessagePack: 0, a number of 16 bits, a text of 8 bits of length, nil.
    let mut values = vec![0, 0xcd];
    values.extend(id.to_be_bytes());
    values.extend([0xd9, name.len() as u8]);
    values.extend(name.bytes());
    values.push(0xc0);
    framed(&values)
}

/// A frame of RPC: the call with this number is cancelled.
fn cancel(id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    framed(&[3, 0xcd, high, low])
}

fn framed(values: &[u8]) -> Vec<u8> {
    let mut frame = (values.len() as u32).to_be_bytes().to_vec();
    frame.extend(values);
    frame
}

pub const ROWS: &[Row] = &[
    Row {
        name: "20,000 updates of TLS keys",
        victim: Victim::Server(SECURE),
        attack: |target: Target| {
            over_tls(&target, |session, records| {
                for number in 0..20_000 {
                    session.refresh_traffic_keys().expect("TLS 1.3");
                    // Thirty in a row are too many for rustls.
                    let data: &[u8] = if number % 20 == 0 { b"x" } else { b"" };
                    put(session, records, data);
                }
            })
        },
        answer: "answered",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "100,000 TLS records of one byte",
        victim: Victim::Server(SECURE),
        attack: |target: Target| {
            over_tls(&target, |session, records| {
                for _ in 0..100_000 {
                    put(session, records, b"x");
                }
            })
        },
        answer: "answered",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "calls of 10,000 methods that there are not, among a hundred",
        victim: Victim::Server(CALLS),
        attack: |target: Target| {
            let mut stream = target.connect();
            let mut bytes = b"entwrpc\x01".to_vec();
            let name = "the method with the number ".repeat(9);
            for id in 0..10_000 {
                bytes.extend(call(id, &name));
            }
            attack::send(&mut stream, &bytes);
            match attack::read(&mut stream, 100_000).len() {
                0..100_000 => "the connection is over".to_owned(),
                _ => "answered".to_owned(),
            }
        },
        answer: "answered",
        max_callback: CALLBACK,
        max_memory: 16 * 1024,
    },
    Row {
        name: "300,000 calls that are cancelled at once",
        victim: Victim::Server(CALLS),
        attack: |target: Target| {
            let mut bytes = b"entwrpc\x01".to_vec();
            let name = "the method with the number 7";
            for _ in 0..10 {
                for id in 0..30_000 {
                    bytes.extend(call(id, name));
                    bytes.extend(cancel(id));
                }
            }
            bytes.extend(call(u16::MAX, "no such method"));
            let answers = attack::exchange(&target, &bytes);
            let last = answers.windows(3).any(|bytes| bytes == [0xcd, 0xff, 0xff]);
            if last {
                "answered"
            } else {
                "the connection is over"
            }
            .to_owned()
        },
        answer: "answered",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "certificates of 60 issuers that issued each other",
        victim: Victim::Client(TRUSTING),
        attack: |target: Target| show(&target, &mutual()),
        answer: "the TLS handshake failed: invalid peer certificate: ",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "certificates of 100 issuers that no authority issued",
        victim: Victim::Client(TRUSTING),
        attack: |target: Target| show(&target, &many()),
        answer: "the TLS handshake failed: invalid peer certificate: ",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "certificates of authorities by each other",
        victim: Victim::Client(TRUSTING),
        attack: |target: Target| show(&target, &crossed()),
        answer: "the TLS handshake failed: invalid peer certificate: ",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "a client's certificates of 60 issuers that issued each other",
        victim: Victim::Server(ASKING),
        attack: |target: Target| show_as_client(&target, &mutual()),
        answer: "received fatal alert: ",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "a client's certificates of 100 issuers",
        victim: Victim::Server(ASKING),
        attack: |target: Target| show_as_client(&target, &many()),
        answer: "received fatal alert: ",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "ten handshakes with P-384, by a server with an RSA key of 4096 bits",
        victim: Victim::Server(RSA),
        attack: |target: Target| shake_hands(&target),
        answer: "answered",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "10,000 tickets of a server with 100 certificates of issuers",
        victim: Victim::Client(READING),
        attack: |target: Target| give_tickets(&target, 10_000),
        answer: "the peer sent a TLS message that is too long",
        max_callback: CALLBACK,
        max_memory: 4096,
    },
];
