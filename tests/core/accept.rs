//! Accepting: what panics in the middle of it, and what is told of its end.

use std::{
    cell::Cell,
    io,
    net::TcpStream,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use entwined::{
    Handle, Standalone,
    deferred::Interrupted,
    protocol::{self, Connection, Protocol},
    reactor::Report,
    server::AcceptError,
    transport::{Address, Listen, Stream, tcp},
};

/// Counts the panics that are reported.
fn panics(handle: &Handle) -> (Rc<Cell<u32>>, entwined::reactor::Observer) {
    let count = Rc::new(Cell::new(0));
    let seen = count.clone();
    let observer = handle.observe(move |report| {
        if let Report::Panic { .. } = report {
            seen.set(seen.get() + 1);
        }
    });
    (count, observer)
}

struct Stopping(Handle);

impl Protocol for Stopping {
    fn connection_made(&mut self, _: &Connection) {
        self.0.stop();
    }

    fn data_received(&mut self, _: &Connection, _: &[u8]) {}
}

#[test]
fn a_panic_in_the_wrapper_of_a_stream_is_reported_and_costs_that_connection() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let (count, _observer) = panics(&handle);
    let listener = tcp::listen(&handle, "127.0.0.1:0").expect("a listener");
    let address = listener.local_address().tcp().expect("TCP");
    let left = Cell::new(3);
    let wrapped = listener.map_stream(move |stream| {
        left.set(left.get() - 1);
        assert!(left.get() == 0, "in a wrapper");
        stream
    });
    let own = handle.clone();
    let _server = protocol::serve(wrapped, move |_| Some(Stopping(own.clone())));
    let peers = [(); 3].map(|()| TcpStream::connect(address).expect("a connection"));
    reactor.run().expect("it runs");
    assert_eq!(count.get(), 2);
    drop(peers);
}

/// A source of connections that is broken.
struct Broken(Handle);

impl Listen for Broken {
    type Stream = Stream;

    fn poll_accept(&self, _: &mut Context<'_>) -> Poll<Option<io::Result<Stream>>> {
        panic!("in a listener")
    }

    fn local_address(&self) -> Address {
        Address::Unknown
    }

    fn handle(&self) -> Handle {
        self.0.clone()
    }
}

struct Nothing;

impl Protocol for Nothing {
    fn data_received(&mut self, _: &Connection, _: &[u8]) {}
}

#[test]
fn a_listener_that_panics_each_time_is_closed_and_its_server_told() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let (count, _observer) = panics(&handle);
    let server = protocol::serve(Broken(handle.clone()), |_| Some(Nothing));
    let closed = server.closed();
    let ended = reactor.block_on(async move {
        Ok::<_, Box<dyn std::error::Error>>(handle.timeout(Duration::from_secs(20), closed).await?)
    });
    let error = ended.expect("in time").expect_err("it panics");
    assert!(matches!(error, AcceptError::Panicked), "{error}");
    assert_eq!(count.get(), 16);
}

#[test]
fn who_waits_for_a_servers_end_hears_of_the_end_of_the_run() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let listener = tcp::listen(&handle, "127.0.0.1:0").expect("a listener");
    let server = protocol::serve(listener, |_| Some(Nothing));
    let closed = server.closed();
    handle.call_soon({
        let handle = handle.clone();
        move || handle.stop()
    });
    reactor.run().expect("it runs");
    let ended = closed.take().expect("the run is over");
    assert!(matches!(
        ended,
        Err(AcceptError::Interrupted(Interrupted::Abandoned))
    ));
}

/// It was told in the next run only, if there was one.
#[test]
fn a_servers_end_can_be_asked_for_between_two_runs() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let listener = tcp::listen(&handle, "127.0.0.1:0").expect("a listener");
    let server = protocol::serve(listener, |_| Some(Nothing));
    handle.call_soon_with(entwined::Handle::stop);
    reactor.run().expect("it runs");
    let ended = server.closed().take().expect("it has ended");
    assert!(matches!(
        ended,
        Err(AcceptError::Interrupted(Interrupted::Cancelled))
    ));
}

/// Who waited for it waited for ever.
#[test]
fn the_end_of_a_server_is_told_though_its_reactor_goes_before_the_first_turn() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let listener = tcp::listen(&handle, "127.0.0.1:0").expect("a listener");
    let server = protocol::serve(listener, move |_| Some(Stopping(handle.clone())));
    let closed = server.closed();
    drop(reactor);
    let told = closed.take().expect("it is told");
    assert!(matches!(told, Err(AcceptError::Interrupted(_))), "{told:?}");
}
