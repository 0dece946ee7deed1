//! Signals: behaviour 10.

use rustix::process::{getpid, kill_process};

use super::{
    life::note_phase,
    rig::{Count, Log, Rig, ms},
    sys::caught_signals,
};
use entwined::{
    reactor::Phase,
    signal::{self, Signal, Signals},
};

pub(super) fn b10_a_reactor_that_was_not_asked_leaves_signals_to_the_host() {
    let before = caught_signals();
    let rig = Rig::new();
    let handle = rig.handle.clone();
    let during = rig.complete(async move {
        handle.sleep(ms(1)).await;
        caught_signals()
    });
    assert_eq!([during, caught_signals()], [before.clone(), before]);
}

fn send_to_ourselves(signal: Signal) {
    kill_process(getpid(), signal).expect("sent");
}

pub(super) fn b10_sigint_and_sigterm_stop_a_run_in_order() {
    for signal in [Signal::INT, Signal::TERM] {
        let (rig, log) = (Rig::new(), Log::default());
        signal::stop_on(&rig.handle, [Signal::INT, Signal::TERM])
            .expect("they can be caught")
            .keep();
        for (phase, name) in [(Phase::Before, "before"), (Phase::After, "after")] {
            note_phase(&rig.handle, phase, &log, name);
        }
        rig.handle
            .call_later(ms(5), move || send_to_ourselves(signal));
        rig.run();
        log.assert(&["before", "after"]);
    }
}

pub(super) fn b10_a_signal_before_the_run_is_kept_for_it() {
    let rig = Rig::new();
    signal::stop_on(&rig.handle, [Signal::TERM])
        .expect("it can be caught")
        .keep();
    send_to_ourselves(Signal::TERM);
    rig.run();
}

pub(super) fn b10_sigchld_reaps() {
    let rig = Rig::new();
    let children = Signals::new(&rig.handle, Signal::CHILD).expect("it can be caught");
    rig.complete(async move {
        let mut child = std::process::Command::new("true").spawn().expect("a child");
        let status = loop {
            match child.try_wait().expect("ours") {
                Some(status) => break status,
                None => children.next().await.expect("a signal"),
            }
        };
        assert!(status.success());
    });
}

pub(super) fn b10_each_who_watches_a_signal_hears_of_it() {
    let (rig, heard) = (Rig::new(), Count::default());
    for _ in 0..3 {
        let signals = Signals::new(&rig.handle, Signal::USR1).expect("it can be caught");
        let heard = heard.clone();
        rig.handle.spawn(async move {
            for _ in 0..5 {
                signals.next().await.expect("a signal");
                heard.add(1);
            }
        });
    }
    rig.complete(async move {
        for round in 1..6 {
            send_to_ourselves(Signal::USR1);
            heard.reached(3 * round).await;
        }
    });
    for signal in [Signal::KILL, Signal::STOP, Signal::SEGV] {
        assert!(Signals::new(&rig.handle, signal).is_err(), "{signal:?}");
    }
}
