//! What a host is asked, and when: the contract of [`Host`] and of [`Driver::next_turn`].

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use entwined::{
    Handle, Standalone,
    protocol::{self, Echo},
    reactor::{Driver, Host, LifeError, NextTurn, Pacing, Phase, RunError, Selector, WaitError},
    simulation::Simulation,
    transport::memory,
};

#[derive(Clone, Default)]
struct Asked {
    turns: Rc<Cell<u32>>,
    ends: Rc<Cell<u32>>,
}

impl Host for Asked {
    fn request_turn(&self) {
        self.turns.set(self.turns.get() + 1);
    }

    fn ended(&self) {
        self.ends.set(self.ends.get() + 1);
    }
}

fn driver() -> (Driver, Asked) {
    let (selector, asked) = (Selector::new().expect("file descriptors"), Asked::default());
    let driver = Driver::new(Rc::new(selector), asked.clone());
    (driver, asked)
}

fn slice(driver: &Driver) {
    driver.slice(Duration::MAX).expect("the selector works");
}

#[test]
fn a_turn_is_requested_once_until_the_next_turn_begins() {
    let (driver, asked) = driver();
    let handle = driver.handle();
    driver.start().expect("a run");
    for _ in 0..3 {
        handle.call_soon(|| ());
    }
    assert_eq!(asked.turns.take(), 1);
    slice(&driver);
    let again = handle.clone();
    handle.call_soon(move || {
        for _ in 0..3 {
            again.call_soon(|| ());
        }
    });
    assert_eq!(asked.turns.take(), 1);
    slice(&driver);
    assert_eq!(asked.turns.take(), 1, "inside the slice, which has done it");
    assert_eq!(driver.next_turn(), NextTurn::OnEvents);
}

#[test]
fn only_next_turn_tells_of_what_a_turn_leaves_behind() {
    let (driver, asked) = driver();
    driver.start().expect("a run");
    driver.handle().call_soon(|| ());
    driver.handle().call_soon(|| ());
    asked.turns.take();
    driver.slice(Duration::ZERO).expect("the selector works");
    assert_eq!(asked.turns.get(), 0);
    assert_eq!(driver.next_turn(), NextTurn::Now);
}

#[test]
fn a_timer_that_is_overdue_is_due_now() {
    let (driver, _) = driver();
    driver.start().expect("a run");
    let at = Instant::now() + Duration::from_millis(2);
    driver.handle().call_at(at, || ());
    assert_eq!(driver.next_turn(), NextTurn::At(at));
    while Instant::now() < at {
        std::thread::yield_now();
    }
    assert_eq!(driver.next_turn(), NextTurn::Now);
}

#[test]
fn nothing_needs_to_be_done_outside_a_run() {
    let (driver, _) = driver();
    driver.handle().call_soon(|| ());
    assert_eq!(driver.next_turn(), NextTurn::OnEvents);
    driver.start().expect("a run");
    assert_eq!(driver.next_turn(), NextTurn::Now);
}

/// Peers decide how many of their requests open a dialog, whose loop runs inside the callback.
#[test]
fn loops_inside_of_each_other_are_bounded() {
    #[derive(Default)]
    struct Loops {
        now: Cell<u32>,
        most: Cell<u32>,
        ended: Cell<u32>,
        put_off: Cell<u32>,
    }
    let (driver, _) = driver();
    let (handle, driver, loops) = (driver.handle(), Rc::new(driver), Rc::<Loops>::default());
    driver.start().expect("a run");
    for _ in 0..100 {
        let (driver, loops) = (driver.clone(), loops.clone());
        handle.call_soon(move || {
            loops.now.set(loops.now.get() + 1);
            loops.most.set(loops.most.get().max(loops.now.get()));
            slice(&driver);
            if driver.handle().metrics().waiting_calls > 0 {
                loops.put_off.set(loops.put_off.get() + 1);
                // Or the loop would not sleep.
                assert_eq!(driver.next_turn(), NextTurn::OnEvents);
            }
            loops.now.set(loops.now.get() - 1);
            loops.ended.set(loops.ended.get() + 1);
        });
    }
    slice(&driver);
    assert_eq!(
        loops.ended.get(),
        100,
        "those that were put off come when the others end"
    );
    assert_eq!(loops.most.get(), 16);
    assert!(loops.put_off.get() > 0);
    assert_eq!(driver.next_turn(), NextTurn::OnEvents);
}

