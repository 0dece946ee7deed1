//! How connections start and end: behaviours 41 to 46.

use std::{
    cell::{Cell, RefCell},
    io::{self, Write},
    rc::{Rc, Weak},
    sync::mpsc,
    thread,
};

use super::{
    carrier::{Carrier, Connect, Door, Peer, joined},
    rig::{Count, Rig, Scripted, ms, read_exactly, read_to_end},
    streams::{converse, converse_on},
    sys,
};
use entwined::{
    Handle,
    protocol::{self, Config, Connection, Echo, End, Flow, Lost},
};

#[cfg(unix)]
mod descriptors;
#[cfg(windows)]
mod handles;

#[cfg(unix)]
pub(super) use descriptors::b43_out_of_fds_nobody_hangs_nothing_spins_and_accepting_goes_on;
#[cfg(windows)]
pub(super) use handles::b43_out_of_fds_nobody_hangs_nothing_spins_and_accepting_goes_on;

pub(super) fn b41_connect_again_from_inside_connection_lost<C: Carrier>() {
    let (rig, rounds) = (Rig::new(), Count::default());
    let Door {
        listener, connect, ..
    } = C::open(&rig.handle);
    let _server = protocol::serve(listener, |_| Some(Scripted::new().made(Connection::close)));
    fn dial_again(handle: Handle, connect: Connect, rounds: Count) {
        let dialing = handle.clone();
        let dial = async move {
            let stream = connect().await;
            let again = handle.clone();
            let protocol = Scripted::new().lost(move |_| {
                rounds.add(1);
                if rounds.get() < 20 {
                    dial_again(again.clone(), connect.clone(), rounds.clone());
                }
            });
            protocol::start(&handle, stream, protocol);
        };
        dialing.spawn(dial);
    }
    dial_again(rig.handle.clone(), connect, rounds.clone());
    rig.complete(rounds.reached(20));
}

pub(super) fn b42_a_factory_that_refuses_a_connection_closes_it_cleanly<C: Carrier>() {
    let rig = Rig::new();
    let mut asked = 0;
    let first_only = RefCell::new(move || {
        asked += 1;
        (asked != 1).then_some(Echo)
    });
    let Door {
        listener, dialer, ..
    } = C::open(&rig.handle);
    let server = protocol::serve(listener, move |_| (first_only.borrow_mut())());
    let client = thread::spawn(move || {
        assert_eq!(
            read_to_end(&mut dialer.dial()).expect("the end, not a reset"),
            b""
        );
        // The next connection is served.
        let mut second = dialer.dial();
        second.write_all(b"ping").expect("written");
        assert_eq!(read_exactly(&mut second, 4).expect("an echo"), b"ping");
    });
    let handle = rig.handle.clone();
    rig.complete(async move { joined(&handle, client).await });
    drop(server);
}

pub(super) fn b42_a_factory_that_panics_ends_that_connection_only<C: Carrier>() {
    let rig = Rig::new();
    let asked = Cell::new(0);
    let Door {
        listener, dialer, ..
    } = C::open(&rig.handle);
    let _server = protocol::serve(listener, move |_| {
        asked.set(asked.get() + 1);
        assert_ne!(asked.get(), 1, "in a factory");
        Some(Echo)
    });
    let remote = rig.handle.remote();
    let client = thread::spawn(move || {
        assert_eq!(
            read_to_end(&mut dialer.dial()).expect("the end, not a reset"),
            b""
        );
        let mut second = dialer.dial();
        second.write_all(b"ping").expect("written");
        assert_eq!(read_exactly(&mut second, 4).expect("an echo"), b"ping");
        remote.post(|handle| handle.stop()).expect("there");
    });
    rig.harness.run().expect("a run");
    client.join().expect("the peer");
    let panics = rig.take_panics();
    assert!(
        panics.len() == 1 && panics[0].contains("in a factory"),
        "{panics:?}"
    );
}

