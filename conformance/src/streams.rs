//! Data on a connection: behaviours 33 to 39.

use std::{
    cell::{Cell, RefCell},
    io::{self, Write},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    carrier::{Carrier, Door, Peer, joined},
    rig::{Count, Log, Rig, Scripted, hold, ms, pattern, read_to_end},
};
use entwined::protocol::{self, Config, Connection, End, Flow, Lost, Protocol};

/// Runs one connection between our protocol and a peer on a thread. Ends when our side is lost.
/// Returns the reason and what the peer saw.
pub(super) fn converse<C: Carrier, R: Send + 'static>(
    protocol: Scripted,
    config: Option<Config>,
    talk: impl FnOnce(Peer) -> R + Send + 'static,
) -> (String, R) {
    let rig = Rig::new();
    converse_on::<C, R>(&rig, protocol, config, talk)
}

pub(super) fn converse_on<C: Carrier, R: Send + 'static>(
    rig: &Rig,
    protocol: Scripted,
    config: Option<Config>,
    talk: impl FnOnce(Peer) -> R + Send + 'static,
) -> (String, R) {
    let (lost, why) = (Count::default(), Rc::new(RefCell::new(String::new())));
    let protocol = LostTold {
        protocol,
        lost: lost.clone(),
        why: why.clone(),
    };
    let protocol = RefCell::new(Some(protocol));
    let Door {
        listener, dialer, ..
    } = C::open(&rig.handle);
    let server = protocol::serve(listener, move |_| protocol.take());
    if let Some(config) = config {
        server.set_config(config);
    }
    let peer = thread::spawn(move || talk(dialer.dial()));
    let handle = rig.handle.clone();
    rig.complete(async move {
        lost.reached(1).await;
        let seen = joined(&handle, peer).await;
        drop(server);
        assert_eq!(lost.get(), 1, "connection_lost came more than once");
        (why.take(), seen)
    })
}

/// A scripted protocol that records why it was lost, whatever else its script does then.
struct LostTold {
    protocol: Scripted,
    lost: Count,
    why: Rc<RefCell<String>>,
}

impl Protocol for LostTold {
    fn connection_made(&mut self, connection: &Connection) {
        self.protocol.connection_made(connection);
    }

    fn data_received(&mut self, connection: &Connection, data: &[u8]) {
        self.protocol.data_received(connection, data);
    }

    fn end_received(&mut self, connection: &Connection) -> End {
        self.protocol.end_received(connection)
    }

    fn pause_writing(&mut self, connection: &Connection) {
        self.protocol.pause_writing(connection);
    }

    fn resume_writing(&mut self, connection: &Connection) {
        self.protocol.resume_writing(connection);
    }

    fn connection_lost(&mut self, why: &Lost) {
        *self.why.borrow_mut() = why.to_string();
        self.lost.add(1);
        self.protocol.connection_lost(why);
    }
}

pub(super) fn b33_made_first_data_in_order_lost_once_and_last<C: Carrier>() {
    let log = Log::default();
    let received = Rc::new(RefCell::new(Vec::new()));
    let (kept, noted) = (received.clone(), log.clone());
    let protocol = Scripted::noting(&log).data(move |_, data| {
        noted.add("data");
        kept.borrow_mut().extend_from_slice(data);
    });
    let bytes = pattern(1_000_000);
    let sent = bytes.clone();
    let (why, rest) = converse::<C, _>(protocol, None, move |mut stream| {
        stream.write_all(&sent).expect("written");
        stream.end();
        read_to_end(&mut stream).expect("the end")
    });
    assert_eq!(why, "the connection was closed");
    assert!(rest.is_empty());
    assert!(
        *received.borrow() == bytes,
        "what came is not what was sent"
    );
    let mut entries = log.entries();
    entries.dedup();
    assert_eq!(
        entries,
        ["made", "data", "end", "lost: the connection was closed"]
    );
}

