//! Signals that end the process, tested in a child process. They use SIGTERM, because a shell makes
//! background processes ignore SIGINT.

use std::{
    env,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus},
    thread,
    time::Duration,
};

use entwined::{
    Standalone,
    reactor::Phase,
    signal::{self, Signal},
};
use rustix::process::{getpid, kill_process};

/// Marks the child process for the test of this name.
const CHILD: &str = "ENTWINED_TEST_CHILD";

/// Runs the test of this name in a child process.
fn run_child(name: &str) -> ExitStatus {
    let mut child = Command::new(env::current_exe().expect("a path"));
    child
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, name)
        .status()
        .expect("a child")
}

fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

fn send_to_ourselves(signal: Signal) {
    kill_process(getpid(), signal).expect("sent");
}

/// A signal may take effect on another thread, a moment later.
fn wait_for_the_end() {
    thread::sleep(Duration::from_secs(10));
}

#[test]
fn after_the_run_a_signal_has_its_default_effect_again() {
    if !is_child() {
        let status =
            run_child("on_linux::signal::after_the_run_a_signal_has_its_default_effect_again");
        assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{status}");
        return;
    }
    let reactor = Standalone::new().expect("a reactor");
    signal::stop_on(&reactor.handle(), [Signal::INT, Signal::TERM])
        .expect("they can be caught")
        .keep();
    send_to_ourselves(Signal::TERM);
    reactor.run().expect("a run that the signal ends");
    send_to_ourselves(Signal::TERM);
    wait_for_the_end();
    panic!("the second signal had no effect");
}

#[test]
fn a_second_signal_ends_a_shutdown_that_takes_too_long() {
    if !is_child() {
        let status =
            run_child("on_linux::signal::a_second_signal_ends_a_shutdown_that_takes_too_long");
        assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{status}");
        return;
    }
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    signal::stop_on(&handle, [Signal::INT, Signal::TERM])
        .expect("they can be caught")
        .keep();
    handle
        .on_shutdown(Phase::Before, || async {
            send_to_ourselves(Signal::TERM);
            wait_for_the_end();
            Err("the second signal had no effect".into())
        })
        .keep();
    handle.call_soon(|| send_to_ourselves(Signal::TERM));
    reactor.run().expect("a run");
}
