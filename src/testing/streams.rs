//! Streams and protocols: behaviours 33 to 48.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixStream,
    },
    pin::Pin,
    rc::{Rc, Weak},
    sync::mpsc,
    time::{Duration, Instant},
};

use futures_io::AsyncRead;
use rustix::{
    net::sockopt,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use super::{
    Harness,
    life::nobody_listens,
    rig::{Count, Log, Rig, Scripted, dial, ms, pattern, peer, read_exactly, read_to_end},
};
use crate::{
    Handle,
    protocol::{self, Echo, End, Flow, Limits, Lost, Protocol, Transport},
    transport::{Address, ByteStream, ConnectError, Stream, UnixAddress, tcp, unix},
};

/// Runs one connection: a protocol of ours, a peer on a thread. Ends when ours is lost, and gives why and what the peer saw.
fn converse<H: Harness, R: Send + 'static>(
    protocol: Scripted,
    limits: Option<Limits>,
    talk: impl FnOnce(TcpStream) -> R + Send + 'static,
) -> (String, R) {
    let rig = Rig::<H>::new();
    converse_on(&rig, protocol, limits, talk)
}

fn converse_on<H: Harness, R: Send + 'static>(
    rig: &Rig<H>,
    protocol: Scripted,
    limits: Option<Limits>,
    talk: impl FnOnce(TcpStream) -> R + Send + 'static,
) -> (String, R) {
    let (lost, why) = (Count::default(), Rc::new(RefCell::new(String::new())));
    let protocol = LostTold { protocol, lost: lost.clone(), why: why.clone() };
    let protocol = RefCell::new(Some(protocol));
    let (server, address) = rig.serve(move |_: &_| protocol.take());
    if let Some(limits) = limits {
        server.set_limits(limits);
    }
    let client = peer(address, talk);
    let handle = rig.handle.clone();
    rig.complete(async move {
        lost.reached(1).await;
        while !client.is_finished() {
            handle.sleep(ms(1)).await;
        }
        drop(server);
        assert_eq!(lost.get(), 1, "connection_lost came more than once");
        let seen = client.join().expect("the peer");
        (why.take(), seen)
    })
}

/// A scripted protocol whose end is noted, whatever else its script does then.
struct LostTold {
    protocol: Scripted,
    lost: Count,
    why: Rc<RefCell<String>>,
}

impl Protocol for LostTold {
    fn connection_made(&mut self, transport: &Transport) {
        self.protocol.connection_made(transport);
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.protocol.data_received(transport, data);
    }

    fn end_received(&mut self, transport: &Transport) -> End {
        self.protocol.end_received(transport)
    }

    fn pause_writing(&mut self, transport: &Transport) {
        self.protocol.pause_writing(transport);
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.protocol.resume_writing(transport);
    }

    fn connection_lost(&mut self, why: &Lost) {
        *self.why.borrow_mut() = why.to_string();
        self.lost.add(1);
        self.protocol.connection_lost(why);
    }
}

pub(super) fn b33_made_first_data_in_order_lost_once_and_last<H: Harness>() {
    let log = Log::default();
    let received = Rc::new(RefCell::new(Vec::new()));
    let (kept, noted) = (received.clone(), log.clone());
    let protocol = Scripted::noting(&log).data(move |_, data| {
        noted.add("data");
        kept.borrow_mut().extend_from_slice(data);
    });
    let bytes = pattern(1_000_000);
    let sent = bytes.clone();
    let (why, rest) = converse::<H, _>(protocol, None, move |mut stream| {
        stream.write_all(&sent).expect("written");
        stream.shutdown(Shutdown::Write).expect("shut down");
        read_to_end(&stream).expect("the end")
    });
    assert_eq!(why, "the connection was closed");
    assert!(rest.is_empty());
    assert!(*received.borrow() == bytes, "what came is not what was sent");
    let mut entries = log.entries();
    entries.dedup();
    assert_eq!(entries, ["made", "data", "end", "lost: the connection was closed"]);
}

