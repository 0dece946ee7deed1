//! Attempts to connect: behaviour 40.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use super::{
    life::nobody_listens,
    rig::{Rig, ms},
};
use entwined::transport::{ConnectError, tcp};

pub(super) fn b40_connect_refused_says_so_over_tcp() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    rig.complete(async move {
        let nobody = nobody_listens(&handle);
        let error = tcp::connect(&handle, nobody)
            .await
            .expect_err("nobody listens there");
        assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
        assert!(error.to_string().contains(&nobody.to_string()), "{error}");
    });
}

pub(super) fn b40_connect_unreachable_says_so_over_tcp() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    rig.complete(async move {
        // The loopback's broadcast address: TCP has no route to it.
        let error = tcp::connect(&handle, ([127, 255, 255, 255], 9))
            .await
            .expect_err("no such host");
        assert!(
            matches!(error, ConnectError::Unreachable { .. }),
            "{error:?}"
        );
    });
}

/// A listener that answers nobody, because its backlog is full. Returned with the connections that
/// fill it.
fn silent_listener() -> (SocketAddr, impl Sized) {
    let listener = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    );
    let listener = listener.expect("a socket");
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    rustix::net::bind(&listener, &any).expect("a free port");
    rustix::net::listen(&listener, 0).expect("it listens");
    let listener = std::net::TcpListener::from(listener);
    let address = listener.local_addr().expect("an address");
    let mut filling = Vec::new();
    // Connect until an attempt gets no answer. How many connections the kernel accepts beyond the
    // backlog is its own choice.
    while let Ok(stream) = TcpStream::connect_timeout(&address, ms(100)) {
        filling.push(stream);
        assert!(
            filling.len() < 100,
            "a backlog of 0 accepts {} connections",
            filling.len()
        );
    }
    (address, (listener, filling))
}

pub(super) fn b40_connect_timed_out_says_so_over_tcp() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    rig.complete(async move {
        let (address, _silence) = silent_listener();
        let sources = handle.metrics().sources;
        let start = handle.now();
        let result = handle.timeout(ms(50), tcp::connect(&handle, address)).await;
        assert!(result.is_err(), "there was an answer: {result:?}");
        assert!(handle.now() - start >= ms(50));
        assert_eq!(
            handle.metrics().sources,
            sources,
            "the attempt is still watched"
        );
    });
}

pub(super) fn b40_connect_cancelled_before_or_during_leaves_nothing_over_tcp() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    rig.complete(async move {
        let (address, _silence) = silent_listener();
        let nobody = nobody_listens(&handle);
        let before = (handle.metrics().sources, handle.metrics().tasks);
        // Before the first poll, and while the attempt is in progress.
        for wait in [Duration::ZERO, ms(5)] {
            for address in [address, nobody] {
                let connecting = handle.clone();
                let task =
                    handle.spawn(async move { tcp::connect(&connecting, address).await.map(drop) });
                if !wait.is_zero() {
                    handle.sleep(wait).await;
                }
                task.cancel();
            }
        }
        drop(tcp::connect(&handle, address));
        handle.sleep(ms(5)).await;
        assert_eq!(
            (handle.metrics().sources, handle.metrics().tasks),
            before,
            "sources and tasks"
        );
    });
}

#[cfg(feature = "tls")]
pub(super) fn b40_a_handshake_that_fails_or_takes_too_long_says_so_over_tls() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    rig.complete(async move {
        let connector = entwined::tls::Connector::builder()
            .build()
            .expect("a connector");
        let (listener, address) = super::carrier::tcp_listener(&handle);
        let stream = tcp::connect(&handle, address).await.expect("a connection");
        let mut stream: Box<dyn entwined::transport::ByteStream> =
            Box::new(connector.connect(stream, "localhost").expect("a name"));
        let silent = listener.accept().await.expect("a connection");
        let late = stream.established(&handle, ms(20)).await;
        let late = late.expect_err("nobody shook hands");
        assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
        // A peer that uses another protocol.
        silent.set_nodelay(true).expect("an option");
        let greeting = handle.spawn(async move {
            let mut silent = silent;
            let greeting = b"220 localhost ESMTP\r\n";
            std::future::poll_fn(|cx| {
                futures_io::AsyncWrite::poll_write(std::pin::Pin::new(&mut silent), cx, greeting)
            })
            .await
            .expect("written");
            silent
        });
        let error = stream.established(&handle, ms(20_000)).await;
        let error = error.expect_err("that was not TLS");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
        drop(greeting.await);
    });
}
