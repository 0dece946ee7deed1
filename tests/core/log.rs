//! What a program without a `tracing` subscriber sees of its errors. Each case runs in a child
//! process, because a subscriber of another test would change the outcome.

use std::{
    env,
    error::Error,
    panic::panic_any,
    process::Command,
    time::{Duration, Instant},
};

use entwined::{
    Standalone,
    deferred::Deferred,
    reactor::{Phase, RunError},
};

/// Marks the child process for the test of this name.
const CHILD: &str = "ENTWINED_TEST_CHILD";

/// Runs `test` in a child process, and returns the library's lines on its standard error.
fn lines_of(test: &str) -> Vec<String> {
    let output = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, test)
        .output()
        .expect("a child");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr)
        .lines()
        .filter(|line| line.starts_with("entwined: "))
        .map(str::to_owned)
        .collect()
}

fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Everything that may go wrong unnoticed.
fn go_wrong() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    handle.set_stall_threshold(Duration::from_micros(1));
    handle.call_soon(|| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(5) {}
    });
    handle.call_soon(|| panic!("in a call"));
    handle
        .on_shutdown(Phase::Before, || async {
            Err::<(), Box<dyn Error>>("no farewell".into())
        })
        .keep();
    drop(Deferred::<(), String>::ready(Err("nobody cares".into())));
    handle.call_soon({
        let handle = handle.clone();
        move || handle.stop()
    });
    reactor.run().expect("a run");
}

#[test]
fn without_a_subscriber_errors_go_to_standard_error() {
    if is_child() {
        return go_wrong();
    }
    let lines = lines_of("log::without_a_subscriber_errors_go_to_standard_error");
    for part in [
        "unhandled error in a Deferred created at tests/core/log.rs:",
        "held the thread for",
        "panicked: in a call",
        "failed: no farewell",
    ] {
        let count = lines.iter().filter(|line| line.contains(part)).count();
        assert!(count > 0, "{part:?} is not in {lines:#?}");
    }
}

#[test]
fn with_a_subscriber_standard_error_is_left_to_it() {
    if !is_child() {
        let lines = lines_of("log::with_a_subscriber_standard_error_is_left_to_it");
        assert_eq!(lines, [""; 0]);
        return;
    }
    tracing::subscriber::with_default(Quiet, go_wrong);
}

/// A subscriber that takes no interest in anything.
struct Quiet;

impl tracing::Subscriber for Quiet {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        false
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// A panic's payload whose destructor panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in the payload's destructor");
    }
}

#[test]
fn a_panic_whose_payload_panics_ends_only_its_own_callback() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    handle.call_soon(|| panic_any(Bomb));
    let task = handle.spawn(async { panic_any(Bomb) });
    let chain = Deferred::<_, String>::ready(Ok(())).map(|()| -> () { panic_any(Bomb) });
    let job = handle.defer_to_thread(|_| -> Result<(), String> { panic_any(Bomb) });
    let remote = handle.remote();
    let caller = handle.defer_to_thread(move |_| {
        let result = remote.call(|_| -> () { panic_any(Bomb) });
        Ok::<_, String>(result)
    });
    let main = async {
        task.await.unwrap_err();
        chain.await.unwrap_err();
        job.await.unwrap_err();
        caller.await.expect("the thread").unwrap_err();
        Ok::<_, RunError>(())
    };
    reactor.block_on(main).expect("a run");
}