pub(super) fn b33_lost_says_why<H: Harness>() {
    let on_data = |action: fn(&Transport)| Scripted::new().data(move |transport, _| action(transport));
    let poke = |mut stream: TcpStream| {
        stream.write_all(b"!").expect("written");
        let _ = read_to_end(&stream);
    };
    assert_eq!(converse::<H, _>(on_data(Transport::close), None, poke).0, "the connection was closed");
    assert_eq!(converse::<H, _>(on_data(Transport::abort), None, poke).0, "the connection was aborted");
    assert_eq!(converse::<H, _>(Scripted::new(), None, drop).0, "the connection was closed");
    let reset = converse::<H, _>(Scripted::new(), None, reset).0;
    assert!(reset.starts_with("the connection failed: "), "{reset}");
}

/// Has our side see a reset.
fn reset(stream: TcpStream) {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("an option");
}

pub(super) fn b34_writes_after_the_end_are_no_ops<H: Harness>() {
    let kept = Rc::new(RefCell::new(None::<Transport>));
    let keep = kept.clone();
    let protocol = Scripted::new()
        .data(|transport, _| {
            assert_eq!(transport.write(b"before"), Flow::Open);
            transport.close();
            assert!(transport.is_closing());
            assert_eq!(transport.write(b"after"), Flow::Closed);
        })
        .made(move |transport| *keep.borrow_mut() = Some(transport.clone()));
    let (_, seen) = converse::<H, _>(protocol, None, |mut stream| {
        stream.write_all(b"!").expect("written");
        read_to_end(&stream).expect("the end")
    });
    assert_eq!(seen, b"before");
    let transport = kept.take().expect("it was kept");
    assert_eq!(transport.write(b"long after"), Flow::Closed);
    assert_eq!(transport.unsent(), 0);
    transport.close();
    transport.abort();
    transport.pause_reading();
    transport.resume_reading();
    transport.end();
}

pub(super) fn b34_a_write_never_blocks_and_never_calls_back_into_the_writer<H: Harness>() {
    let writing = Rc::new(Cell::new(false));
    let not_inside = |writing: &Rc<Cell<bool>>| {
        let writing = writing.clone();
        move |_: &Transport| assert!(!writing.get(), "a callback came from inside a write")
    };
    let now = writing.clone();
    let limits = Limits { most: 64 << 20, ..Limits::default() };
    let protocol =
        Scripted::new().pause(not_inside(&writing)).resume(not_inside(&writing)).data(move |transport, _| {
            let piece = vec![1; 1 << 20];
            let start = Instant::now();
            now.set(true);
            // Far more than the system takes; nobody reads.
            let flows: Vec<_> = (0..32).map(|_| transport.write(&piece)).collect();
            now.set(false);
            assert!(start.elapsed() < Duration::from_secs(5), "32 MiB took {:?} to write", start.elapsed());
            assert_eq!(flows[31], Flow::Full);
            transport.abort();
        });
    converse::<H, _>(protocol, Some(limits), |mut stream| {
        stream.write_all(b"!").expect("written");
        // Holds the connection without reading.
        let _ = stream.peek(&mut [0]);
    });
}

pub(super) fn b35_close_flushes_what_was_written<H: Harness>() {
    let limits = Limits { most: 16 << 20, ..Limits::default() };
    let bytes = pattern(8 << 20);
    let written = bytes.clone();
    let protocol = Scripted::new().made(move |transport| {
        transport.write(&written);
        transport.close();
    });
    let (why, seen) = converse::<H, _>(protocol, Some(limits), |stream| read_to_end(&stream).expect("the end"));
    assert_eq!(why, "the connection was closed");
    assert!(seen == bytes, "{} bytes came of {}", seen.len(), bytes.len());
}

pub(super) fn b35_close_flushes_though_the_peer_has_sent_what_nobody_reads<H: Harness>() {
    let protocol = Scripted::new().data(|transport, _| {
        transport.write(b"goodbye");
        transport.close();
    });
    let (_, seen) = converse::<H, _>(protocol, None, |mut stream| {
        stream.write_all(&[0; 100_000]).expect("written");
        read_to_end(&stream)
    });
    assert_eq!(seen.expect("the end, not a reset"), b"goodbye");
}

