//! The load: written with tokio, the same for every server.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use rustls::{ClientConfig, client::danger, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    task::LocalSet,
};
use tokio_rustls::TlsConnector;

use crate::Outcome;

trait Both: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

fn runtime() -> Outcome<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

async fn connect(address: SocketAddr, tls: bool) -> Outcome<Box<dyn Both>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    if !tls {
        return Ok(Box::new(stream));
    }
    let connector = TlsConnector::from(Arc::new(client_config()?));
    Ok(Box::new(
        connector
            .connect(ServerName::try_from("localhost")?, stream)
            .await?,
    ))
}

/// Sends messages and waits for their echoes; returns their number.
pub fn echo(
    address: SocketAddr,
    tls: bool,
    size: usize,
    connections: usize,
    time: Duration,
) -> Outcome<u64> {
    let (count, going) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(true)));
    let set = LocalSet::new();
    let runtime = runtime()?;
    for _ in 0..connections {
        let (count, going) = (count.clone(), going.clone());
        set.spawn_local(async move {
            let mut stream = connect(address, tls).await.expect("a server");
            let message = vec![b'x'; size];
            let mut answer = vec![0; size];
            let (mut reader, mut writer) = tokio::io::split(&mut stream);
            while going.get() {
                let (sent, received) =
                    tokio_join(writer.write_all(&message), reader.read_exact(&mut answer)).await;
                sent.and(received.map(drop)).expect("an echo");
                count.set(count.get() + 1);
            }
        });
    }
    set.block_on(&runtime, async {
        tokio::time::sleep(time).await;
        going.set(false);
    });
    Ok(count.get())
}

/// Runs both at once: a large message may not fit into the buffers in between.
async fn tokio_join<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(|cx| {
        use std::task::Poll;
        if first.is_none()
            && let Poll::Ready(done) = one.as_mut().poll(cx)
        {
            first = Some(done);
        }
        if second.is_none()
            && let Poll::Ready(done) = other.as_mut().poll(cx)
        {
            second = Some(done);
        }
        if first.is_some() && second.is_some() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    (first.expect("done"), second.expect("done"))
}

/// Opens connections, sends one echo on each, and holds them.
pub fn hold(address: SocketAddr, tls: bool, connections: usize) -> Outcome<impl Sized> {
    let runtime = runtime()?;
    let held = runtime.block_on(async {
        let mut held = Vec::new();
        for _ in 0..connections {
            let mut stream = connect(address, tls).await?;
            stream.write_all(&[b'x'; 16]).await?;
            stream.read_exact(&mut [0; 16]).await?;
            held.push(stream);
        }
        Outcome::Ok(held)
    })?;
    Ok((held, runtime))
}

fn client_config() -> Outcome<ClientConfig> {
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.dangerous();
    Ok(builder
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth())
}

/// The certificate does not matter here.
#[derive(Debug)]
struct Anybody;

impl danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<danger::ServerCertVerified, rustls::Error> {
        Ok(danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<danger::HandshakeSignatureValid, rustls::Error> {
        Ok(danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<danger::HandshakeSignatureValid, rustls::Error> {
        Ok(danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
