//! The helper thread of `Interleave`, where it is not allowed to wait.

use std::{
    net::UdpSocket,
    sync::mpsc,
    time::{Duration, Instant},
};

use entwined::{
    reactor::{HostCall, Interleave},
    transport::udp,
};

use super::forbidden;

/// poll(2) also fails for a moment, when the kernel has no memory. The thread ended, and with it
/// the network of a program that went on.
#[test]
fn a_helper_that_may_not_wait_looks_again() {
    const NAME: &str = "interleave::a_helper_that_may_not_wait_looks_again";
    // ENOMEM.
    if !forbidden("ppoll", 12, NAME) {
        return;
    }
    let (sender, jobs) = mpsc::channel::<HostCall>();
    let network = Interleave::new(move |job| drop(sender.send(job))).expect("a reactor");
    network.start().expect("a run");
    let handle = network.handle();
    let socket = udp::bind(&handle, "127.0.0.1:0").expect("a port");
    let to = socket.local_address().udp().expect("UDP");
    let peer = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let (stopping, sending) = (handle.clone(), peer.try_clone().expect("a socket"));
    let received = handle.spawn(async move {
        let mut buffer = [0; 16];
        for _ in 0..3 {
            socket.receive(&mut buffer).await.expect("a datagram");
            // The next one comes when the loop is at rest.
            let later = sending.try_clone().expect("a socket");
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(50));
                later.send_to(b"later", to).expect("sent");
            });
        }
        stopping.stop();
    });
    peer.send_to(b"first", to).expect("sent");
    let (start, mut slices) = (Instant::now(), 0);
    while handle.is_running() {
        let left = Duration::from_secs(20).saturating_sub(start.elapsed());
        jobs.recv_timeout(left).expect("the network is served")();
        slices += 1;
    }
    assert!(received.is_ready());
    assert!(
        slices < 500,
        "{slices} slices: it is at rest most of the time"
    );
}
