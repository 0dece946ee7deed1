//! The reactor in a Cocoa application on GNUstep. The conformance suite covers what all backends
//! have in common; these tests cover what only a run loop can get wrong. Needs a display.

use std::{
    cell::{Cell, RefCell},
    env, io,
    os::unix::process::ExitStatusExt,
    process::{self, Command, Stdio},
    rc::Rc,
    sync::mpsc,
    thread,
    time::Duration,
};

use cocoa_host::{Panel, Timers};
use entwined_cocoa::entwined::{
    Handle,
    reactor::{LifeError, Phase},
};

/// A test that takes longer fails.
const LIMIT: Duration = Duration::from_secs(30);

/// The argument of the process that terminates.
const TERMINATES: &str = "--terminates";

fn main() {
    if env::args().any(|argument| argument == TERMINATES) {
        cocoa_host::application();
        return terminates();
    }
    // Before there is an application here: the other one would ask it, as one of the same name,
    // and wait for the answer.
    let name = "terminating_ends_the_run_in_order";
    println!("{name}");
    within_the_limit(name, terminating_ends_the_run_in_order);
    cocoa_host::application();
    let tests: [(&str, fn()); 3] = [
        (
            "another_thread_has_no_reactor",
            another_thread_has_no_reactor,
        ),
        (
            "stop_leaves_the_application_alone",
            stop_leaves_the_application_alone,
        ),
        (
            "a_panel_keeps_everybody_going",
            a_panel_keeps_everybody_going,
        ),
    ];
    for (name, test) in tests {
        println!("{name}");
        within_the_limit(name, test);
    }
}

fn within_the_limit(name: &'static str, test: fn()) {
    let (done, ended) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if ended.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{name} did not end within {LIMIT:?}");
            process::exit(1);
        }
    });
    test();
    drop(done);
    watchdog.join().expect("it does not panic");
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Says each shutdown phase, after some time.
fn tell_phases(handle: &Handle, tell: impl Fn(Phase) + Clone + 'static) {
    for phase in [Phase::Before, Phase::During, Phase::After] {
        let (sleeper, tell) = (handle.clone(), tell.clone());
        let hook = handle.on_shutdown(phase, move || async move {
            sleeper.sleep(ms(5)).await;
            tell(phase);
            Ok(())
        });
        hook.keep();
    }
}

fn another_thread_has_no_reactor() {
    let elsewhere = thread::spawn(|| entwined_cocoa::attach().map(drop));
    let error = elsewhere.join().unwrap().expect_err("another thread");
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
}

fn stop_leaves_the_application_alone() {
    let network = Rc::new(entwined_cocoa::attach().expect("a reactor"));
    let timers = Timers::new();
    let phases = Rc::new(RefCell::new(Vec::new()));
    tell_phases(&network, {
        let phases = phases.clone();
        move |phase| phases.borrow_mut().push(phase)
    });
    network.stop();
    timers.every(ms(1), {
        let network = network.clone();
        Box::new(move || {
            if network.is_running() {
                return true;
            }
            network.start().expect("the run before has ended");
            network.call_later(ms(5), cocoa_host::stop);
            false
        })
    });
    cocoa_host::run();
    assert_eq!(
        *phases.borrow(),
        [Phase::Before, Phase::During, Phase::After]
    );
    assert!(network.is_running(), "[NSApp stop:] ended the run");
    let handle = network.handle();
    drop(network);
    // The timer's closure has gone with its last call.
    assert_eq!(handle.try_stop(), Err(LifeError::Closed));
}

fn a_panel_keeps_everybody_going() {
    let network = entwined_cocoa::attach().expect("a reactor");
    let handle = network.handle();
    let opened = Rc::new(Cell::new(0));
    handle.call_soon({
        let (handle, opened) = (handle.clone(), opened.clone());
        move || {
            ask(&handle, &opened, 3);
            cocoa_host::stop();
        }
    });
    cocoa_host::run();
    assert_eq!(opened.get(), 3);
}

/// Opens a panel, until timers, tasks and posts have run in its loop. From inside it opens another,
/// `levels` deep.
fn ask(handle: &Handle, opened: &Rc<Cell<u32>>, levels: u32) {
    let panel = Panel::new();
    handle.spawn({
        let (handle, opened, panel) = (handle.clone(), opened.clone(), panel.clone());
        async move {
            for _ in 0..3 {
                handle.sleep(ms(2)).await;
            }
            if levels > 1 {
                ask(&handle, &opened, levels - 1);
            }
            opened.set(opened.get() + 1);
            let remote = handle.remote();
            thread::spawn(move || remote.call(|_| ()));
            panel.stop();
        }
    });
    panel.run();
}

/// Terminating ends the process, so it is another one.
fn terminating_ends_the_run_in_order() {
    let program = env::current_exe().expect("its own path");
    let output = Command::new(program)
        .arg(TERMINATES)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("it starts");
    assert_eq!(output.status.signal(), None);
    assert!(output.status.success(), "{}", output.status);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "Before\nDuring\nAfter\n"
    );
}

fn terminates() {
    let handle = entwined_cocoa::attach().expect("a reactor").keep();
    tell_phases(&handle, |phase| println!("{phase:?}"));
    handle.call_later(ms(5), cocoa_host::terminate);
    cocoa_host::run();
    unreachable!("it has terminated");
}