pub(super) fn b35_abort_drops_what_was_written_and_resets<H: Harness>() {
    let protocol = Scripted::new().data(|transport, _| {
        transport.write(&[7; 500_000]);
        transport.abort();
        assert_eq!(transport.write(b"more"), Flow::Closed);
    });
    let (why, seen) = converse::<H, _>(protocol, None, |mut stream| {
        stream.write_all(b"!").expect("written");
        read_to_end(&stream)
    });
    assert_eq!(why, "the connection was aborted");
    assert_eq!(seen.expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
}

pub(super) fn b35_abort_twice_or_abort_then_close_is_harmless<H: Harness>() {
    let protocol = Scripted::new().data(|transport, _| {
        transport.close();
        transport.abort();
        transport.abort();
        transport.close();
        transport.end();
    });
    let (why, _) = converse::<H, _>(protocol, None, |mut stream| {
        stream.write_all(b"!").expect("written");
        read_to_end(&stream)
    });
    assert_eq!(why, "the connection was aborted");
}

pub(super) fn b36_a_peer_that_closes_while_we_are_paused_is_noticed_at_resume_with_its_data<H: Harness>() {
    let rig = Rig::<H>::new();
    let log = Log::default();
    let handle = rig.handle.clone();
    let (gone, going) = mpsc::channel();
    let going = Cell::new(Some(going));
    let noted = log.clone();
    let protocol = Scripted::noting(&log).made(move |transport| {
        transport.pause_reading();
        assert!(transport.is_reading_paused());
        let (transport, noted, clock) = (transport.clone(), noted.clone(), handle.clone());
        let going = going.take().expect("one connection");
        handle
            .spawn(async move {
                while going.try_recv().is_err() {
                    clock.sleep(ms(1)).await;
                }
                clock.sleep(ms(10)).await;
                noted.add("resumed");
                transport.resume_reading();
            })
            .detach();
    });
    let (why, ()) = converse_on(&rig, protocol, None, move |mut stream| {
        stream.write_all(b"last words").expect("written");
        drop(stream);
        gone.send(()).expect("awaited");
    });
    assert_eq!(why, "the connection was closed");
    log.assert(&["resumed", "data last words", "end", "lost: the connection was closed"]);
}

pub(super) fn b37_pause_in_connection_made_holds<H: Harness>() {
    let rig = Rig::<H>::new();
    let handle = rig.handle.clone();
    let resumed = Rc::new(Cell::new(false));
    let seen = resumed.clone();
    let protocol = Scripted::new()
        .made(move |transport| {
            transport.pause_reading();
            let (transport, resumed) = (transport.clone(), resumed.clone());
            handle.call_later(ms(30), move || {
                resumed.set(true);
                transport.resume_reading();
            });
        })
        .data(move |transport, data| {
            assert!(seen.get(), "data came while reading was paused");
            transport.write(data);
            transport.close();
        });
    let (_, echoed) = converse_on(&rig, protocol, None, |mut stream| {
        stream.write_all(b"early").expect("written");
        read_to_end(&stream).expect("the end")
    });
    assert_eq!(echoed, b"early");
}

pub(super) fn b37_pause_and_resume_over_and_over_lose_and_repeat_nothing<H: Harness>() {
    let rig = Rig::<H>::new();
    let received = Rc::new(RefCell::new(Vec::new()));
    let (kept, handle) = (received.clone(), rig.handle.clone());
    let mut round = 0;
    let protocol = Scripted::new().data(move |transport, data| {
        assert!(!transport.is_reading_paused(), "data came while reading was paused");
        kept.borrow_mut().extend_from_slice(data);
        transport.pause_reading();
        let transport = transport.clone();
        round += 1;
        match round % 4 {
            // From inside, from a call, from a timer, and back and forth.
            0 => transport.resume_reading(),
            1 => handle.call_soon(move || transport.resume_reading()),
            2 => drop(handle.call_later(Duration::from_micros(100), move || transport.resume_reading())),
            _ => handle.call_soon(move || {
                transport.resume_reading();
                transport.pause_reading();
                transport.resume_reading();
                transport.resume_reading();
            }),
        }
    });
    let bytes = pattern(2_000_000);
    let sent = bytes.clone();
    converse_on(&rig, protocol, None, move |mut stream| {
        for piece in sent.chunks(10_007) {
            stream.write_all(piece).expect("written");
        }
    });
    assert!(*received.borrow() == bytes, "{} bytes came of {}", received.borrow().len(), bytes.len());
}

pub(super) fn b38_a_full_buffer_pauses_the_producer_and_draining_resumes_it<H: Harness>() {
    const TOTAL: usize = 16 << 20;
    let log = Log::default();
    let (paused, resumed) = (log.clone(), log.clone());
    let left = Rc::new(Cell::new(TOTAL));
    let produce = move |transport: &Transport| {
        let limits = transport.limits();
        while left.get() > 0 {
            let piece = vec![3; 10_000.min(left.get())];
            let flow = transport.write(&piece);
            assert!(transport.unsent() <= limits.high + piece.len(), "{} bytes wait", transport.unsent());
            left.set(left.get() - piece.len());
            match flow {
                Flow::Open => {}
                Flow::Full => return,
                Flow::Closed => panic!("the connection was ended"),
            }
        }
        transport.close();
    };
    let again = produce.clone();
    let protocol = Scripted::new().made(produce).pause(move |_| paused.add("pause")).resume(move |transport| {
        resumed.add("resume");
        assert!(transport.unsent() <= transport.limits().low);
        again(transport);
    });
    let (why, seen) = converse::<H, _>(protocol, None, |stream| read_to_end(&stream).expect("the end").len());
    assert_eq!((why.as_str(), seen), ("the connection was closed", TOTAL));
    let entries = log.entries();
    assert!(entries.iter().any(|entry| entry == "pause"), "the producer was never paused");
    // A pause is followed by a resume and not by another pause.
    assert!(entries.windows(2).all(|pair| pair[0] == "resume" || pair[1] == "resume"));
}

pub(super) fn b38_a_writer_without_regard_is_told_bounded_and_ended<H: Harness>() {
    let most = Limits::default().most;
    let written = Rc::new(Cell::new(0_usize));
    let total = written.clone();
    let protocol = Scripted::new().data(move |transport, _| {
        let piece = [9; 64 * 1024];
        let mut full = false;
        loop {
            let flow = transport.write(&piece);
            assert!(transport.unsent() <= most, "{} bytes wait for a peer that does not read", transport.unsent());
            match flow {
                Flow::Closed => break,
                Flow::Full => full = true,
                Flow::Open => assert!(!full, "full, and open again though nothing was sent"),
            }
            total.set(total.get() + piece.len());
            assert!(total.get() <= most, "no limit ended it");
        }
        assert!(full, "the transport did not tell");
        assert_eq!(transport.write(b"more"), Flow::Closed);
    });
    let (why, ()) = converse::<H, _>(protocol, None, |mut stream| {
        stream.write_all(b"!").expect("written");
        let mut nothing = [0; 1];
        let _ = stream.peek(&mut nothing);
    });
    assert_eq!(why, "the peer does not read, and too much was written");
    assert!(written.get() > 0);
}

pub(super) fn b38_a_writer_without_regard_over_many_turns_is_ended_too<H: Harness>() {
    let rig = Rig::<H>::new();
    let handle = rig.handle.clone();
    let most = Limits::default().most;
    let protocol = Scripted::new().made(move |transport| {
        let (transport, clock) = (transport.clone(), handle.clone());
        handle
            .spawn(async move {
                while transport.write(&[5; 16 * 1024]) != Flow::Closed {
                    assert!(transport.unsent() <= most);
                    clock.sleep(Duration::ZERO).await;
                    clock.sleep(Duration::from_micros(50)).await;
                }
                assert_eq!(transport.unsent().min(most + 1), transport.unsent());
            })
            .detach();
    });
    let (end, ending) = mpsc::channel::<()>();
    let end = Cell::new(Some(end));
    let protocol = protocol.lost(move |_| drop(end.take()));
    let (why, ()) = converse_on(&rig, protocol, None, move |stream| {
        // Holds the connection without reading, until our side is done.
        let _ = ending.recv();
        drop(stream);
    });
    assert_eq!(why, "the peer does not read, and too much was written");
}

pub(super) fn b39_after_a_half_close_the_peer_hears_the_end_and_can_still_send<H: Harness>() {
    let log = Log::default();
    let protocol = Scripted::noting(&log).made(|transport| {
        transport.write(b"question");
        transport.end();
        assert_eq!(transport.write(b"more"), Flow::Closed);
    });
    let (why, question) = converse::<H, _>(protocol, None, |mut stream| {
        let question = read_to_end(&stream).expect("the end");
        stream.write_all(b"answer").expect("written");
        question
    });
    assert_eq!(question, b"question");
    assert_eq!(why, "the connection was closed");
    log.assert(&["data answer", "end", "lost: the connection was closed"]);
}

pub(super) fn b39_when_the_peer_half_closes_we_can_still_send<H: Harness>() {
    let rig = Rig::<H>::new();
    let handle = rig.handle.clone();
    let protocol = Scripted::new().end(move |transport| {
        let transport = transport.clone();
        handle.call_later(ms(5), move || {
            assert_eq!(transport.write(b"answer"), Flow::Open);
            transport.close();
        });
        End::KeepWriting
    });
    let (why, answer) = converse_on(&rig, protocol, None, |mut stream| {
        stream.write_all(b"question").expect("written");
        stream.shutdown(Shutdown::Write).expect("shut down");
        read_to_end(&stream).expect("the end")
    });
    assert_eq!(answer, b"answer");
    assert_eq!(why, "the connection was closed");
}

pub(super) fn b39_a_protocol_without_support_for_it_closes<H: Harness>() {
    let protocol = Scripted::new().data(|transport, _| {
        transport.write(b"last words");
    });
    let (why, seen) = converse::<H, _>(protocol, None, |mut stream| {
        stream.write_all(b"!").expect("written");
        stream.shutdown(Shutdown::Write).expect("shut down");
        read_to_end(&stream).expect("the end")
    });
    assert_eq!((why.as_str(), &*seen), ("the connection was closed", &b"last words"[..]));
}

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

pub(super) fn b47_addresses_can_be_asked_for<H: Harness>() {
    let rig = Rig::<H>::new();
    let told = Rc::new(RefCell::new(None));
    let slot = told.clone();
    let protocol = Scripted::new().made(move |transport| {
        *slot.borrow_mut() = Some((transport.local_address().tcp(), transport.peer_address().tcp()));
        transport.close();
    });
    let (_, (ours, theirs)) = converse_on(&rig, protocol, None, |stream| {
        let addresses = (stream.local_addr().expect("an address"), stream.peer_addr().expect("an address"));
        drop(read_to_end(&stream));
        addresses
    });
    assert_eq!(told.take(), Some((Some(theirs), Some(ours))));
}

/// A layer above another stream that adds nothing but a name.
struct Layer<S> {
    name: &'static str,
    below: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Layer<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut [u8],
    ) -> std::task::Poll<io::Result<usize>> {
        Pin::new(&mut self.below).poll_read(cx, buffer)
    }
}

