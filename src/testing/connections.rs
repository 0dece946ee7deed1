//! How connections come and go: behaviours 40 to 46.

use std::{
    cell::{Cell, RefCell},
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    os::fd::AsRawFd,
    rc::{Rc, Weak},
    sync::mpsc,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use super::{
    Harness,
    life::nobody_listens,
    rig::{Count, Rig, Scripted, dial, ms, peer, read_exactly, read_to_end},
    streams::{converse, converse_on, reset},
};
use crate::{
    Handle,
    protocol::{self, Echo, End, Flow, Limits, Lost, Transport},
    transport::{ConnectError, tcp, unix},
};

pub(super) fn b40_connect_refused_says_so<H: Harness>() {
    let rig = Rig::<H>::new();
    let handle = rig.handle.clone();
    rig.complete(async move {
        let nobody = nobody_listens(&handle);
        let error = tcp::connect(&handle, nobody).await.expect_err("nobody listens there");
        assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
        assert!(error.to_string().contains(&nobody.to_string()), "{error}");
    });
}

pub(super) fn b40_connect_unreachable_says_so<H: Harness>() {
    let rig = Rig::<H>::new();
    let handle = rig.handle.clone();
    rig.complete(async move {
        // The loopback's broadcast address: there is no way for TCP to it.
        let error = tcp::connect(&handle, ([127, 255, 255, 255], 9).into()).await.expect_err("no such host");
        assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
        let error = unix::connect(&handle, "/nonexistent/socket").await.expect_err("no such file");
        assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    });
}

/// A listener that answers nobody, for its backlog is full; with the connections that fill it.
fn silent_listener() -> (SocketAddr, impl Sized) {
    let listener = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
    let listener = listener.expect("a socket");
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    rustix::net::bind(&listener, &any).expect("a free port");
    rustix::net::listen(&listener, 0).expect("it listens");
    let listener = std::net::TcpListener::from(listener);
    let address = listener.local_addr().expect("an address");
    let mut filling = Vec::new();
    // Until an attempt gets no answer; how many the kernel takes beyond the backlog is its affair.
    while let Ok(stream) = TcpStream::connect_timeout(&address, ms(100)) {
        filling.push(stream);
        assert!(filling.len() < 100, "a backlog of nought takes {} connections", filling.len());
    }
    (address, (listener, filling))
}

pub(super) fn b40_connect_timed_out_says_so<H: Harness>() {
    let rig = Rig::<H>::new();
    let handle = rig.handle.clone();
    rig.complete(async move {
        let (address, _silence) = silent_listener();
        let sources = handle.metrics().sources;
        let start = handle.now();
        let result = handle.timeout(ms(50), tcp::connect(&handle, address)).await;
        assert!(result.is_err(), "there was an answer: {result:?}");
        assert!(handle.now() - start >= ms(50));
        assert_eq!(handle.metrics().sources, sources, "the attempt is still watched");
    });
}

pub(super) fn b40_connect_cancelled_before_or_during_leaves_nothing<H: Harness>() {
    let rig = Rig::<H>::new();
    let handle = rig.handle.clone();
    rig.complete(async move {
        let (address, _silence) = silent_listener();
        let nobody = nobody_listens(&handle);
        let before = (handle.metrics().sources, handle.metrics().tasks);
        // Before it was polled, and when it was under way.
        for wait in [Duration::ZERO, ms(5)] {
            for address in [address, nobody] {
                let connecting = handle.clone();
                let task = handle.spawn(async move { tcp::connect(&connecting, address).await.map(drop) });
                if !wait.is_zero() {
                    handle.sleep(wait).await;
                }
                task.cancel();
            }
        }
        drop(tcp::connect(&handle, address));
        handle.sleep(ms(5)).await;
        assert_eq!((handle.metrics().sources, handle.metrics().tasks), before, "sources and tasks");
    });
}

pub(super) fn b41_connect_again_from_inside_connection_lost<H: Harness>() {
    let (rig, rounds) = (Rig::<H>::new(), Count::default());
    let (_server, address) = rig.serve_each(|| Scripted::new().made(Transport::close));
    fn dial_again(handle: Handle, address: SocketAddr, rounds: Count) {
        let (clock, again) = (handle.clone(), rounds.clone());
        handle
            .clone()
            .spawn(async move {
                let build = || {
                    Scripted::new().lost(move |_| {
                        rounds.add(1);
                        if rounds.get() < 20 {
                            dial_again(clock.clone(), address, again.clone());
                        }
                    })
                };
                protocol::connect(&handle, address, build).await.expect("a connection");
            })
            .detach();
    }
    dial_again(rig.handle.clone(), address, rounds.clone());
    rig.complete(rounds.reached(20));
}

pub(super) fn b42_a_factory_that_refuses_a_connection_closes_it_cleanly<H: Harness>() {
    let rig = Rig::<H>::new();
    let mut asked = 0;
    let first_only = RefCell::new(move || {
        asked += 1;
        (asked != 1).then_some(Echo)
    });
    let (server, address) = rig.serve(move |_: &_| (first_only.borrow_mut())());
    let client = peer(address, move |stream| {
        assert_eq!(read_to_end(&stream).expect("the end, not a reset"), b"");
        // The next one is served.
        let mut second = dial(address);
        second.write_all(b"ping").expect("written");
        assert_eq!(read_exactly(&second, 4).expect("an echo"), b"ping");
    });
    finish(&rig, client);
    drop(server);
}

pub(super) fn b42_a_factory_that_panics_ends_that_connection_only<H: Harness>() {
    let rig = Rig::<H>::new();
    let asked = Cell::new(0);
    let (_server, address) = rig.serve(move |_: &_| {
        asked.set(asked.get() + 1);
        assert_ne!(asked.get(), 1, "in a factory");
        Some(Echo)
    });
    let remote = rig.handle.remote();
    let client = peer(address, move |stream| {
        assert_eq!(read_to_end(&stream).expect("the end, not a reset"), b"");
        let mut second = dial(address);
        second.write_all(b"ping").expect("written");
        assert_eq!(read_exactly(&second, 4).expect("an echo"), b"ping");
        remote.post(|handle| handle.stop().expect("it runs")).expect("there");
    });
    rig.harness.run().expect("a run");
    client.join().expect("the peer");
    let panics = rig.take_panics();
    assert!(panics.len() == 1 && panics[0].contains("in a factory"), "{panics:?}");
}

/// Runs until the peer has ended.
fn finish<H: Harness, R: Send + 'static>(rig: &Rig<H>, client: std::thread::JoinHandle<R>) -> R {
    let handle = rig.handle.clone();
    rig.complete(async move {
        while !client.is_finished() {
            handle.sleep(ms(1)).await;
        }
        client.join().expect("the peer")
    })
}

