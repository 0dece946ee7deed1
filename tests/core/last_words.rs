//! What a peer says before it closes, while we still send.

use std::{cell::RefCell, rc::Rc};

use entwined::{
    protocol::{self, Connection, Lost, Protocol},
    simulation::Simulation,
    transport::memory,
};

use crate::streams::{read, write_all};

/// Sends without end, and keeps what it hears.
#[derive(Clone, Default)]
struct Sends {
    heard: Rc<RefCell<Vec<u8>>>,
    ended: Rc<RefCell<Option<String>>>,
}

impl Protocol for Sends {
    fn connection_made(&mut self, connection: &Connection) {
        connection.write(&[b'x'; 500_000]);
    }

    fn data_received(&mut self, connection: &Connection, data: &[u8]) {
        self.heard.borrow_mut().extend_from_slice(data);
        connection.write(b"more");
    }

    fn connection_lost(&mut self, why: &Lost) {
        *self.ended.borrow_mut() = Some(why.to_string());
    }
}

/// A failure to send told the end of the connection before what had arrived was read.
#[test]
fn what_a_peer_says_before_it_closes_is_heard_by_one_that_still_sends() {
    let (simulation, sends) = (Simulation::new(), Sends::default());
    let handle = simulation.handle();
    let (near, mut far) = memory::pair(&handle);
    protocol::start(&handle, near, sends.clone());
    let reason = vec![b'r'; 60_000];
    let said = reason.clone();
    let peer = handle.spawn(async move {
        read(&mut far, &mut [0; 10]).await.expect("bytes");
        write_all(&mut far, &said).await.expect("room");
    });
    simulation.run_until(peer).expect("no panic");
    simulation.advance(std::time::Duration::ZERO);
    assert_eq!(sends.heard.borrow().len(), reason.len());
    let ended = sends.ended.take().expect("an end");
    assert!(ended.contains("pipe"), "{ended}");
}

/// Answers the first bytes, and closes, with as much of its share left as the answer takes.
struct Answers;

impl Protocol for Answers {
    fn data_received(&mut self, connection: &Connection, data: &[u8]) {
        connection.write(b"enough");
        connection.close();
        // The share is 64 units. The read took one, and one for each 16 KiB; the answer takes one.
        let left = 64 - 1 - (data.len() / (16 * 1024)) as u32;
        assert!(connection.handle().spend(left - 1));
    }
}

/// What had arrived was not read before the stream was closed, so the kernel sent a reset.
#[test]
fn the_last_answer_arrives_though_the_share_is_used_up() {
    use std::{
        io::{Read, Write},
        net::TcpStream,
    };

    use entwined::transport::tcp;

    let reactor = entwined::Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let listener = tcp::listen(&handle, "127.0.0.1:0").expect("a port");
    let address = listener.local_address().tcp().expect("TCP");
    let mut peer = TcpStream::connect(address).expect("a connection");
    peer.write_all(&[b'x'; 100_000]).expect("room");
    let server = protocol::serve(listener, |_| Some(Answers));
    let heard = handle.defer_to_thread(move |_| {
        let mut heard = String::new();
        let ended = peer.read_to_string(&mut heard);
        Ok::<_, String>((heard, ended.is_ok(), peer))
    });
    let main = async move {
        let (heard, ended, peer) = heard.await.expect("a peer");
        let closed = server.closed();
        drop(server);
        closed.await.expect("it is closed");
        let reset = peer.take_error().expect("a socket");
        Ok::<_, entwined::reactor::RunError>((heard, ended, reset.map(|error| error.kind())))
    };
    let heard = reactor.block_on(main).expect("a run");
    assert_eq!(heard, ("enough".to_owned(), true, None));
}

/// Notes what it hears, and asks to be called when all has been read.
#[derive(Clone, Default)]
struct Listens {
    notes: Rc<RefCell<Vec<String>>>,
    panics: bool,
}

impl Listens {
    fn ask(&self, connection: &Connection, left: u32) {
        let (this, asking) = (self.clone(), connection.clone());
        connection.when_quiet(move || {
            assert!(!this.panics, "as wanted");
            this.notes.borrow_mut().push(format!("quiet {left}"));
            if left > 0 {
                this.ask(&asking, left - 1);
            }
        });
        self.notes.borrow_mut().push("asked".to_owned());
    }
}

impl Protocol for Listens {
    fn connection_made(&mut self, connection: &Connection) {
        self.ask(connection, 1);
    }

    fn data_received(&mut self, _: &Connection, data: &[u8]) {
        let heard = String::from_utf8_lossy(data).into_owned();
        self.notes.borrow_mut().push(heard);
    }

    fn connection_lost(&mut self, why: &Lost) {
        self.notes.borrow_mut().push(why.to_string());
    }
}

#[test]
fn a_protocol_is_told_when_all_that_has_arrived_has_been_read() {
    for (panics, expected) in [
        (
            false,
            &["asked", "hello", "quiet 1", "asked", "quiet 0"] as &[_],
        ),
        (true, &["asked", "hello", "the protocol panicked"]),
    ] {
        let simulation = Simulation::new();
        let handle = simulation.handle();
        let (near, mut far) = memory::pair(&handle);
        let said = handle.spawn(async move { write_all(&mut far, b"hello").await.map(|()| far) });
        let _far = simulation.run_until(said).expect("no panic").expect("room");
        let listens = Listens {
            panics,
            ..Listens::default()
        };
        protocol::start(&handle, near, listens.clone());
        simulation.drive();
        assert_eq!(*listens.notes.borrow(), expected);
    }
}