impl<S: futures_io::AsyncWrite + Unpin> futures_io::AsyncWrite for Layer<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        Pin::new(&mut self.below).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        Pin::new(&mut self.below).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        Pin::new(&mut self.below).poll_close(cx)
    }
}

impl<S: ByteStream> ByteStream for Layer<S> {
    fn local_address(&self) -> Address {
        self.below.local_address()
    }

    fn peer_address(&self) -> Address {
        self.below.peer_address()
    }

    fn abort(&mut self) {
        self.below.abort();
    }

    fn below(&self) -> Option<&dyn ByteStream> {
        Some(&self.below)
    }
}

pub(super) fn b47_features_are_found_below_the_layers_and_what_is_lacking_is_an_answer<H: Harness>() {
    let (rig, ended) = (Rig::<H>::new(), Count::default());
    let (a, _b) = unix::pair(&rig.handle).expect("two streams");
    let seen = ended.clone();
    let protocol = Scripted::new().made(move |transport| {
        let credentials = transport.ask(|stream: &Stream| stream.peer_credentials());
        let credentials = credentials.expect("a socket below").expect("a Unix socket");
        assert_eq!(credentials.pid.as_raw_nonzero().get() as u32, std::process::id());
        assert_eq!(credentials.uid, rustix::process::getuid());
        assert_eq!(transport.ask(|layer: &Layer<Stream>| layer.name), Some("a layer"));
        // No such layer, and no such thing on Unix sockets.
        assert_eq!(transport.ask(|_: &Layer<Layer<Stream>>| ()), None);
        assert!(transport.ask(|stream: &Stream| stream.set_nodelay(true)).expect("a socket below").is_err());
        assert_eq!(*transport.peer_address(), Address::Unix(UnixAddress::Unnamed));
        assert_eq!(transport.peer_address().tcp(), None);
        seen.add(1);
    });
    let transport = protocol::start(&rig.handle, Layer { name: "a layer", below: a }, protocol);
    rig.complete(ended.reached(1));
    assert_eq!(transport.ask(|_: &Stream| ()), None, "the connection is over");
}