/// Timers are among what is put off. They do not keep the loop of a dialog busy until then.
#[test]
fn a_timer_that_is_put_off_comes_when_a_loop_ends() {
    fn nest(driver: &Rc<Driver>, levels: u32, innermost: Rc<dyn Fn(&Driver)>) {
        let own = driver.clone();
        driver.handle().call_soon(move || match levels {
            1 => innermost(&own),
            _ => nest(&own, levels - 1, innermost.clone()),
        });
        slice(driver);
    }
    let (driver, _) = driver();
    let (driver, fired) = (Rc::new(driver), Rc::new(Cell::new(false)));
    driver.start().expect("a run");
    let noted = fired.clone();
    nest(
        &driver,
        16,
        Rc::new(move |driver| {
            let note = noted.clone();
            driver
                .handle()
                .call_later(Duration::ZERO, move || note.set(true));
            slice(driver);
            assert!(!noted.get(), "it is too deep");
            assert_eq!(driver.next_turn(), NextTurn::OnEvents);
        }),
    );
    slice(&driver);
    assert!(fired.get());
}

/// Who has waited in vain is not surprised by it in the next run.
#[test]
fn what_is_waited_for_outside_a_run_does_not_begin() {
    let (driver, _) = driver();
    let (handle, begun) = (driver.handle(), Rc::new(Cell::new(false)));
    let note = begun.clone();
    let waited = handle.wait(async move { note.set(true) });
    assert_eq!(waited, Err(WaitError::Stopped));
    driver.start().expect("a run");
    slice(&driver);
    assert!(!begun.get());
}

/// It did nothing, and what it was given ended the run that it was called in.
#[test]
fn a_main_future_in_a_run_that_goes_on_already_is_refused() {
    let reactor = Rc::new(Standalone::new().expect("a reactor"));
    let (inner, begun) = (reactor.clone(), Rc::new(Cell::new(false)));
    let (note, handle) = (begun.clone(), reactor.handle());
    let main = async move {
        let refused = inner.block_on(async move {
            note.set(true);
            Ok::<_, RunError>(())
        });
        handle.sleep(Duration::from_millis(5)).await;
        Ok::<_, RunError>(refused)
    };
    let refused = reactor.block_on(main).expect("it is the main future");
    assert!(matches!(
        refused,
        Err(RunError::Life(LifeError::AlreadyRunning))
    ));
    assert!(!begun.get());
}

/// A program that wants to hear of the end of each run does this. It was called for ever.
#[test]
fn a_hook_that_adds_itself_again_is_called_once_a_run() {
    fn watch(handle: &Handle, calls: Rc<Cell<u32>>) {
        let own = handle.clone();
        let hook = handle.on_shutdown(Phase::Before, move || {
            assert!(calls.get() < 100);
            calls.set(calls.get() + 1);
            watch(&own, calls);
            async { Ok(()) }
        });
        hook.keep();
    }
    let reactor = Standalone::new().expect("a reactor");
    let (handle, calls, added) = (reactor.handle(), Rc::default(), Rc::new(Cell::new(0)));
    watch(&handle, Rc::clone(&calls));
    for run in 1..=3 {
        // What others add meanwhile is called as before.
        let (own, count) = (handle.clone(), added.clone());
        let other = handle.on_shutdown(Phase::Before, move || {
            let late = own.on_shutdown(Phase::Before, move || {
                count.set(count.get() + 1);
                async { Ok(()) }
            });
            late.keep();
            async { Ok(()) }
        });
        other.keep();
        let stopping = handle.clone();
        handle.call_soon(move || stopping.stop());
        reactor.run().expect("a run");
        assert_eq!((calls.get(), added.get()), (run, run));
    }
}

