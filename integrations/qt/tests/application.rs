//! The reactor in Qt applications, one after another. The conformance suite covers what all
//! backends have in common; these tests cover what only a Qt loop can get wrong.

use std::{
    cell::{Cell, RefCell},
    env, io, process,
    rc::Rc,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use entwined_qt::entwined::{
    Handle,
    reactor::{LifeError, Phase},
};
use qt_host::{Application, Dialog, Timers, flags};

/// A test that takes longer fails.
const LIMIT: Duration = Duration::from_secs(30);

macro_rules! tests {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), $name as fn())),*] };
}

fn main() {
    let tests = tests![
        without_an_application_there_is_no_reactor,
        quitting_ends_the_run_in_order,
        stop_leaves_the_application_alone,
        an_application_that_quits_while_stopping,
        a_deleted_application_closes_the_reactor,
        dropping_the_attachment_inside_a_callback_ends_everything_at_once,
        what_a_callback_queued_is_done_in_a_loop_that_the_host_alone_ends,
        a_dialog_and_a_menu_keep_everybody_going,
        a_host_that_spins_keeps_the_network_going,
        a_host_that_leaves_out_sockets_keeps_timers_and_calls_going,
        a_host_that_waits_for_a_call_is_woken,
        waiting_inside_a_posted_event_ends,
        an_idle_reactor_does_not_wake_the_loop,
        the_frames_of_a_window_are_followed,
    ];
    let wanted: Vec<_> = env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    for (name, test) in tests {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part)) {
            println!("{name}");
            within_the_limit(name, test);
        }
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

/// Adds a note in each shutdown phase, after some time.
fn note_phases(handle: &Handle, notes: &Rc<RefCell<Vec<Phase>>>) {
    for phase in [Phase::Before, Phase::During, Phase::After] {
        let (sleeper, notes) = (handle.clone(), notes.clone());
        let hook = handle.on_shutdown(phase, move || async move {
            sleeper.sleep(ms(5)).await;
            notes.borrow_mut().push(phase);
            Ok(())
        });
        hook.keep();
    }
}

const PHASES: [Phase; 3] = [Phase::Before, Phase::During, Phase::After];

/// Counts the runs of timers, calls and tasks that never end.
fn work(handle: &Handle) -> [Rc<Cell<u32>>; 3] {
    fn timer(handle: &Handle, count: Rc<Cell<u32>>) {
        let again = handle.clone();
        handle.call_later(ms(1), move || {
            count.set(count.get() + 1);
            timer(&again, count);
        });
    }
    fn call(handle: &Handle, count: Rc<Cell<u32>>) {
        let again = handle.clone();
        handle.call_soon(move || {
            count.set(count.get() + 1);
            call(&again, count);
        });
    }
    let counts: [Rc<Cell<u32>>; 3] = Default::default();
    timer(handle, counts[0].clone());
    call(handle, counts[1].clone());
    let (sleeper, count) = (handle.clone(), counts[2].clone());
    handle.spawn(async move {
        loop {
            sleeper.sleep(ms(1)).await;
            count.set(count.get() + 1);
        }
    });
    counts
}

fn values(counts: &[Rc<Cell<u32>>; 3]) -> [u32; 3] {
    counts.each_ref().map(|count| count.get())
}

/// Whether all of them have run at least this often since `before`.
fn went_on(counts: &[Rc<Cell<u32>>; 3], before: [u32; 3], least: u32) -> bool {
    let after = values(counts);
    after
        .iter()
        .zip(before)
        .all(|(after, before)| after - before >= least)
}

/// Runs a loop of the host, again and again, until everything has run in it. If something never
/// does, the test ends by its limit.
fn goes_on_in(counts: &[Rc<Cell<u32>>; 3], host: impl Fn()) {
    let before = values(counts);
    while !went_on(counts, before, 3) {
        host();
    }
}