pub(super) fn b47_a_tcp_stream_answers_what_only_unix_sockets_have<H: Harness>() {
    let unsupported = Rc::new(Cell::new(None));
    let slot = unsupported.clone();
    let protocol = Scripted::new().made(move |transport| {
        let answer = transport.ask(|stream: &Stream| stream.peer_credentials()).expect("a socket below");
        slot.set(Some(answer.expect_err("TCP knows no credentials").kind()));
        assert!(transport.ask(Stream::take_fds).expect("a socket below").is_empty());
        transport.close();
    });
    converse::<H, _>(protocol, None, |stream| drop(read_to_end(&stream)));
    assert_eq!(unsupported.get(), Some(io::ErrorKind::Unsupported));
}

/// Sends `bytes` over `stream` with a socket. Gives the other end of that: it hears the end when all copies are closed.
async fn send_a_socket(stream: &Stream, bytes: &[u8]) -> UnixStream {
    let (kept, given) = UnixStream::pair().expect("two sockets");
    kept.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let sent = stream.send_with_fds(bytes, &[given.as_fd()]).await.expect("sent");
    assert_eq!(sent, bytes.len());
    kept
}

async fn receive(stream: &mut Stream, buffer: &mut [u8]) -> usize {
    poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, buffer)).await.expect("data")
}