pub(super) fn b33_lost_says_why<C: Carrier>() {
    let on_data =
        |action: fn(&Connection)| Scripted::new().data(move |connection, _| action(connection));
    let poke = |mut stream: Peer| {
        stream.write_all(b"!").expect("written");
        let _ = read_to_end(&mut stream);
    };
    assert_eq!(
        converse::<C, _>(on_data(Connection::close), None, poke).0,
        "the connection was closed"
    );
    assert_eq!(
        converse::<C, _>(on_data(Connection::abort), None, poke).0,
        "the connection was aborted"
    );
    assert_eq!(
        converse::<C, _>(Scripted::new(), None, drop).0,
        "the connection was closed"
    );
}

pub(super) fn b34_writes_after_the_end_are_no_ops<C: Carrier>() {
    let kept = Rc::new(RefCell::new(None::<Connection>));
    let keep = kept.clone();
    let protocol = Scripted::new()
        .data(|connection, _| {
            assert_eq!(connection.write(b"before"), Flow::Open);
            connection.close();
            assert!(connection.is_closing());
            assert_eq!(connection.write(b"after"), Flow::Closed);
        })
        .made(move |connection| *keep.borrow_mut() = Some(connection.clone()));
    let (_, seen) = converse::<C, _>(protocol, None, |mut stream| {
        stream.write_all(b"!").expect("written");
        read_to_end(&mut stream).expect("the end")
    });
    assert_eq!(seen, b"before");
    let connection = kept.take().expect("it was kept");
    assert_eq!(connection.write(b"long after"), Flow::Closed);
    assert_eq!(connection.unsent(), 0);
    connection.close();
    connection.abort();
    connection.pause_reading();
    connection.resume_reading();
    connection.end();
}

pub(super) fn b34_a_write_never_blocks_and_never_calls_back_into_the_writer<C: Carrier>() {
    let writing = Rc::new(Cell::new(false));
    let not_inside = |writing: &Rc<Cell<bool>>| {
        let writing = writing.clone();
        move |_: &Connection| assert!(!writing.get(), "a callback came from inside a write")
    };
    let now = writing.clone();
    let config = Config {
        max_queued: 64 << 20,
        ..Config::default()
    };
    let protocol = Scripted::new()
        .pause(not_inside(&writing))
        .resume(not_inside(&writing))
        .data(move |connection, _| {
            let piece = vec![1; 1 << 20];
            let start = Instant::now();
            now.set(true);
            // Far more than the system accepts, because nobody reads.
            let flows: Vec<_> = (0..32).map(|_| connection.write(&piece)).collect();
            now.set(false);
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "32 MiB took {:?} to write",
                start.elapsed()
            );
            assert_eq!(flows[31], Flow::Full);
            connection.abort();
        });
    converse::<C, _>(protocol, Some(config), |mut stream| {
        stream.write_all(b"!").expect("written");
        stream.hold();
    });
}

pub(super) fn b35_close_flushes_what_was_written<C: Carrier>() {
    let config = Config {
        max_queued: 16 << 20,
        ..Config::default()
    };
    let bytes = pattern(8 << 20);
    let written = bytes.clone();
    let protocol = Scripted::new().made(move |connection| {
        connection.write(&written);
        connection.close();
    });
    let (why, seen) = converse::<C, _>(protocol, Some(config), |mut stream| {
        read_to_end(&mut stream).expect("the end")
    });
    assert_eq!(why, "the connection was closed");
    assert!(
        seen == bytes,
        "{} bytes came of {}",
        seen.len(),
        bytes.len()
    );
}

