//! Tests when a server has ended: it accepts no more connections, and its last connection is gone.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    task::{Context, Poll},
};

use entwined::{Handle, Standalone, protocol::{self, Echo}, simulation::Simulation, transport::{ Address, Listen, listen_once, memory::{self, MemoryStream}, tcp, }};
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
    let (ended, forgotten) = (server.ended(), server.ended());
    forgotten.cancel();
    simulation.drive();
    assert!(!ended.is_ready());
    assert_eq!(server.connections(), 1);
    drop(far);
    simulation.drive();
    assert_eq!(ended.take().expect("it has ended"), Ok(()));
    assert_eq!(server.connections(), 0);
    assert_eq!(
        simulation.run_until(server.ended()),
        Ok(()),
        "also if it is awaited later"
    );
    forgotten.detach();
}

#[test]
fn a_server_that_was_dropped_ends_with_its_last_connection() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, far) = memory::pair(&handle);
    let server = protocol::serve(listen_once(&handle, near), |_: &_| Some(Echo));
    let ended = server.ended();
    simulation.drive();
    drop(server);
    simulation.drive();
    assert!(!ended.is_ready());
    drop(far);
    simulation.drive();
    assert_eq!(ended.take().expect("it has ended"), Ok(()));
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
    let ended = server.ended();
    assert!(!ended.is_ready());
    drop(server);
    handle
        .defer({
            let handle = handle.clone();
            async move {
                ended.await?;
                tcp::listen(&handle, address).map_err(|error| error.to_string())?;
                handle.stop().map_err(|error| error.to_string())
            }
        })
        .detach();
    reactor.run().expect("it ran");
}

#[test]
fn a_server_whose_listener_fails_ends_with_the_reason() {
    let simulation = Simulation::new();
    for failure in [None, Some(io::ErrorKind::AddrNotAvailable)] {
        let handle = simulation.handle();
        let server = protocol::serve(Over { handle, failure }, |_: &_| Some(Echo));
        let expected = failure.map_or(Ok(()), |kind| Err(io::Error::from(kind).to_string()));
        assert_eq!(simulation.run_until(server.ended()), expected);
    }
}

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}
