//! Datagrams and Unix sockets: data transfer and socket files.

use std::{
    cell::{Cell, RefCell},
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use entwined::{
    deferred::{Deferred, Interrupted, Resolver},
    protocol::{self, DatagramProtocol, DatagramTransport, Lost, Sending},
    transport::{Address, Batch, DatagramSocket, UnixAddress, udp},
};

use crate::run::run;

pub(crate) fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

#[test]
fn datagrams_go_both_ways_whole() {
    for address in [local(), (Ipv6Addr::LOCALHOST, 0).into()] {
        run(move |handle| async move {
            let one = udp::bind(&handle, address).expect("a port");
            let other =
                udp::connect(&handle, one.local_address().udp().expect("UDP")).expect("a way");
            assert_eq!(other.peer_address(), Some(one.local_address()));
            assert_eq!(one.peer_address(), None);
            let mut buffer = vec![0; 65_536];
            for size in [0, 1, 1_472, 65_000] {
                let sent = vec![size as u8; size];
                other.send(&sent).await.expect("sent");
                let received = one.receive(&mut buffer).await.expect("a datagram");
                assert_eq!((received.count, received.truncated), (size, false));
                assert_eq!(received.from, other.local_address());
                assert!(buffer[..size] == sent);
                one.send_to(&sent, &received.from).await.expect("sent");
                assert_eq!(
                    other.receive(&mut buffer).await.expect("a datagram").count,
                    size
                );
            }
            // A truncated datagram is reported, and the next one is complete.
            other.send(b"too long for it").await.expect("sent");
            other.send(b"next").await.expect("sent");
            let received = one.receive(&mut buffer[..8]).await.expect("a datagram");
            assert_eq!((received.count, received.truncated), (8, true));
            let received = one.receive(&mut buffer[..8]).await.expect("a datagram");
            assert_eq!((received.count, received.truncated), (4, false));
            assert!(other.send(&vec![0; 70_000]).await.is_err());
            let unix = Address::Unix(UnixAddress::Abstract(b"x".to_vec()));
            assert_eq!(
                one.send_to(b"", &unix)
                    .await
                    .expect_err("another family")
                    .kind(),
                io::ErrorKind::InvalidInput
            );
        });
    }
}

#[test]
fn a_refusal_is_told_and_the_socket_goes_on() {
    run(|handle| async move {
        let gone = UdpSocket::bind(local()).expect("a port");
        let address = gone.local_addr().expect("an address");
        drop(gone);
        let socket = udp::connect(&handle, address).expect("a way");
        socket.send(b"?").await.expect("sent");
        let mut buffer = [0; 16];
        let refused = socket
            .receive(&mut buffer)
            .await
            .expect_err("nobody is there");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let back = UdpSocket::bind(address).expect("the same port");
        socket.send(b"!").await.expect("sent");
        let (count, from) = back.recv_from(&mut buffer).expect("a datagram");
        assert_eq!((count, Some(from)), (1, socket.local_address().udp()));
    });
}

#[test]
fn groups_and_broadcasts_reach_everybody() {
    run(|handle| async move {
        let group = Ipv4Addr::new(239, 255, 83, 7);
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let one = udp::bind_shared(&handle, any).expect("a port");
        let port = one.local_address().udp().expect("UDP").port();
        let other =
            udp::bind_shared(&handle, (Ipv4Addr::UNSPECIFIED, port)).expect("the same port");
        let used = udp::bind(&handle, (Ipv4Addr::UNSPECIFIED, port)).expect_err("it is not shared");
        assert_eq!(used.source.kind(), io::ErrorKind::AddrInUse);
        for socket in [&one, &other] {
            socket
                .join_multicast_v4(group, Ipv4Addr::LOCALHOST)
                .expect("joined");
        }
        let sender = udp::bind(&handle, local()).expect("a port");
        sender.set_multicast_loop(true).expect("set");
        sender.set_multicast_hops(0).expect("set");
        rustix::net::sockopt::set_socket_broadcast(&sender, false).expect("set");
        let mut buffer = [0; 16];
        sender
            .send_to(b"group", &Address::Udp((group, port).into()))
            .await
            .expect("sent");
        for socket in [&one, &other] {
            assert_eq!(
                socket.receive(&mut buffer).await.expect("a datagram").count,
                5
            );
            socket
                .leave_multicast_v4(group, Ipv4Addr::LOCALHOST)
                .expect("left");
        }
        let everybody = Address::Udp((Ipv4Addr::new(127, 255, 255, 255), port).into());
        let refused = sender
            .send_to(b"everybody", &everybody)
            .await
            .expect_err("not allowed");
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        sender.set_broadcast(true).expect("set");
        sender
            .send_to(b"everybody", &everybody)
            .await
            .expect("sent");
        for socket in [&one, &other] {
            assert_eq!(
                socket.receive(&mut buffer).await.expect("a datagram").count,
                9
            );
        }
    });
}

type Log = Rc<RefCell<Vec<String>>>;

/// Echoes every datagram and logs what happens. The datagram `panic` panics, `close` closes.
pub(crate) struct Noting {
    log: Log,
    stopped: Option<Resolver<(), String>>,
}

impl Noting {
    pub(crate) fn new() -> (Self, Log, Deferred<(), String>) {
        let (log, (resolver, stopped)) = (Log::default(), Deferred::new());
        (
            Noting {
                log: log.clone(),
                stopped: Some(resolver),
            },
            log,
            stopped,
        )
    }

    fn note(&self, what: impl Into<String>) {
        self.log.borrow_mut().push(what.into());
    }
}

impl DatagramProtocol for Noting {
    fn started(&mut self, _: &DatagramTransport) {
        self.note("started");
    }

    fn datagram_received(&mut self, transport: &DatagramTransport, data: &[u8], from: &Address) {
        self.note(String::from_utf8_lossy(data));
        transport.send_to(data, from);
        match data {
            b"panic" => panic!("in a datagram protocol"),
            b"close" => transport.close(),
            _ => {}
        }
    }

    fn failed(&mut self, _: &DatagramTransport, error: &io::Error) {
        self.note(format!("failed: {}", error.kind()));
    }

    fn stopped(&mut self, why: &Lost) {
        self.note(why.to_string());
        if let Some(resolver) = self.stopped.take() {
            resolver.resolve(());
        }
    }
}

#[test]
fn a_protocol_hears_of_everything_and_of_the_end_once() {
    for (last, end) in [
        ("close", "the connection was closed"),
        ("panic", "the protocol panicked"),
    ] {
        run(move |handle| async move {
            let (protocol, log, stopped) = Noting::new();
            let transport =
                protocol::start_datagrams(udp::bind(&handle, local()).expect("a port"), protocol);
            assert!(log.borrow().is_empty());
            let peer = udp::connect(&handle, transport.local_address().udp().expect("UDP"))
                .expect("a way");
            let mut buffer = [0; 16];
            for word in ["one", "two"] {
                peer.send(word.as_bytes()).await.expect("sent");
                assert_eq!(peer.receive(&mut buffer).await.expect("an echo").count, 3);
            }
            // A datagram that cannot be sent is reported, and nothing else.
            transport.send(b"to nobody");
            transport.send_to(&vec![0; 70_000], &peer.local_address());
            peer.send(last.as_bytes()).await.expect("sent");
            stopped.await.expect("its end");
            let log = log.take();
            assert_eq!(log[..3], ["started", "one", "two"]);
            assert_eq!(
                log.iter()
                    .filter(|entry| entry.starts_with("failed"))
                    .count(),
                2,
                "{log:?}"
            );
            assert_eq!(log.last().expect("an end"), end);
            assert_eq!(transport.send(b"late"), Sending::Closed);
            assert!(transport.is_closing() && transport.ask(|_| ()).is_none());
        });
    }
}

#[test]
fn the_end_of_a_run_is_the_end_of_its_protocols() {
    let (protocol, log, _stopped) = Noting::new();
    run(|handle| async move {
        protocol::start_datagrams(udp::bind(&handle, local()).expect("a port"), protocol);
        handle.sleep(Duration::from_millis(1)).await;
    });
    assert_eq!(log.take(), ["started", "the reactor stopped"]);
}

pub(crate) async fn send_all(socket: &DatagramSocket, datagrams: &[(&[u8], Option<&Address>)]) {
    let mut sent = 0;
    while sent < datagrams.len() {
        sent += socket.send_batch(&datagrams[sent..]).await.expect("sent");
    }
}

#[test]
fn batches_keep_boundaries_order_and_senders() {
    for address in [local(), (Ipv6Addr::LOCALHOST, 0).into()] {
        run(move |handle| async move {
            let one = udp::bind(&handle, address).expect("a port");
            let to = one.local_address();
            let others = [
                udp::bind(&handle, address).expect("a port"),
                udp::connect(&handle, to.udp().expect("UDP")).expect("a way"),
            ];
            // Equal sizes in a row, many sizes, empty ones, and one that is truncated.
            let sizes = [5, 5, 5, 0, 0, 1, 1_472, 999, 1_000, 1_001, 5];
            let datagrams: Vec<_> = (0..40_u8)
                .map(|number| vec![number; sizes[usize::from(number) % 11]])
                .collect();
            let mut batch = Batch::new(32, 1_000);
            for (number, other) in others.iter().enumerate() {
                let to = (number == 0).then_some(&to);
                let all: Vec<_> = datagrams
                    .iter()
                    .map(|datagram| (&datagram[..], to))
                    .collect();
                send_all(other, &all).await;
                let mut received = Vec::new();
                while received.len() < datagrams.len() {
                    let count = one.receive_batch(&mut batch).await.expect("datagrams");
                    assert_eq!((batch.len(), batch.is_empty()), (count, false));
                    for (bytes, about) in &batch {
                        assert_eq!(about.from, other.local_address());
                        received.push((bytes.to_vec(), about.truncated));
                    }
                }
                let cut = |datagram: &Vec<u8>| {
                    (
                        datagram[..datagram.len().min(1_000)].to_vec(),
                        datagram.len() > 1_000,
                    )
                };
                assert_eq!(received, datagrams.iter().map(cut).collect::<Vec<_>>());
            }
            assert!(
                handle
                    .timeout(Duration::from_millis(5), one.receive_batch(&mut batch))
                    .await
                    .is_err()
            );
        });
    }
}

#[test]
fn an_error_in_a_batch_is_of_its_datagram_only() {
    run(|handle| async move {
        let one = udp::bind(&handle, local()).expect("a port");
        let other = udp::bind(&handle, local()).expect("a port");
        let (to, long) = (one.local_address(), vec![0; 70_000]);
        let unix = Address::Unix(UnixAddress::Abstract(b"x".to_vec()));
        let batch = [
            (&b"1"[..], Some(&to)),
            (&long, Some(&to)),
            (b"2", Some(&unix)),
            (b"3", Some(&to)),
        ];
        assert_eq!(other.send_batch(&batch).await.expect("the first"), 1);
        assert!(other.send_batch(&batch[1..]).await.is_err());
        let error = other
            .send_batch(&batch[2..])
            .await
            .expect_err("another family");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(other.send_batch(&batch[3..]).await.expect("the last"), 1);
        assert_eq!(other.send_batch(&[]).await.expect("nothing"), 0);
        let mut received = Batch::new(8, 10);
        let mut seen = Vec::new();
        while seen.len() < 2 {
            one.receive_batch(&mut received).await.expect("datagrams");
            seen.extend(received.iter().map(|(bytes, _)| bytes.to_vec()));
        }
        assert_eq!(seen, [b"1", b"3"]);
        // A refusal is reported, and nothing that arrived before it is lost.
        let peer = UdpSocket::bind(local()).expect("a port");
        let connected =
            udp::connect(&handle, peer.local_addr().expect("an address")).expect("a way");
        let ours = connected.local_address().udp().expect("UDP");
        peer.send_to(b"before", ours).expect("sent");
        drop(peer);
        connected.send(b"nobody is there").await.expect("sent");
        let mut outcomes = Vec::new();
        while outcomes.len() < 2 {
            match connected.receive_batch(&mut received).await {
                Ok(count) => outcomes.push((count, None)),
                Err(error) => outcomes.push((0, Some(error.kind()))),
            }
        }
        outcomes.sort();
        assert_eq!(
            outcomes,
            [(0, Some(io::ErrorKind::ConnectionRefused)), (1, None)]
        );
    });
}

#[test]
fn what_waits_to_be_sent_is_bounded() {
    run(|handle| async move {
        let (protocol, _, _stopped) = Noting::new();
        let transport =
            protocol::start_datagrams(udp::bind(&handle, local()).expect("a port"), protocol);
        let peer = UdpSocket::bind(local()).expect("a port");
        let to = Address::Udp(peer.local_addr().expect("an address"));
        let sendings: Vec<_> = (0..2_000)
            .map(|_| transport.send_to(b"small", &to))
            .collect();
        assert_eq!(
            sendings
                .iter()
                .filter(|sending| **sending == Sending::Queued)
                .count(),
            1_024
        );
        assert_eq!(transport.dropped(), 2_000 - 1_024);
        handle.sleep(Duration::ZERO).await;
        let large = vec![0; 60_000];
        let queued = (0..50)
            .filter(|_| transport.send_to(&large, &to) == Sending::Queued)
            .count();
        assert_eq!(queued, 1024 * 1024 / 60_000);
    });
}

/// Counts the datagrams that come while a timer is due.
#[derive(Clone, Default)]
struct Flooded {
    due: Rc<Cell<Option<Instant>>>,
    meanwhile: Rc<Cell<usize>>,
    received: Rc<Cell<usize>>,
}

impl DatagramProtocol for Flooded {
    fn datagram_received(&mut self, _: &DatagramTransport, _: &[u8], _: &Address) {
        self.received.set(self.received.get() + 1);
        if self.due.get().is_some_and(|due| due <= Instant::now()) {
            self.meanwhile.set(self.meanwhile.get() + 1);
        }
    }
}

/// In each turn, the task that receives has a share of 64 and ends the batch that it is in. A timer
/// that becomes due after a turn has looked at its clock fires in the next one.
#[test]
fn a_flood_leaves_room_for_others() {
    run(|handle| async move {
        let flooded = Flooded::default();
        let socket = udp::bind(&handle, local()).expect("a port");
        let transport = protocol::start_datagrams(socket, flooded.clone());
        let address = transport.local_address().udp().expect("UDP");
        let flooding = Arc::new(AtomicBool::new(true));
        let still = flooding.clone();
        let flood = handle.defer_to_thread(move |_| {
            let socket = UdpSocket::bind(local()).map_err(|error| error.to_string())?;
            while still.load(Ordering::Relaxed) {
                // If the buffer is full, the datagram is dropped, as it should be.
                let _ = socket.send_to(b"flood", address);
            }
            Ok::<_, String>(())
        });
        let mut most = 0;
        for _ in 0..30 {
            let due = handle.now() + Duration::from_millis(2);
            flooded.meanwhile.set(0);
            flooded.due.set(Some(due));
            let (fired, count) = Deferred::<usize, Interrupted>::new();
            let meanwhile = flooded.meanwhile.clone();
            handle.call_at(due, move || fired.resolve(meanwhile.get()));
            most = count.await.expect("it fires").max(most);
        }
        flooding.store(false, Ordering::Relaxed);
        flood.await.expect("sent");
        assert!(flooded.received.get() > 0, "no flood");
        assert!(most < 4 * 64, "{most} datagrams while a timer was due");
    });
}

/// A batch without room for a byte counted one datagram less than none.
#[test]
fn a_batch_for_datagrams_of_no_bytes_receives_them() {
    run(|handle| async move {
        let one = udp::bind(&handle, local()).expect("a port");
        let to = one.local_address();
        let other = udp::bind(&handle, local()).expect("a port");
        let mut batch = Batch::new(4, 0);
        for bytes in [&b""[..], b"more"] {
            other.send_to(bytes, &to).await.expect("sent");
            assert_eq!(one.receive_batch(&mut batch).await.expect("datagrams"), 1);
            let (received, about) = batch.get(0).expect("one");
            assert!(received.len() <= 1);
            assert_eq!(about.truncated, bytes.len() > 1);
        }
    });
}

/// The two numbers were multiplied without a look at what comes out.
#[test]
fn a_batch_for_datagrams_of_any_size_receives_them() {
    run(|handle| async move {
        let one = udp::bind(&handle, local()).expect("a port");
        let to = one.local_address();
        let other = udp::bind(&handle, local()).expect("a port");
        for size in [usize::MAX / 64 + 2, usize::MAX] {
            let mut batch = Batch::new(64, size);
            other.send_to(b"whole", &to).await.expect("sent");
            assert_eq!(one.receive_batch(&mut batch).await.expect("datagrams"), 1);
            let (received, about) = batch.get(0).expect("one");
            assert_eq!((received, about.truncated), (&b"whole"[..], false));
        }
    });
}

/// Takes time for each datagram.
struct Slow(Rc<Cell<u32>>);

impl DatagramProtocol for Slow {
    fn datagram_received(&mut self, _: &DatagramTransport, _: &[u8], _: &Address) {
        self.0.set(self.0.get() + 1);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// It had its whole share of datagrams in one callback.
#[test]
fn a_protocol_that_takes_its_time_for_datagrams_gives_way() {
    run(|handle| async move {
        let socket = udp::bind(&handle, local()).expect("a port");
        let address = socket.local_address().udp().expect("UDP");
        let sender = UdpSocket::bind(local()).expect("a port");
        for _ in 0..60 {
            sender.send_to(b"x", address).expect("sent");
        }
        let (count, last, most) = <(Rc<Cell<u32>>, Cell<u32>, Rc<Cell<u32>>)>::default();
        let _hook = handle.on_turn({
            let (count, most) = (count.clone(), most.clone());
            move || most.set(most.get().max(count.get() - last.replace(count.get())))
        });
        let transport = protocol::start_datagrams(socket, Slow(count.clone()));
        while count.get() < 60 {
            handle.sleep(Duration::from_millis(1)).await;
        }
        assert!(most.get() <= 2, "{} datagrams in a turn", most.get());
        transport.close();
    });
}