pub(super) fn b35_close_flushes_though_the_peer_has_sent_what_nobody_reads<C: Carrier>() {
    let rig = Rig::new();
    let (sent, sending) = mpsc::channel();
    let (sending, handle) = (Cell::new(Some(sending)), rig.handle.clone());
    let protocol = Scripted::new()
        .made(move |connection| {
            // Pause until all data has arrived, which is more than one receive takes.
            connection.pause_reading();
            let (connection, sending) =
                (connection.clone(), sending.take().expect("one connection"));
            let clock = handle.clone();
            let wait = async move {
                while sending.try_recv().is_err() {
                    clock.sleep(ms(1)).await;
                }
                connection.resume_reading();
            };
            handle.spawn(wait);
        })
        .data(|connection, _| {
            connection.write(b"goodbye");
            connection.close();
        });
    let (_, seen) = converse_on::<C, _>(&rig, protocol, None, move |mut stream| {
        stream.write_all(&[0; 200_000]).expect("written");
        sent.send(()).expect("awaited");
        read_to_end(&mut stream)
    });
    assert_eq!(seen.expect("the end, not a reset"), b"goodbye");
}

pub(super) fn b35_abort_drops_what_was_written_and_resets<C: Carrier>() {
    let protocol = Scripted::new().data(|connection, _| {
        connection.write(&[7; 500_000]);
        connection.abort();
        assert_eq!(connection.write(b"more"), Flow::Closed);
    });
    let (why, seen) = converse::<C, _>(protocol, None, |mut stream| {
        stream.write_all(b"!").expect("written");
        read_to_end(&mut stream)
    });
    assert_eq!(why, "the connection was aborted");
    if C::ABORT_SHOWS {
        assert_eq!(
            seen.expect_err("a reset").kind(),
            io::ErrorKind::ConnectionReset
        );
    } else {
        assert_eq!(seen.expect("the end"), b"");
    }
}

pub(super) fn b35_abort_twice_or_abort_then_close_is_harmless<C: Carrier>() {
    let protocol = Scripted::new().data(|connection, _| {
        connection.close();
        connection.abort();
        connection.abort();
        connection.close();
        connection.end();
    });
    let (why, _) = converse::<C, _>(protocol, None, |mut stream| {
        stream.write_all(b"!").expect("written");
        read_to_end(&mut stream)
    });
    assert_eq!(why, "the connection was aborted");
}

pub(super) fn b36_a_peer_that_closes_while_we_are_paused_is_noticed_at_resume_with_its_data<
    C: Carrier,
>() {
    let rig = Rig::new();
    let log = Log::default();
    let handle = rig.handle.clone();
    let (gone, going) = mpsc::channel();
    let going = Cell::new(Some(going));
    let noted = log.clone();
    let protocol = Scripted::noting(&log).made(move |connection| {
        connection.pause_reading();
        assert!(connection.is_reading_paused());
        let (connection, noted, clock) = (connection.clone(), noted.clone(), handle.clone());
        let going = going.take().expect("one connection");
        handle.spawn(async move {
            while going.try_recv().is_err() {
                clock.sleep(ms(1)).await;
            }
            clock.sleep(ms(10)).await;
            noted.add("resumed");
            connection.resume_reading();
        });
    });
    let (why, ()) = converse_on::<C, _>(&rig, protocol, None, move |mut stream| {
        stream.write_all(b"last words").expect("written");
        drop(stream);
        gone.send(()).expect("awaited");
    });
    assert_eq!(why, "the connection was closed");
    log.assert(&[
        "resumed",
        "data last words",
        "end",
        "lost: the connection was closed",
    ]);
}

pub(super) fn b37_pause_in_connection_made_holds<C: Carrier>() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    let resumed = Rc::new(Cell::new(false));
    let seen = resumed.clone();
    let protocol = Scripted::new()
        .made(move |connection| {
            connection.pause_reading();
            let (connection, resumed) = (connection.clone(), resumed.clone());
            handle.call_later(ms(30), move || {
                resumed.set(true);
                connection.resume_reading();
            });
        })
        .data(move |connection, data| {
            assert!(seen.get(), "data came while reading was paused");
            connection.write(data);
            connection.close();
        });
    let (_, echoed) = converse_on::<C, _>(&rig, protocol, None, |mut stream| {
        stream.write_all(b"early").expect("written");
        read_to_end(&mut stream).expect("the end")
    });
    assert_eq!(echoed, b"early");
}

