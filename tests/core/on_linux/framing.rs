//! Frames that another program reads.

use std::{cell::RefCell, net::Ipv4Addr, rc::Rc};

use entwined::{
    Standalone,
    framing::Lines,
    process,
    protocol::{self, Connection, FrameReceiver, Framed},
    transport::tcp,
};

/// Greets like an SSH server (RFC 4253, 4.2), and receives the client's greeting.
struct Banner(Rc<RefCell<Vec<String>>>);

impl FrameReceiver<Lines> for Banner {
    fn connection_made(&mut self, connection: &Connection) {
        connection.write(b"SSH-2.0-Entwined\r\n");
    }

    fn frame_received(&mut self, connection: &Connection, _: &mut Lines, frame: &[u8]) {
        self.0
            .borrow_mut()
            .push(String::from_utf8_lossy(frame).into_owned());
        connection.close();
    }
}

#[test]
fn ssh_keyscan_reads_a_banner() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let greetings = Rc::new(RefCell::new(Vec::new()));
    let listener = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener
        .local_address()
        .tcp()
        .expect("TCP")
        .port()
        .to_string();
    let heard = greetings.clone();
    let _server = protocol::serve(listener, move |_| {
        Some(Framed::new(Lines::new(255), Banner(heard.clone())))
    });
    let scan = process::Command::new("ssh-keyscan").args(["-T", "10", "-p", &port, "127.0.0.1"]);
    handle.clone().spawn(async move {
        let output = scan
            .output(&handle, 10_000)
            .await
            .expect("apt-get install openssh-client");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("SSH-2.0-Entwined"), "{said}");
        handle.stop();
    });
    reactor.run().expect("a run");
    let greetings = greetings.borrow();
    assert!(
        !greetings.is_empty() && greetings.iter().all(|line| line.starts_with("SSH-2.0-")),
        "{greetings:?}"
    );
}