/// Holds the number of file descriptors of this process down while it lives.
struct FewFds(Rlimit);

impl FewFds {
    fn new(limit: u64) -> Self {
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: before.maximum }).expect("a limit");
        FewFds(before)
    }
}

impl Drop for FewFds {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.0).expect("the limit that was");
    }
}

pub(super) fn b43_out_of_fds_nobody_hangs_nothing_spins_and_accepting_goes_on<H: Harness>() {
    const CLIENTS: usize = 30;
    let rig = Rig::<H>::new();
    let (server, address) = rig.serve_each(|| Echo);
    let handle = rig.handle.clone();
    // The clients' sockets are made first; they have to be free of the limit.
    let clients: Vec<_> = (0..CLIENTS).map(|_| new_socket()).collect();
    let spare: Vec<_> = (0..3).map(|_| new_socket()).collect();
    let limit = clients.iter().chain(&spare).map(|socket| socket.as_raw_fd()).max().expect("some") as u64 + 1;
    rig.complete(async move {
        let few = FewFds::new(limit);
        drop(spare);
        let before = handle.metrics();
        let start = Instant::now();
        for client in &clients {
            connect_socket(client, address);
        }
        // Each of them is served or turned away within a second.
        let mut answers = Vec::new();
        for client in &clients {
            let mut client = client;
            // A peer that was turned away may be told so already.
            let _ = client.write_all(b"!");
            client.set_nonblocking(true).expect("an option");
            answers.push(loop {
                match client.read(&mut [0; 1]) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        assert!(start.elapsed() < Duration::from_secs(5), "a peer was left hanging");
                        handle.sleep(ms(1)).await;
                    }
                    answer => break matches!(answer, Ok(1)),
                }
            });
        }
        let served = answers.iter().filter(|served| **served).count();
        assert!(served < CLIENTS, "all were served: there was no want of fds");
        let turns = handle.metrics().turns - before.turns;
        assert!(turns < 5_000, "{turns} turns for {CLIENTS} peers");
        // With nothing to do it rests, though there are no fds.
        let quiet = handle.metrics().callbacks;
        handle.sleep(ms(100)).await;
        let spun = handle.metrics().callbacks - quiet;
        assert!(spun < 20, "{spun} callbacks in 100 ms with nothing to do");
        // Fds are free again, and within a second a peer is served.
        drop((few, clients));
        let start = Instant::now();
        loop {
            let client = dial(address);
            client.set_nonblocking(true).expect("an option");
            (&client).write_all(b"!").expect("written");
            handle.sleep(ms(10)).await;
            if matches!((&client).read(&mut [0; 1]), Ok(1)) {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(1), "accepting does not go on");
        }
        drop(server);
    });
}