pub(super) fn b37_pause_and_resume_over_and_over_lose_and_repeat_nothing<C: Carrier>() {
    let rig = Rig::new();
    let received = Rc::new(RefCell::new(Vec::new()));
    let (kept, handle) = (received.clone(), rig.handle.clone());
    let mut round = 0;
    let protocol = Scripted::new().data(move |connection, data| {
        assert!(
            !connection.is_reading_paused(),
            "data came while reading was paused"
        );
        kept.borrow_mut().extend_from_slice(data);
        connection.pause_reading();
        let connection = connection.clone();
        round += 1;
        match round % 4 {
            // From inside the callback, from a call, from a timer, and back and forth.
            0 => connection.resume_reading(),
            1 => handle.call_soon(move || connection.resume_reading()),
            2 => drop(handle.call_later(Duration::from_micros(100), move || {
                connection.resume_reading()
            })),
            _ => handle.call_soon(move || {
                connection.resume_reading();
                connection.pause_reading();
                connection.resume_reading();
                connection.resume_reading();
            }),
        }
    });
    let bytes = pattern(2_000_000);
    let sent = bytes.clone();
    converse_on::<C, _>(&rig, protocol, None, move |mut stream| {
        for piece in sent.chunks(10_007) {
            stream.write_all(piece).expect("written");
        }
    });
    assert!(
        *received.borrow() == bytes,
        "{} bytes came of {}",
        received.borrow().len(),
        bytes.len()
    );
}

pub(super) fn b38_a_full_buffer_pauses_the_producer_and_draining_resumes_it<C: Carrier>() {
    const TOTAL: usize = 16 << 20;
    let log = Log::default();
    let (paused, resumed) = (log.clone(), log.clone());
    let left = Rc::new(Cell::new(TOTAL));
    let produce = move |connection: &Connection| {
        let config = connection.config();
        while left.get() > 0 {
            let piece = vec![3; 10_000.min(left.get())];
            let flow = connection.write(&piece);
            assert!(
                connection.unsent() <= config.high_water + piece.len(),
                "{} bytes wait",
                connection.unsent()
            );
            left.set(left.get() - piece.len());
            match flow {
                Flow::Open => {}
                Flow::Full => return,
                Flow::Closed => panic!("the connection was ended"),
            }
        }
        connection.close();
    };
    let again = produce.clone();
    // The peer reads nothing before that: if it read faster than this side writes, nothing would
    // ever wait.
    let full = Arc::new(AtomicBool::new(false));
    let is_full = full.clone();
    let protocol = Scripted::new()
        .made(produce)
        .pause(move |_| {
            full.store(true, Ordering::Relaxed);
            paused.add("pause");
        })
        .resume(move |connection| {
            resumed.add("resume");
            assert!(connection.unsent() <= connection.config().low_water);
            again(connection);
        });
    let (why, seen) = converse::<C, _>(protocol, None, move |mut stream| {
        while !is_full.load(Ordering::Relaxed) {
            hold(ms(1));
        }
        read_to_end(&mut stream).expect("the end").len()
    });
    assert_eq!((why.as_str(), seen), ("the connection was closed", TOTAL));
    let entries = log.entries();
    assert!(
        entries.iter().any(|entry| entry == "pause"),
        "the producer was never paused"
    );
    // A pause is followed by a resume and not by another pause.
    assert!(
        entries
            .windows(2)
            .all(|pair| pair[0] == "resume" || pair[1] == "resume")
    );
}