#[test]
fn the_host_hears_of_the_end_of_each_run_and_of_the_driver() {
    let (driver, asked) = driver();
    for _ in 0..2 {
        driver.start().expect("a run");
        driver.handle().stop();
        while driver.is_running() {
            slice(&driver);
        }
        assert_eq!(asked.ends.take(), 1);
    }
    driver.close();
    drop(driver);
    assert_eq!(asked.ends.get(), 1);
}

#[test]
fn a_slice_with_nothing_to_do_is_counted() {
    let (driver, _) = driver();
    let handle = driver.handle();
    slice(&driver);
    driver.start().expect("a run");
    assert_eq!(handle.metrics().idle_slices, 0, "there is no run");
    handle.call_soon(|| ());
    slice(&driver);
    assert_eq!(handle.metrics().idle_slices, 0);
    slice(&driver);
    assert_eq!(handle.metrics().idle_slices, 1);
}

/// The first slice after them panicked, and with it the host.
#[test]
fn frames_and_pacing_of_any_length_do_no_harm() {
    let driver = Driver::new(Rc::new(Selector::new().expect("a selector")), ());
    driver.start().expect("it is new");
    let handle = driver.handle();
    for interval in [Duration::MAX, Duration::ZERO, Duration::from_millis(16)] {
        let clock = handle.frame_clock();
        for _ in 0..3 {
            clock.begin(interval);
            clock.end();
            driver.slice(driver.budget()).expect("a slice");
        }
    }
    let clock = handle.frame_clock();
    clock.begin(Duration::from_millis(16));
    for time in [Duration::MAX, Duration::ZERO] {
        handle.set_pacing(Pacing {
            idle: time,
            max: time,
            min: time,
            margin: time,
        });
        handle.call_soon(|| std::thread::sleep(Duration::from_millis(3)));
        driver.slice(Duration::from_millis(1)).expect("a slice");
        driver.slice(driver.budget()).expect("a slice");
    }
}

/// Closes a driver when it is dropped, as a program does whose connection owns what the network
/// hangs on.
struct Closes(Rc<Driver>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Runs a test on a thread of its own, because the thread would never end if it failed.
fn within_a_minute(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    match ended.recv_timeout(Duration::from_secs(60)) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("it does not end"),
        _ => thread.join().expect("no panic"),
    }
}

/// The tasks that were still to be dropped were waited for, by what had to drop them.
#[test]
fn a_task_that_closes_the_driver_when_its_run_ends_does_not_hang() {
    for stops in [true, false] {
        within_a_minute(move || {
            let (driver, asked) = driver();
            let driver = Rc::new(driver);
            driver.start().expect("it is new");
            let (handle, dropped) = (driver.handle(), Rc::new(Cell::new(0)));
            for number in 0..10 {
                let closes = (number == 4).then(|| Closes(driver.clone()));
                let note = Counts(dropped.clone());
                handle.spawn(async move {
                    let _kept = (closes, note);
                    std::future::pending::<()>().await;
                });
            }
            driver.turn(Some(Duration::ZERO)).expect("a turn");
            match stops {
                true => {
                    handle.stop();
                    driver.slice(Duration::from_secs(1)).expect("a slice");
                }
                false => driver.close(),
            }
            assert_eq!(dropped.get(), 10);
            assert!(asked.ends.get() > 0);
            // It is closed for good.
            assert!(!driver.is_running());
            assert_eq!(driver.start(), Err(LifeError::Closed));
            assert!(handle.remote().post(|_| ()).is_err());
        });
    }
}

/// Counts its drops.
struct Counts(Rc<Cell<u32>>);