pub(super) fn b44_a_reset_is_an_error_with_its_kind<C: Carrier>() {
    let kind = Rc::new(Cell::new(None));
    let seen = kind.clone();
    // Write two bytes, so that one of them stays unread.
    let greeting = Scripted::new().made(|connection| {
        connection.write(b"!!");
    });
    let protocol = greeting.lost(move |why| match why {
        Lost::Failed(error) => seen.set(Some(error.kind())),
        other => panic!("{other}"),
    });
    converse::<C, _>(protocol, None, Peer::reset);
    assert_eq!(kind.get(), Some(io::ErrorKind::ConnectionReset));
}

pub(super) fn b44_a_broken_pipe_is_an_error_with_its_kind_and_no_signal<C: Carrier>() {
    let rig = Rig::new();
    let kind = Rc::new(Cell::new(None));
    let (seen, handle) = (kind.clone(), rig.handle.clone());
    let protocol = Scripted::new()
        .made(move |connection| {
            // Nobody reads. The first write provokes a reset, and a later write fails with it.
            connection.pause_reading();
            let (connection, clock) = (connection.clone(), handle.clone());
            handle.spawn(async move {
                while connection.write(b"to nobody") != Flow::Closed {
                    clock.sleep(ms(1)).await;
                }
            });
        })
        .lost(move |why| match why {
            Lost::Failed(error) => seen.set(Some(error.kind())),
            other => panic!("{other}"),
        });
    converse_on::<C, _>(&rig, protocol, None, drop);
    let kind = kind.get().expect("an error");
    assert!(
        matches!(
            kind,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        ),
        "{kind:?}"
    );
}

pub(super) fn b44_a_peer_that_takes_nothing_any_more_does_not_hold_a_closed_connection<
    C: Carrier,
>() {
    let (end, ending) = mpsc::channel::<()>();
    let end = Cell::new(Some(end));
    let config = Config {
        max_queued: 64 << 20,
        close_timeout: ms(50),
        ..Config::default()
    };
    let protocol = Scripted::new()
        .made(|connection| {
            connection.write(&vec![1; 32 << 20]);
            connection.close();
        })
        .lost(move |_| drop(end.take()));
    let (why, ()) = converse::<C, _>(protocol, Some(config), move |stream| {
        let _ = ending.recv();
        drop(stream);
    });
    assert_eq!(why, "the peer did not take the last bytes in time");
}

/// Makes a protocol that panics in the callback of this name.
fn panicking(callback: &'static str) -> Scripted {
    let panic_if = move |name: &str| assert_ne!(name, callback, "in a callback");
    Scripted::new()
        .made(move |connection| {
            panic_if("made");
            connection.set_config(Config {
                high_water: 1,
                ..connection.config()
            });
        })
        .data(move |connection, _| {
            panic_if("data");
            // More than the system accepts at once, so that there is a pause and a resume.
            connection.set_config(Config {
                max_queued: 64 << 20,
                ..connection.config()
            });
            connection.write(&vec![1; 16 << 20]);
        })
        .end(move |_| {
            panic_if("end");
            End::Close
        })
        .pause(move |_| panic_if("pause"))
        .resume(move |_| panic_if("resume"))
        .lost(move |_| panic_if("lost"))
}

