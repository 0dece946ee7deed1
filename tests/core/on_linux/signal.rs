//! Signals that end the process, tested in a child process. They use SIGTERM, because a shell makes
//! background processes ignore SIGINT.

use std::{
    env, io,
    os::unix::{net::UnixStream, process::ExitStatusExt},
    process::{Command, ExitStatus},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use entwined::{
    Standalone,
    reactor::Phase,
    signal::{self, Signal},
    transport::fd,
};
use rustix::process::{Resource, Rlimit, getpid, getrlimit, kill_process, setrlimit};

use crate::{run::run, streams::write_all};

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

/// A program that blocks a signal, to read it from a file descriptor, can do so in its own threads
/// only. In another one the signal would end the program.
#[test]
fn the_threads_of_the_reactor_take_no_signals_of_the_process() {
    use entwined::{
        reactor::{HostCall, Interleave},
        thread::{Config, ThreadPool},
    };
    let interleave = Interleave::new(|call: HostCall| drop(call)).expect("a reactor");
    let handle = interleave.handle();
    let pool = ThreadPool::new("unsignalled", Config::default());
    let (free, held) = std::sync::mpsc::channel::<()>();
    let job = pool.defer(&handle, move |_| {
        let _ = held.recv();
        Ok::<_, String>(())
    });
    // SIGINT, SIGTERM and SIGCHLD, and not SIGSEGV and SIGPROF (signal(7)).
    let (blocked, free_ones) = ([2, 15, 17], [11, 27]);
    for name in ["unsignalled-1", "entwined-watche"] {
        let start = std::time::Instant::now();
        let of = |task: std::fs::DirEntry| {
            let status = std::fs::read_to_string(task.path().join("status")).ok()?;
            let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
            let mask = u64::from_str_radix(line("SigBlk:")?.trim(), 16).ok()?;
            (line("Name:")?.trim() == name).then_some(mask)
        };
        let is = |mask: u64, signal: u32| mask >> (signal - 1) & 1 == 1;
        // The thread may only just have begun.
        loop {
            let tasks = std::fs::read_dir("/proc/self/task").expect("proc(5)");
            let masks: Vec<u64> = tasks.filter_map(Result::ok).filter_map(of).collect();
            let all = |mask: &u64| blocked.iter().all(|signal| is(*mask, *signal));
            if !masks.is_empty() && masks.iter().all(all) {
                for signal in free_ones {
                    assert!(
                        !masks.iter().any(|mask| is(*mask, signal)),
                        "{name}: {signal}"
                    );
                }
                break;
            }
            assert!(
                start.elapsed() < std::time::Duration::from_secs(5),
                "{name}: {masks:x?}"
            );
            std::thread::yield_now();
        }
    }
    drop((free, job));
}

/// Programs in other languages do not ignore this signal.
#[test]
fn a_pipe_that_nobody_reads_raises_no_signal() {
    let name = "on_linux::signal::a_pipe_that_nobody_reads_raises_no_signal";
    if !is_child() {
        assert!(run_child(name).success());
        return;
    }
    let raised = Arc::new(AtomicBool::new(false));
    let number = signal_hook::consts::SIGPIPE;
    signal_hook::flag::register(number, raised.clone()).expect("a handler");
    run(|handle| async move {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let (near, far) = UnixStream::pair().expect("a socket");
        drop((reader, far));
        let pipe = fd::pair(&handle, None, Some(writer)).expect("a pipe");
        let socket = fd::duplex(&handle, near.into()).expect("a socket");
        // Nor if there are no file descriptors left.
        let limit = getrlimit(Resource::Nofile);
        let none = Rlimit {
            current: Some(0),
            ..limit
        };
        setrlimit(Resource::Nofile, none).expect("a lower limit");
        for mut stream in [pipe, socket] {
            let written = write_all(&mut stream, b"hello").await;
            let error = written.expect_err("nobody reads");
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
    });
    assert!(!raised.load(Ordering::SeqCst));
    // From others it still comes.
    send_to_ourselves(Signal::PIPE);
    while !raised.load(Ordering::SeqCst) {
        thread::yield_now();
    }
}