impl Drop for Counts {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// It could be started again, and served nothing.
#[test]
fn a_driver_that_a_shutdown_hook_closes_stays_closed() {
    for phase in [Phase::Before, Phase::During, Phase::After] {
        let (driver, _) = driver();
        let driver = Rc::new(driver);
        driver.start().expect("it is new");
        let (handle, own) = (driver.handle(), driver.clone());
        let hook = handle.on_shutdown(phase, move || {
            own.close();
            std::future::ready(Ok(()))
        });
        hook.keep();
        handle.stop();
        driver.slice(Duration::from_secs(1)).expect("a slice");
        assert!(!driver.is_running());
        assert_eq!(driver.start(), Err(LifeError::Closed), "{phase:?}");
    }
}

/// What it asked for was dropped with the run before, and the host stopped to serve it.
#[test]
fn a_run_that_begins_while_the_one_before_is_dropped_is_refused() {
    struct Restarts(Rc<Driver>, Rc<Cell<Option<Result<(), LifeError>>>>);

    impl Drop for Restarts {
        fn drop(&mut self) {
            self.1.set(Some(self.0.start()));
        }
    }

    let (driver, asked) = driver();
    let (driver, said) = (Rc::new(driver), Rc::new(Cell::new(None)));
    driver.start().expect("it is new");
    let handle = driver.handle();
    let restarts = Restarts(driver.clone(), said.clone());
    let _ = handle.call_later(Duration::from_secs(3_600), move || drop(restarts));
    handle.stop();
    driver.slice(Duration::from_secs(1)).expect("a slice");
    assert_eq!(said.take(), Some(Err(LifeError::AlreadyRunning)));
    assert!(!driver.is_running());
    assert_eq!(asked.ends.get(), 1);
    // Afterwards it can begin.
    driver.start().expect("the run before is over");
    let ran = Rc::new(Cell::new(false));
    let noted = ran.clone();
    handle.call_soon(move || noted.set(true));
    driver.slice(Duration::from_secs(1)).expect("a slice");
    assert!(ran.get());
}

/// The clock stood still meanwhile, so the wait had no end.
#[test]
fn a_callback_may_wait_in_simulated_time() {
    within_a_minute(|| {
        let simulation = Simulation::new();
        let handle = simulation.handle();
        let start = handle.now();
        let waited = Rc::new(Cell::new(None));
        handle.call_soon_with({
            let waited = waited.clone();
            move |handle| {
                let three = Duration::from_secs(3);
                handle.wait(handle.sleep(three)).expect("its end");
                waited.set(Some(handle.now() - start));
            }
        });
        simulation.advance(Duration::from_secs(1));
        assert_eq!(waited.take(), Some(Duration::from_secs(3)));
        // It does not go back.
        assert_eq!(handle.now() - start, Duration::from_secs(3));
        simulation.advance(Duration::from_secs(1));
        assert_eq!(handle.now() - start, Duration::from_secs(4));
    });
}

/// The time of the last turn was taken for the present, and a window may have had none for hours.
#[test]
fn what_a_callback_of_the_host_starts_is_not_idle_at_once() {
    let (driver, _) = driver();
    let handle = driver.handle();
    driver.start().expect("a run");
    slice(&driver);
    std::thread::sleep(Duration::from_millis(600));
    let idle_timeout = Some(Duration::from_millis(500));
    let (near, _far) = memory::pair(&handle);
    let connection = protocol::start(&handle, near, Echo);
    connection.set_config(protocol::Config {
        idle_timeout,
        ..protocol::Config::default()
    });
    slice(&driver);
    assert!(!connection.is_closing(), "{connection:?}");
    #[cfg(feature = "rpc")]
    {
        use entwined::rpc::{self, Config, Methods};
        std::thread::sleep(Duration::from_millis(600));
        let (near, _far) = memory::pair(&handle);
        let config = Config {
            idle_timeout,
            ..Config::default()
        };
        let peer = rpc::start_with(&handle, near, Methods::new(), config);
        slice(&driver);
        assert!(!peer.is_closing(), "{peer:?}");
    }
}