pub(super) fn b38_a_writer_without_regard_is_told_bounded_and_ended<C: Carrier>() {
    let most = Config::default().max_queued;
    let written = Rc::new(Cell::new(0_usize));
    let total = written.clone();
    let protocol = Scripted::new().data(move |connection, _| {
        let piece = [9; 64 * 1024];
        let mut full = false;
        loop {
            let flow = connection.write(&piece);
            assert!(
                connection.unsent() <= most,
                "{} bytes wait for a peer that does not read",
                connection.unsent()
            );
            match flow {
                Flow::Closed => break,
                Flow::Full => full = true,
                Flow::Open => assert!(!full, "full, and open again although nothing was sent"),
            }
            total.set(total.get() + piece.len());
            assert!(total.get() <= most, "no limit ended it");
        }
        assert!(full, "the connection did not tell");
        assert_eq!(connection.write(b"more"), Flow::Closed);
    });
    let (why, ()) = converse::<C, _>(protocol, None, |mut stream| {
        stream.write_all(b"!").expect("written");
        stream.hold();
    });
    assert_eq!(why, "the peer does not read, and too much was written");
    assert!(written.get() > 0);
}

pub(super) fn b38_a_writer_without_regard_over_many_turns_is_ended_too<C: Carrier>() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    let most = Config::default().max_queued;
    let protocol = Scripted::new().made(move |connection| {
        let (connection, clock) = (connection.clone(), handle.clone());
        handle.spawn(async move {
            while connection.write(&[5; 16 * 1024]) != Flow::Closed {
                assert!(connection.unsent() <= most);
                clock.sleep(Duration::ZERO).await;
                clock.sleep(Duration::from_micros(50)).await;
            }
            assert_eq!(connection.unsent().min(most + 1), connection.unsent());
        });
    });
    let (end, ending) = mpsc::channel::<()>();
    let end = Cell::new(Some(end));
    let protocol = protocol.lost(move |_| drop(end.take()));
    let (why, ()) = converse_on::<C, _>(&rig, protocol, None, move |stream| {
        // Keep the connection open, without reading, until our side is done.
        let _ = ending.recv();
        drop(stream);
    });
    assert_eq!(why, "the peer does not read, and too much was written");
}

pub(super) fn b39_after_a_half_close_the_peer_hears_the_end_and_can_still_send<C: Carrier>() {
    let log = Log::default();
    let protocol = Scripted::noting(&log).made(|connection| {
        connection.write(b"question");
        connection.end();
        assert_eq!(connection.write(b"more"), Flow::Closed);
    });
    let (why, question) = converse::<C, _>(protocol, None, |mut stream| {
        let question = read_to_end(&mut stream).expect("the end");
        stream.write_all(b"answer").expect("written");
        question
    });
    assert_eq!(question, b"question");
    assert_eq!(why, "the connection was closed");
    log.assert(&["data answer", "end", "lost: the connection was closed"]);
}

pub(super) fn b39_when_the_peer_half_closes_we_can_still_send<C: Carrier>() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    let protocol = Scripted::new().end(move |connection| {
        let connection = connection.clone();
        handle.call_later(ms(5), move || {
            assert_eq!(connection.write(b"answer"), Flow::Open);
            connection.close();
        });
        End::KeepWriting
    });
    let (why, answer) = converse_on::<C, _>(&rig, protocol, None, |mut stream| {
        stream.write_all(b"question").expect("written");
        stream.end();
        read_to_end(&mut stream).expect("the end")
    });
    assert_eq!(answer, b"answer");
    assert_eq!(why, "the connection was closed");
}

pub(super) fn b39_a_protocol_without_support_for_it_closes<C: Carrier>() {
    let protocol = Scripted::new().data(|connection, _| {
        connection.write(b"last words");
    });
    let (why, seen) = converse::<C, _>(protocol, None, |mut stream| {
        stream.write_all(b"!").expect("written");
        stream.end();
        read_to_end(&mut stream).expect("the end")
    });
    assert_eq!(
        (why.as_str(), &*seen),
        ("the connection was closed", &b"last words"[..])
    );
}