pub(super) fn b48_fds_arrive_with_their_bytes<H: Harness>() {
    let rig = Rig::<H>::new();
    let (from, mut to) = unix::pair(&rig.handle).expect("two streams");
    to.receive_fds().expect("a Unix socket");
    rig.complete(async move {
        let mut buffer = [0; 64];
        for round in 0..5_u8 {
            let kept = send_a_socket(&from, &[round; 10]).await;
            assert_eq!(receive(&mut to, &mut buffer).await, 10);
            assert_eq!(buffer[..10], [round; 10]);
            let mut fds = to.take_fds();
            assert_eq!(fds.len(), 1);
            let mut arrived = UnixStream::from(fds.remove(0));
            arrived.write_all(b"through").expect("written");
            drop(arrived);
            assert_eq!(read_to_end(kept).expect("the end"), b"through");
            assert!(to.take_fds().is_empty());
        }
    });
}

pub(super) fn b48_unclaimed_fds_are_closed<H: Harness>() {
    let rig = Rig::<H>::new();
    let (from, mut to) = unix::pair(&rig.handle).expect("two streams");
    let (plain_from, mut plain_to) = unix::pair(&rig.handle).expect("two streams");
    to.receive_fds().expect("a Unix socket");
    rig.complete(async move {
        let mut buffer = [0; 64];
        // Nobody asked for fds.
        let kept = send_a_socket(&plain_from, b"!").await;
        assert_eq!(receive(&mut plain_to, &mut buffer).await, 1);
        assert_eq!(read_to_end(kept).expect("the end"), b"");
        // Nobody takes them, and there is a bound.
        let mut readers = Vec::new();
        for _ in 0..70 {
            readers.push(send_a_socket(&from, b"!").await);
            assert_eq!(receive(&mut to, &mut buffer).await, 1);
        }
        for reader in readers.drain(64..) {
            assert_eq!(read_to_end(reader).expect("the end: beyond the bound"), b"");
        }
        // Received and left when the stream goes, or not even received.
        let unread = send_a_socket(&from, b"!").await;
        drop(to);
        for reader in readers.into_iter().chain([unread]) {
            assert_eq!(read_to_end(reader).expect("the end"), b"");
        }
        // More than one message may carry is refused.
        let many = vec![from.as_fd(); 65];
        let refused = plain_from.send_with_fds(b"!", &many).await.expect_err("too many");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    });
}