fn without_an_application_there_is_no_reactor() {
    let error = entwined_qt::attach().expect_err("there is none");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let _application = Application::new(false);
    let elsewhere = thread::spawn(|| entwined_qt::attach().map(drop));
    let error = elsewhere.join().unwrap().expect_err("another thread's");
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    let _network = entwined_qt::attach().expect("a reactor");
}

fn quitting_ends_the_run_in_order() {
    for widgets in [false, true] {
        let application = Application::new(widgets);
        let handle = entwined_qt::attach().expect("a reactor").keep();
        let (notes, ran) = (Rc::default(), Rc::new(Cell::new(false)));
        note_phases(&handle, &notes);
        handle.call_soon({
            let ran = ran.clone();
            move || {
                ran.set(true);
                Application::quit();
            }
        });
        assert!(!ran.get(), "something ran before the loop did");
        assert_eq!(application.exec(), 0);
        assert!(ran.get());
        assert_eq!(*notes.borrow(), PHASES);
        assert!(!handle.is_running());
        assert_eq!(
            handle.try_stop(),
            Err(LifeError::Closed),
            "there is no next run"
        );
    }
}

fn stop_leaves_the_application_alone() {
    let application = Application::new(true);
    let network = Rc::new(entwined_qt::attach().expect("a reactor"));
    let timers = Timers::new();
    let notes = Rc::default();
    note_phases(&network, &notes);
    network.stop();
    timers.once(ms(100), {
        let network = network.clone();
        move || {
            assert!(!network.is_running());
            network.start().expect("the run before has ended");
            network.call_later(ms(5), Application::quit);
        }
    });
    application.exec();
    assert_eq!(*notes.borrow(), PHASES);
    assert!(!network.is_running());
    // Between two runs of the loop too.
    network.start().expect("the run before has ended");
    network.call_later(ms(5), Application::quit);
    application.exec();
    assert!(!network.is_running());
}

fn an_application_that_quits_while_stopping() {
    let application = Application::new(true);
    let handle = entwined_qt::attach().expect("a reactor").keep();
    let notes = Rc::default();
    note_phases(&handle, &notes);
    handle.call_soon({
        let handle = handle.clone();
        move || {
            handle.stop();
            Application::quit();
        }
    });
    application.exec();
    assert_eq!(*notes.borrow(), PHASES);
}

fn a_deleted_application_closes_the_reactor() {
    let application = Application::new(true);
    let network = entwined_qt::attach().expect("a reactor");
    let stopped = entwined_qt::attach_stopped().expect("another");
    let kept = Rc::new(());
    let held = kept.clone();
    network.spawn(async move {
        std::future::pending::<()>().await;
        drop(held);
    });
    qt_host::process_events(flags::ALL);
    drop(application);
    assert!(!network.is_running());
    assert_eq!(
        Rc::strong_count(&kept),
        1,
        "a task outlived the application"
    );
    assert_eq!(network.start(), Err(LifeError::Closed));
    assert_eq!(stopped.start(), Err(LifeError::Closed));
    // The next application takes another reactor.
    let application = Application::new(true);
    let network = entwined_qt::attach().expect("a reactor");
    network.call_soon(Application::quit);
    application.exec();
    drop(application);
    drop(network);
}

