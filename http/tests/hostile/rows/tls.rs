//! What a peer sends to servers of other protocols: TLS, RPC.

use std::{io::Write, sync::Arc};

use entwined::{
    Handle,
    protocol::{self, Echo},
    rpc::{self, Failure, Methods},
    tls::{
        Acceptor, development,
        rustls::{
            ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme,
            client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
            crypto::ring,
            pki_types::{CertificateDer, ServerName, UnixTime},
        },
    },
    transport::tcp,
};

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
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let mut session = ClientConnection::new(Arc::new(config), name).expect("a session");
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
];
