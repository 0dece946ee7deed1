//! The servers that are compared. Each echoes with a buffer of 64 KiB per connection or per thread.

use std::{
    collections::HashMap,
    future::poll_fn,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
};

use entwined::{
    Standalone,
    protocol::{self, Echo},
    tls::{Acceptor, development},
    transport::{ByteStream, Listen, tcp},
};
use mio::{Events, Interest, Poll, Token};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::{LocalSet, spawn_local},
};

use crate::Outcome;

const BUFFER: usize = 64 * 1024;

pub fn run(kind: &str) -> Outcome {
    match kind {
        "mio" => bare(),
        "tokio" => tokio_echo(None),
        "tokio-tls" => tokio_echo(Some(server_config()?)),
        "entwined-protocol" => entwined_protocol(|listener| listener.boxed()),
        "entwined-tls-protocol" => {
            let acceptor = Acceptor::from_config(server_config()?)?;
            entwined_protocol(move |listener| acceptor.listen(listener).boxed())
        }
        "entwined-stream" => entwined_stream(None),
        "entwined-tls-stream" => entwined_stream(Some(Acceptor::from_config(server_config()?)?)),
        other => Err(format!("there is no server {other}").into()),
    }
}

fn address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn announce(address: impl std::fmt::Display) {
    println!("{address}");
}

/// The same configuration for both libraries.
fn server_config() -> Outcome<Arc<ServerConfig>> {
    let (chain, key) = development::certificate(["localhost"])?;
    let builder =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()?
        .with_no_client_auth();
    Ok(Arc::new(builder.with_single_cert(chain, key)?))
}

fn entwined_protocol(
    wrapped: impl FnOnce(entwined::transport::Listener) -> entwined::transport::BoxedListener,
) -> Outcome {
    let reactor = Standalone::new()?;
    let listener = wrapped(tcp::listen(&reactor.handle(), address())?);
    announce(listener.local_address());
    let _server = protocol::serve(listener, |_| Some(Echo));
    Ok(reactor.run()?)
}

fn entwined_stream(acceptor: Option<Acceptor>) -> Outcome {
    let reactor = Standalone::new()?;
    let handle = reactor.handle();
    let listener = tcp::listen(&handle, address())?;
    announce(listener.local_address());
    let spawner = handle.clone();
    handle.spawn(async move {
        while let Ok(stream) = listener.accept().await {
            match &acceptor {
                None => drop(spawner.spawn(echo(stream))),
                Some(acceptor) => drop(spawner.spawn(echo(acceptor.accept(stream)))),
            }
        }
    });
    Ok(reactor.run()?)
}

async fn echo(mut stream: impl ByteStream) {
    let mut buffer = Vec::new();
    loop {
        // Holds no buffer while there is nothing to read.
        let mut own = std::mem::take(&mut buffer);
        let read = poll_fn(|cx| {
            own.resize(BUFFER, 0);
            let polled = Pin::new(&mut stream).poll_read(cx, &mut own);
            if polled.is_pending() {
                own = Vec::new();
            }
            polled
        });
        let Ok(count @ 1..) = read.await else { return };
        let mut sent = 0;
        while sent < count {
            match poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, &own[sent..count])).await {
                Ok(some @ 1..) => sent += some,
                _ => return,
            }
        }
        if poll_fn(|cx| Pin::new(&mut stream).poll_flush(cx))
            .await
            .is_err()
        {
            return;
        }
        buffer = own;
    }
}

fn tokio_echo(tls: Option<Arc<ServerConfig>>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = tokio::net::TcpListener::bind(address()).await?;
        announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            match &tls {
                None => {
                    spawn_local(tokio_one(stream));
                }
                Some(config) => {
                    let acceptor = tokio_rustls::TlsAcceptor::from(config.clone());
                    spawn_local(async move {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            tokio_one(stream).await;
                        }
                    });
                }
            }
        }
    })
}

/// The same as tokio's own example.
async fn tokio_one(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// Runs a plain loop with nothing around it: one buffer, and unsent data is kept.
fn bare() -> Outcome {
    const LISTENER: Token = Token(usize::MAX);
    let mut poll = Poll::new()?;
    let mut listener = mio::net::TcpListener::bind(address())?;
    announce(listener.local_addr()?);
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut connections: HashMap<Token, (mio::net::TcpStream, Vec<u8>)> = HashMap::new();
    let mut buffer = vec![0; BUFFER];
    let mut next = 0;
    loop {
        if let Err(error) = poll.poll(&mut events, None) {
            if error.kind() == std::io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error.into());
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    poll.registry().register(
                        &mut stream,
                        Token(next),
                        Interest::READABLE | Interest::WRITABLE,
                    )?;
                    connections.insert(Token(next), (stream, Vec::new()));
                    next += 1;
                }
                continue;
            }
            let Some((stream, held)) = connections.get_mut(&event.token()) else {
                continue;
            };
            if !serve(stream, held, &mut buffer) {
                connections.remove(&event.token());
            }
        }
    }
}

/// Returns false when the connection is over.
fn serve(stream: &mut mio::net::TcpStream, held: &mut Vec<u8>, buffer: &mut [u8]) -> bool {
    use std::io::ErrorKind::WouldBlock;
    loop {
        while !held.is_empty() {
            match stream.write(held) {
                Ok(count) => drop(held.drain(..count)),
                Err(error) => return error.kind() == WouldBlock,
            }
        }
        let count = match stream.read(buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return error.kind() == WouldBlock,
        };
        match stream.write(&buffer[..count]) {
            Ok(written) => held.extend_from_slice(&buffer[written..count]),
            Err(error) if error.kind() == WouldBlock => held.extend_from_slice(&buffer[..count]),
            Err(_) => return false,
        }
        // A short read: there is no more for now.
        if count < buffer.len() && held.is_empty() {
            return true;
        }
    }
}