fn dropping_the_attachment_inside_a_callback_ends_everything_at_once() {
    /// Calls `then` as soon as each of them has run.
    fn when_all_ran(handle: &Handle, counts: [Rc<Cell<u32>>; 3], then: impl FnOnce() + 'static) {
        let again = handle.clone();
        handle.call_later(ms(1), move || {
            match counts.iter().all(|count| count.get() > 0) {
                true => then(),
                false => when_all_ran(&again, counts, then),
            }
        });
    }
    let application = Application::new(true);
    let slot = Rc::new(RefCell::new(Some(
        entwined_qt::attach().expect("a reactor"),
    )));
    let handle = slot.borrow().as_ref().expect("just put there").handle();
    let counts = work(&handle);
    let after = Rc::new(Cell::new(false));
    let timers = Rc::new(Timers::new());
    when_all_ran(&handle, counts.clone(), {
        let (slot, handle, after) = (slot.clone(), handle.clone(), after.clone());
        let timers = timers.clone();
        move || {
            drop(slot.take());
            handle.call_soon({
                let after = after.clone();
                move || after.set(true)
            });
            handle.spawn(async move { after.set(true) });
            timers.once(ms(30), Application::quit);
        }
    });
    application.exec();
    assert!(!after.get(), "something ran after the end");
    assert_eq!(Rc::strong_count(&after), 1, "a closure was kept");
    assert!(counts.iter().all(|count| Rc::strong_count(count) == 1));
    assert!(handle.remote().post(|_| ()).is_err());
}

fn what_a_callback_queued_is_done_in_a_loop_that_the_host_alone_ends() {
    let application = Application::new(true);
    let handle = entwined_qt::attach().expect("a reactor").keep();
    let log = Rc::new(RefCell::new(Vec::new()));
    let add = |what: &'static str| {
        let log = log.clone();
        move || log.borrow_mut().push(what)
    };
    handle.call_soon({
        let (opened, closed) = (add("opened"), add("closed"));
        move || {
            opened();
            qt_host::nested(ms(100), flags::ALL);
            closed();
            Application::quit();
        }
    });
    handle.call_soon(add("call"));
    application.exec();
    assert_eq!(*log.borrow(), ["opened", "call", "closed"]);
}

fn a_dialog_and_a_menu_keep_everybody_going() {
    let application = Application::new(true);
    let handle = entwined_qt::attach().expect("a reactor").keep();
    let counts = work(&handle);
    let opened = Rc::new(Cell::new(0));
    handle.call_later(ms(5), {
        let (handle, opened) = (handle.clone(), opened.clone());
        move || {
            ask(&handle, &counts, &opened, 3);
            goes_on_in(&counts, || qt_host::menu(ms(50)));
            Application::quit();
        }
    });
    application.exec();
    assert_eq!(opened.get(), 3);
}

/// Opens a dialog, until everything has run in its loop. From inside it opens another, `levels`
/// deep.
fn ask(handle: &Handle, counts: &[Rc<Cell<u32>>; 3], opened: &Rc<Cell<u32>>, levels: u32) {
    let dialog = Dialog::new();
    let before = values(counts);
    let (handle_inside, counts, opened) = (handle.clone(), counts.clone(), opened.clone());
    let close = dialog.clone();
    handle.spawn(async move {
        while !went_on(&counts, before, 3) {
            handle_inside.sleep(ms(5)).await;
        }
        if levels > 1 {
            ask(&handle_inside, &counts, &opened, levels - 1);
        }
        opened.set(opened.get() + 1);
        close.accept();
    });
    dialog.exec();
}

/// Runs `host` in a callback of the host, until everything has run in it.
fn keeps_the_network_going(host: fn()) {
    let application = Application::new(true);
    let handle = entwined_qt::attach().expect("a reactor").keep();
    let counts = work(&handle);
    let timers = Timers::new();
    let done = Rc::new(Cell::new(false));
    timers.once(ms(20), {
        let done = done.clone();
        move || {
            goes_on_in(&counts, host);
            done.set(true);
            Application::quit();
        }
    });
    application.exec();
    assert!(done.get());
}

fn a_host_that_spins_keeps_the_network_going() {
    keeps_the_network_going(|| qt_host::spin(ms(50), flags::ALL));
}

