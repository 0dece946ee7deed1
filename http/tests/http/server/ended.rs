//! Tests when a server has ended: it accepts no more connections, and its last connection is gone.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    task::{Context, Poll},
};

use entwined::{
    Handle, Standalone,
    protocol::{self, Echo},
    server::AcceptError,
    simulation::Simulation,
    transport::{
        Address, Listen, listen_once,
        memory::{self, MemoryStream},
        tcp,
    },
};
use entwined_http::{self as http, Router};

/// A listener that fails, or has no more peers.
struct Over {
    handle: Handle,
    failure: Option<io::ErrorKind>,
}

impl Listen for Over {
    type Stream = MemoryStream;

    fn poll_accept(&self, _: &mut Context<'_>) -> Poll<Option<io::Result<MemoryStream>>> {
        Poll::Ready(self.failure.map(|kind| Err(kind.into())))
    }

    fn local_address(&self) -> Address {
        Address::Unknown
    }

    fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

#[test]
fn a_server_of_one_peer_ends_with_its_connection() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, far) = memory::pair(&handle);
    let server = http::serve(listen_once(&handle, near), Router::new());
    let (ended, forgotten) = (server.closed(), server.closed());
    forgotten.cancel();
    simulation.drive();
    assert!(!ended.is_ready());
    assert_eq!(server.connections(), 1);
    drop(far);
    simulation.drive();
    ended.take().expect("it has closed").expect("no failure");
    assert_eq!(server.connections(), 0);
    simulation
        .run_until(server.closed())
        .expect("also if it is awaited later");
    drop(forgotten);
}

#[test]
fn a_server_that_was_dropped_ends_with_its_last_connection() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, far) = memory::pair(&handle);
    let server = protocol::serve(listen_once(&handle, near), |_| Some(Echo));
    let ended = server.closed();
    simulation.drive();
    drop(server);
    simulation.drive();
    assert!(!ended.is_ready());
    drop(far);
    simulation.drive();
    ended.take().expect("it has closed").expect("no failure");
}

#[test]
fn a_server_without_connections_ends_when_it_is_dropped_and_frees_its_address() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let server = http::serve(
        tcp::listen(&handle, local()).expect("a port"),
        Router::new(),
    );
    let address = server.local_address().tcp().expect("TCP");
    let ended = server.closed();
    assert!(!ended.is_ready());
    drop(server);
    let main = async move {
        ended.await?;
        tcp::listen(&handle, address)?;
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    reactor.block_on(main).expect("the address is free again");
}

#[test]
fn a_server_whose_listener_fails_ends_with_the_reason() {
    let simulation = Simulation::new();
    for failure in [None, Some(io::ErrorKind::AddrNotAvailable)] {
        let handle = simulation.handle();
        let server = protocol::serve(Over { handle, failure }, |_| Some(Echo));
        let closed = simulation.run_until(server.closed());
        let reason = match closed {
            Ok(()) => None,
            Err(AcceptError::Listener(error)) => Some(error.kind()),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(reason, failure);
    }
}

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}
