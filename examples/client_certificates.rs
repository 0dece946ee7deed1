//! TLS whose clients show certificates. The server knows each client by its certificate's file.
//!
//! ```text
//! cargo run --features tls --example client_certificates -- server.pem alice.pem
//! openssl s_client -quiet -connect ADDRESS -cert alice.pem -key alice.key
//! ```

use std::{env, error::Error};

use entwined::protocol::{self, Connection, Protocol};
use entwined::tls::rustls::pki_types::{CertificateDer, pem::PemObject};
use entwined::tls::{Acceptor, ClientCertificates, Identity, Roots, TlsStream};
use entwined::{Standalone, transport::tcp};

/// The certificate of each client, and its file.
#[derive(Clone)]
struct Known(Vec<(CertificateDer<'static>, String)>);

impl Protocol for Known {
    /// The handshake is complete, so the client has the key of one of these certificates.
    fn connection_made(&mut self, connection: &Connection) {
        let shown = connection.ask(|tls: &TlsStream| tls.peer_certificates().map(<[_]>::to_vec));
        let shown = shown.flatten().unwrap_or_default();
        let client = self.0.iter().find(|(own, _)| shown.first() == Some(own));
        let name = client.map_or("nobody", |(_, name)| name);
        connection.write_all(&[b"hello, ", name.as_bytes(), b"\n"]);
        connection.close();
    }

    fn data_received(&mut self, _: &Connection, _: &[u8]) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut files = env::args().skip(1);
    let server = files.next().ok_or("which files?")?;
    let mut known = Vec::new();
    for file in files {
        known.push((CertificateDer::from_pem_file(&file)?, file));
    }
    let roots: Vec<_> = known.iter().map(|(own, _)| own.clone()).collect();
    let acceptor = Acceptor::builder(Identity::from_pem_files(&server, &server)?)
        .client_certificates(ClientCertificates::Required(Roots::only(&roots)))
        .build()?;
    let reactor = Standalone::new()?;
    let listener = acceptor.listen(tcp::listen(&reactor.handle(), "127.0.0.1:0")?);
    let server = protocol::serve(listener, move |_| Some(Known(known.clone())));
    println!("listening on {}", server.local_address());
    Ok(reactor.run()?)
}