fn a_host_that_leaves_out_sockets_keeps_timers_and_calls_going() {
    keeps_the_network_going(|| qt_host::spin(ms(50), flags::NO_SOCKETS));
    // With nothing queued, so that the loop sleeps.
    let application = Application::new(true);
    let handle = entwined_qt::attach().expect("a reactor").keep();
    let timers = Timers::new();
    let lateness = Rc::new(Cell::new(None));
    timers.once(ms(20), {
        let lateness = lateness.clone();
        move || {
            let due = Instant::now() + ms(30);
            handle.call_later(ms(30), {
                let lateness = lateness.clone();
                move || lateness.set(Some(Instant::now().duration_since(due)))
            });
            qt_host::nested(ms(200), flags::NO_SOCKETS);
            assert!(lateness.get().is_some(), "the timer did not fire");
            Application::quit();
        }
    });
    application.exec();
    assert!(lateness.get().is_some());
}

fn a_host_that_waits_for_a_call_is_woken() {
    let _application = Application::new(true);
    let network = entwined_qt::attach().expect("a reactor");
    for _ in 0..3 {
        let done = Rc::new(Cell::new(false));
        network.call_soon({
            let done = done.clone();
            move || done.set(true)
        });
        // Without a limit: nothing else wakes it.
        while !done.get() {
            qt_host::process_events(flags::WAIT);
        }
    }
    network.stop();
    while network.is_running() {
        qt_host::process_events(flags::WAIT);
    }
}

fn waiting_inside_a_posted_event_ends() {
    let application = Application::new(true);
    let handle = entwined_qt::attach().expect("a reactor").keep();
    let timers = Timers::new();
    let waited = Rc::new(Cell::new(0));
    timers.every(ms(1), {
        let (handle, waited) = (handle.clone(), waited.clone());
        Box::new(move || {
            // What is waited for comes by the call queue, by a timer and from a thread.
            handle.wait(async {}).expect("it runs");
            handle.wait(handle.sleep(ms(2))).expect("it runs");
            let (sender, receiver) = mpsc::channel();
            let remote = handle.remote();
            thread::spawn(move || sender.send(remote.call(|_| 7)));
            let answer = loop {
                handle.wait(handle.sleep(ms(1))).expect("it runs");
                if let Ok(answer) = receiver.try_recv() {
                    break answer;
                }
            };
            assert_eq!(answer.ok(), Some(7));
            waited.set(waited.get() + 1);
            if waited.get() < 5 {
                return true;
            }
            Application::quit();
            // The application quits only when this has returned.
            handle.wait(handle.sleep(ms(2))).expect("it runs");
            false
        })
    });
    application.exec();
    assert_eq!(waited.get(), 5);
}

fn an_idle_reactor_does_not_wake_the_loop() {
    let _application = Application::new(false);
    let network = entwined_qt::attach().expect("a reactor");
    network.call_later(Duration::from_secs(3_600), || ());
    let turns = Rc::new(Cell::new(0_u32));
    let _hook = network.on_turn({
        let turns = turns.clone();
        move || turns.set(turns.get() + 1)
    });
    qt_host::iterate(Some(ms(30)));
    turns.set(0);
    let start = Instant::now();
    let mut iterations = 0;
    while start.elapsed() < ms(500) {
        qt_host::iterate(Some(ms(500).saturating_sub(start.elapsed()) + ms(1)));
        iterations += 1;
    }
    assert_eq!(turns.get(), 0);
    assert!(iterations <= 2, "{iterations} iterations");
}

fn the_frames_of_a_window_are_followed() {
    let application = Application::new(true);
    let handle = entwined_qt::attach().expect("a reactor").keep();
    let counts = work(&handle);
    let (mut painted, frames) = (0, Rc::new(RefCell::new(None)));
    qt_host::draw({
        let frames = frames.clone();
        Box::new(move || {
            painted += 1;
            if painted < 30 {
                return true;
            }
            *frames.borrow_mut() = Some(handle.metrics().frames);
            Application::quit();
            false
        })
    });
    application.exec();
    let frames = frames.take().expect("30 frames");
    // The first comes with the window, and not by an update.
    assert!(frames.drawn >= 25, "{frames:?}");
    assert!(counts[1].get() > 100, "{:?}", values(&counts));
}
