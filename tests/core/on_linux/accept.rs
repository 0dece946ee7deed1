//! Accepting where that is forbidden.

use std::{future::poll_fn, net::TcpStream, time::Duration};

use entwined::{Standalone, reactor::RunError, transport::tcp};

use super::forbidden;

#[test]
fn a_listener_that_may_not_accept_does_not_keep_the_thread_busy() {
    // EACCES. The connection stays where it is, and the listener readable.
    let name = "accept::a_listener_that_may_not_accept_does_not_keep_the_thread_busy";
    if !forbidden("accept4", 13, name) {
        return;
    }
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let listener = tcp::listen(&handle, "127.0.0.1:0").expect("a listener");
    let address = listener.local_address().tcp().expect("TCP");
    let _peer = TcpStream::connect(address).expect("a connection");
    let turns = reactor.block_on(async move {
        let accepted = poll_fn(|cx| listener.poll_accept(cx));
        let accepted = handle.timeout(Duration::from_millis(500), accepted).await;
        assert!(accepted.is_err(), "nothing is accepted");
        Ok::<_, RunError>(handle.metrics().turns)
    });
    let turns = turns.expect("a run without a panic");
    assert!(turns < 100, "{turns} turns");
}
