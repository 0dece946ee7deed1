//! Policies about the users of Unix sockets.

use std::{future::poll_fn, io};

use entwined::{Standalone, policy::PerPeer, transport::unix};

#[test]
fn a_user_of_a_unix_socket_is_one_peer() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let peers = PerPeer::new(1);
    let task = handle.clone().spawn(async move {
        let (one, _a) = unix::pair(&handle).expect("two streams");
        let (two, _b) = unix::pair(&handle).expect("two streams");
        let (mut one, mut two) = (peers.wrap(one), peers.wrap(two));
        use entwined::transport::ByteStream as _;
        poll_fn(|cx| one.poll_established(cx))
            .await
            .expect("the first");
        let refused = poll_fn(|cx| two.poll_established(cx))
            .await
            .expect_err("the second");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        drop((one, two));
        assert_eq!((peers.peers(), peers.refused()), (0, 1));
        handle.stop();
    });
    reactor.run().expect("a run");
    task.take().expect("its end").expect("no panic");
}
