//! A reactor in a variable of its thread, which goes with the thread.

use std::{cell::RefCell, net::Ipv4Addr, thread, time::Duration};

use entwined::{
    Standalone,
    protocol::{self, Connection, Echo},
    reactor::{HostCall, Interleave},
    transport::{memory, tcp},
};

/// What a program may keep: a reactor, and connections on it.
struct App<R> {
    _connection: Connection,
    _reactor: R,
}

/// The library's own variables of the thread are gone by then. A panic there ends the process.
#[test]
fn a_reactor_that_goes_with_its_thread_goes_in_peace() {
    thread_local! {
        static APP: RefCell<Option<App<Interleave>>> = const { RefCell::new(None) };
    }
    let ended = thread::spawn(|| {
        APP.with(|app| {
            // The variable is there before the library's.
            let mut app = app.borrow_mut();
            let (sender, jobs) = std::sync::mpsc::channel::<HostCall>();
            let reactor = Interleave::new(move |job| drop(sender.send(job))).expect("a reactor");
            let handle = reactor.handle();
            reactor.start().expect("a run");
            let listener = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a port");
            protocol::serve(listener, |_: &_| Some(Echo)).keep();
            let (near, far) = memory::pair(&handle);
            let connection = protocol::start(&handle, near, Echo);
            handle.spawn(async move {
                let _far = far;
                std::future::pending::<()>().await;
            });
            jobs.recv_timeout(Duration::from_secs(10)).expect("a slice")();
            *app = Some(App {
                _connection: connection,
                _reactor: reactor,
            });
        });
    });
    ended.join().expect("no panic");
}

#[test]
fn a_standalone_reactor_that_goes_with_its_thread_goes_in_peace() {
    thread_local! {
        static APP: RefCell<Option<App<Standalone>>> = const { RefCell::new(None) };
    }
    let ended = thread::spawn(|| {
        APP.with(|app| {
            let mut app = app.borrow_mut();
            let reactor = Standalone::new().expect("a reactor");
            let handle = reactor.handle();
            let (near, far) = memory::pair(&handle);
            let connection = protocol::start(&handle, near, Echo);
            handle.spawn(async move {
                let _far = far;
                std::future::pending::<()>().await;
            });
            reactor.turn(Some(Duration::ZERO)).expect("a turn");
            *app = Some(App {
                _connection: connection,
                _reactor: reactor,
            });
        });
    });
    ended.join().expect("no panic");
}