fn new_socket() -> TcpStream {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
    socket.expect("a socket").into()
}

fn connect_socket(socket: &TcpStream, address: SocketAddr) {
    rustix::net::connect(socket, &address).expect("the backlog takes it");
}

pub(super) fn b44_a_reset_is_an_error_with_its_kind<H: Harness>() {
    let kind = Rc::new(Cell::new(None));
    let seen = kind.clone();
    let protocol = Scripted::new().lost(move |why| match why {
        Lost::Failed(error) => seen.set(Some(error.kind())),
        other => panic!("{other}"),
    });
    converse::<H, _>(protocol, None, reset);
    assert_eq!(kind.get(), Some(io::ErrorKind::ConnectionReset));
}

pub(super) fn b44_a_broken_pipe_is_an_error_with_its_kind_and_no_signal<H: Harness>() {
    let rig = Rig::<H>::new();
    let kind = Rc::new(Cell::new(None));
    let (seen, handle) = (kind.clone(), rig.handle.clone());
    let protocol = Scripted::new()
        .made(move |transport| {
            // Nobody reads: the first write provokes a reset, a later one meets it.
            transport.pause_reading();
            let (transport, clock) = (transport.clone(), handle.clone());
            handle
                .spawn(async move {
                    while transport.write(b"to nobody") != Flow::Closed {
                        clock.sleep(ms(1)).await;
                    }
                })
                .detach();
        })
        .lost(move |why| match why {
            Lost::Failed(error) => seen.set(Some(error.kind())),
            other => panic!("{other}"),
        });
    converse_on(&rig, protocol, None, drop);
    let kind = kind.get().expect("an error");
    assert!(matches!(kind, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{kind:?}");
}

pub(super) fn b44_a_peer_that_takes_nothing_any_more_does_not_hold_a_closed_connection<H: Harness>() {
    let (end, ending) = mpsc::channel::<()>();
    let end = Cell::new(Some(end));
    let limits = Limits { most: 64 << 20, linger: ms(50), ..Limits::default() };
    let protocol = Scripted::new()
        .made(|transport| {
            transport.write(&vec![1; 32 << 20]);
            transport.close();
        })
        .lost(move |_| drop(end.take()));
    let (why, ()) = converse::<H, _>(protocol, Some(limits), move |stream| {
        let _ = ending.recv();
        drop(stream);
    });
    assert_eq!(why, "the peer did not take the last bytes in time");
}

/// A protocol that panics in the callback of this name.
fn panicking(callback: &'static str) -> Scripted {
    let panic_if = move |name: &str| assert_ne!(name, callback, "in a callback");
    Scripted::new()
        .made(move |transport| {
            panic_if("made");
            transport.set_limits(Limits { high: 1, ..transport.limits() });
        })
        .data(move |transport, _| {
            panic_if("data");
            // More than the system takes at once, so that there is a pause and a resume.
            transport.set_limits(Limits { most: 64 << 20, ..transport.limits() });
            transport.write(&vec![1; 16 << 20]);
        })
        .end(move |_| {
            panic_if("end");
            End::Close
        })
        .pause(move |_| panic_if("pause"))
        .resume(move |_| panic_if("resume"))
        .lost(move |_| panic_if("lost"))
}

pub(super) fn b45_a_panic_in_a_callback_ends_that_connection_and_nothing_else<H: Harness>() {
    for callback in ["made", "data", "end", "pause", "resume", "lost"] {
        let rig = Rig::<H>::new();
        let (_echo, echo) = rig.serve_each(|| Echo);
        let (_server, address) = rig.serve_each(move || panicking(callback));
        let remote = rig.handle.remote();
        let client = peer(echo, move |mut bystander| {
            let mut victim = dial(address);
            // It may be lost already.
            let _ = victim.write_all(b"!");
            if callback == "end" || callback == "lost" {
                let _ = victim.shutdown(Shutdown::Write);
            }
            if callback == "pause" {
                // A peer that reads as fast as it is written to gives no reason for a pause.
                let mut ended = [PollFd::new(&victim, PollFlags::RDHUP)];
                poll(&mut ended, Some(&Timespec { tv_sec: 20, tv_nsec: 0 })).expect("the end");
            }
            let _ = read_to_end(&victim);
            bystander.write_all(b"alive?").expect("written");
            assert_eq!(read_exactly(&bystander, 6).expect("an echo"), b"alive?");
            remote.post(|handle| handle.stop().expect("it runs")).expect("there");
        });
        rig.harness.run().expect("a run");
        client.join().expect("the bystander was served");
        let panics = rig.take_panics();
        assert!(panics.len() == 1 && panics[0].contains("in a callback"), "{callback}: {panics:?}");
        assert!(panics[0].contains("src/testing/"), "it is not said where: {panics:?}");
    }
}

pub(super) fn b46_the_last_reference_to_a_protocol_goes_with_its_connection<H: Harness>() {
    let rig = Rig::<H>::new();
    let kept = Rc::new(RefCell::new((Weak::new(), None)));
    let slot = kept.clone();
    let protocol = Scripted::new().made(move |transport| {
        let owned = Rc::new(());
        *slot.borrow_mut() = (Rc::downgrade(&owned), Some(transport.clone()));
        let inner = transport.clone();
        let handle = transport.handle().clone();
        let state = owned.clone();
        // A transport that outlives its connection does not keep the protocol.
        transport.handle().call_later(ms(1), move || {
            let _state = state;
            inner.close();
            drop(handle);
        });
        std::mem::drop(owned);
    });
    converse_on(&rig, protocol, None, |stream| drop(read_to_end(&stream)));
    let (owned, transport) = kept.take();
    assert!(owned.upgrade().is_none());
    assert!(transport.expect("it was kept").is_closing());
}

/// Open file descriptors of this process.
fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux").count()
}

/// Memory of this process that is in use, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

pub(super) fn b46_ten_thousand_connections_leave_nothing_behind<H: Harness>() {
    let rig = Rig::<H>::new();
    let lost = Count::default();
    let ends = lost.clone();
    let (_server, address) = rig.serve_each(move || {
        let ends = ends.clone();
        let owned = vec![0_u8; 4096];
        Scripted::new()
            .data(|transport, data| {
                transport.write(data);
            })
            .lost(move |_| {
                let _ = &owned;
                ends.add(1);
            })
    });
    let handle = rig.handle.clone();
    rig.complete(async move {
        handle.sleep(ms(1)).await;
        let at_first = handle.metrics();
        let fds = open_fds();
        let mut memory = 0;
        for round in 0..100 {
            for _ in 0..100 {
                let ends = lost.clone();
                // Aborted, so that no port is left waiting for late packets.
                let build = || Scripted::new().data(|transport, _| transport.abort()).lost(move |_| ends.add(1));
                let transport = protocol::connect(&handle, address, build).await.expect("a connection");
                transport.write(b"ping");
            }
            lost.reached((round + 1) * 200).await;
            if round == 9 {
                // What is kept for use again is there by now.
                memory = resident();
            }
        }
        handle.sleep(ms(5)).await;
        let at_last = handle.metrics();
        assert_eq!(open_fds(), fds, "file descriptors");
        assert_eq!(at_last.sources, at_first.sources, "sources");
        assert_eq!(at_last.timers, at_first.timers, "timers");
        assert_eq!(at_last.tasks, at_first.tasks, "tasks");
        // Nine thousand connections at 4 KiB each, were they kept, would be 36 MiB.
        let grown = resident().saturating_sub(memory);
        assert!(grown < 8 * 1024, "{grown} KiB more after 9,000 connections");
    });
}