pub(super) fn b45_a_panic_in_a_callback_ends_that_connection_and_nothing_else<C: Carrier>() {
    for callback in ["made", "data", "end", "pause", "resume", "lost"] {
        let rig = Rig::new();
        let (echo, door) = (C::open(&rig.handle), C::open(&rig.handle));
        let _echo = protocol::serve(echo.listener, |_| Some(Echo));
        let _server = protocol::serve(door.listener, move |_| Some(panicking(callback)));
        let remote = rig.handle.remote();
        let client = thread::spawn(move || {
            let mut bystander = echo.dialer.dial();
            let mut victim = door.dialer.dial();
            // The connection may be lost already.
            let _ = victim.write_all(b"!");
            if callback == "end" || callback == "lost" {
                victim.end();
            }
            if callback == "pause" {
                // If the peer read as fast as we write, there would be no pause.
                victim.hold();
            }
            let _ = read_to_end(&mut victim);
            bystander.write_all(b"alive?").expect("written");
            assert_eq!(read_exactly(&mut bystander, 6).expect("an echo"), b"alive?");
            remote.post(|handle| handle.stop()).expect("there");
        });
        rig.harness.run().expect("a run");
        client.join().expect("the bystander was served");
        let panics = rig.take_panics();
        assert!(
            panics.len() == 1 && panics[0].contains("in a callback"),
            "{callback}: {panics:?}"
        );
        assert!(
            panics[0].contains("conformance/src/"),
            "the location is missing: {panics:?}"
        );
    }
}

pub(super) fn b46_the_last_reference_to_a_protocol_goes_with_its_connection<C: Carrier>() {
    let rig = Rig::new();
    let kept = Rc::new(RefCell::new((Weak::new(), None)));
    let slot = kept.clone();
    let protocol = Scripted::new().made(move |connection| {
        let owned = Rc::new(());
        *slot.borrow_mut() = (Rc::downgrade(&owned), Some(connection.clone()));
        let inner = connection.clone();
        let handle = connection.handle().clone();
        let state = owned.clone();
        // A connection that outlives its connection does not keep the protocol alive.
        connection.handle().call_later(ms(1), move || {
            let _state = state;
            inner.close();
            drop(handle);
        });
        std::mem::drop(owned);
    });
    converse_on::<C, _>(&rig, protocol, None, |mut stream| {
        drop(read_to_end(&mut stream))
    });
    let (owned, connection) = kept.take();
    assert!(owned.upgrade().is_none());
    assert!(connection.expect("it was kept").is_closing());
}

pub(super) fn b46_thousands_of_connections_leave_nothing_behind<C: Carrier>() {
    let rig = Rig::new();
    let lost = Count::default();
    let ends = lost.clone();
    let Door {
        listener, connect, ..
    } = C::open(&rig.handle);
    let _server = protocol::serve(listener, move |_| {
        let ends = ends.clone();
        let owned = vec![0_u8; 4096];
        let protocol = Scripted::new().data(|connection, data| {
            connection.write(data);
        });
        Some(protocol.lost(move |_| {
            let _ = &owned;
            ends.add(1);
        }))
    });
    let handle = rig.handle.clone();
    rig.complete(async move {
        handle.sleep(ms(1)).await;
        let at_first = handle.metrics();
        let fds = sys::open_files();
        let mut memory = 0;
        for round in 0..C::MANY / 100 {
            for _ in 0..100 {
                let ends = lost.clone();
                // Abort, so that no port stays in TIME_WAIT.
                let protocol = Scripted::new()
                    .data(|connection, _| connection.abort())
                    .lost(move |_| ends.add(1));
                protocol::start(&handle, connect().await, protocol).write(b"ping");
            }
            lost.reached((round + 1) * 200).await;
            if round == 9 {
                // Memory that is kept for reuse has been allocated by now.
                memory = sys::resident();
            }
        }
        handle.sleep(ms(5)).await;
        let at_last = handle.metrics();
        let more = sys::open_files().abs_diff(fds);
        assert!(
            (0..=sys::OPEN_FILES_DIFFER).contains(&more),
            "{more} file descriptors"
        );
        assert_eq!(at_last.sources, at_first.sources, "sources");
        assert_eq!(at_last.timers, at_first.timers, "timers");
        assert_eq!(at_last.tasks, at_first.tasks, "tasks");
        // If the protocols were kept, each would need at least 4 KiB.
        let (grown, most) = (
            sys::resident().saturating_sub(memory),
            2 * (C::MANY - 1_000) / 1_000 * 500,
        );
        assert!(
            grown < most.max(4 * 1024),
            "{grown} KiB more after {} connections",
            C::MANY - 1_000
        );
    });
}
