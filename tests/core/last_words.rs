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
