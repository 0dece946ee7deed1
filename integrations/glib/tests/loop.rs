//! The reactor in a main context, one for each test. The conformance suite covers what all backends
//! have in common; these tests cover what only a GLib loop can get wrong.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use entwined::{
    Handle,
    reactor::{LifeError, Pacing, Phase, Report, RunError},
    transport::{Stream, unix},
};
use entwined_glib::{Attachment, attach};
use futures_io::{AsyncRead, AsyncWrite};
use glib::{ControlFlow, MainContext, MainLoop, Priority, Source};

/// A host with a loop of its own.
struct Host {
    context: MainContext,
    main: MainLoop,
}

impl Host {
    fn new() -> Self {
        let context = MainContext::new();
        Host {
            main: MainLoop::new(Some(&context), false),
            context,
        }
    }

    fn attach(&self) -> Attachment {
        attach(&self.context).expect("a reactor")
    }

    /// Runs until the loop is quit; a test that hangs fails after 20 s.
    fn run(&self) {
        let late = Rc::new(Cell::new(false));
        let guard = self.after(Duration::from_secs(20), {
            let (late, main) = (late.clone(), self.main.clone());
            move || {
                late.set(true);
                main.quit();
            }
        });
        self.main.run();
        guard.destroy();
        assert!(!late.get(), "nothing quit the host's loop");
    }

    /// Adds a one-shot timer to the host.
    fn after(&self, delay: Duration, function: impl FnOnce() + 'static) -> Source {
        let mut function = Some(function);
        self.every(delay, Priority::DEFAULT, move || {
            if let Some(function) = function.take() {
                function();
            }
            ControlFlow::Break
        })
    }

    /// Adds a source to the host; with a zero interval it is always ready.
    fn every(
        &self,
        interval: Duration,
        priority: Priority,
        function: impl FnMut() -> ControlFlow + 'static,
    ) -> Source {
        let guard = glib::thread_guard::ThreadGuard::new(RefCell::new(function));
        let source = glib::timeout_source_new(interval, None, priority, move || {
            (guard.get_ref().borrow_mut())()
        });
        let _ = source.attach(Some(&self.context));
        source
    }

    fn quit(&self) -> impl FnOnce() + 'static {
        let main = self.main.clone();
        move || main.quit()
    }

    /// Counts how often the loop wakes up until a host timer has fired.
    fn iterations(&self, delay: Duration) -> u32 {
        let done = Rc::new(Cell::new(false));
        let mut count = 0;
        self.after(delay, {
            let done = done.clone();
            move || done.set(true)
        });
        while !done.get() {
            self.context.iteration(true);
            count += 1;
        }
        count
    }
}

/// One for its own timer, and perhaps one because GLib wakes itself up when a source or a loop
/// ends.
const ONCE: u32 = 2;

fn stopper(handle: &Handle) -> impl FnOnce() + 'static {
    let handle = handle.clone();
    move || handle.stop()
}

async fn exchange(stream: &mut Stream, byte: u8) -> u8 {
    let mut buffer = [byte];
    poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, &buffer))
        .await
        .expect("a write");
    poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buffer))
        .await
        .expect("a read");
    buffer[0]
}

/// Echoes each byte.
async fn echo(mut stream: Stream) {
    let mut buffer = [0; 64];
    while let Ok(count @ 1..) = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut buffer)).await
    {
        poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, &buffer[..count]))
            .await
            .expect("a write");
    }
}

/// Counts how often bytes make a round trip over a socket.
fn echoes(handle: &Handle) -> Rc<Cell<u32>> {
    let (near, mut far) = unix::pair(handle).expect("a pair");
    handle.spawn(echo(near));
    let count = Rc::new(Cell::new(0));
    handle.spawn({
        let count = count.clone();
        async move {
            loop {
                assert_eq!(exchange(&mut far, 7).await, 7);
                count.set(count.get() + 1);
            }
        }
    });
    count
}

#[test]
fn stop_goes_through_the_phases_while_the_host_goes_on_and_start_begins_anew() {
    let host = Host::new();
    let network = host.attach();
    let handle = network.handle();
    assert_eq!(network.start(), Err(LifeError::AlreadyRunning));

    for run in 0..3 {
        let phases = Rc::new(RefCell::new(Vec::new()));
        for phase in [Phase::Before, Phase::During, Phase::After] {
            let (phases, handle) = (phases.clone(), handle.clone());
            handle
                .clone()
                .on_shutdown(phase, move || async move {
                    handle.sleep(Duration::from_millis(2)).await;
                    phases.borrow_mut().push(phase);
                    Ok(())
                })
                .keep();
        }
        handle.call_soon({
            let handle = handle.clone();
            move || {
                handle.stop();
                assert_eq!(handle.try_stop(), Err(LifeError::AlreadyStopping));
            }
        });
        // The host's loop sees the end of the run, and keeps running.
        host.every(Duration::from_millis(1), Priority::DEFAULT, {
            let (handle, quit) = (handle.clone(), host.main.clone());
            move || {
                if handle.is_running() {
                    return ControlFlow::Continue;
                }
                quit.quit();
                ControlFlow::Break
            }
        });
        host.run();
        assert_eq!(
            *phases.borrow(),
            [Phase::Before, Phase::During, Phase::After],
            "in run {run}"
        );
        assert_eq!(handle.try_stop(), Err(LifeError::NotRunning));
        network.start().expect("the run before has ended");
    }
}

#[test]
fn run_ends_with_the_reactor_and_is_refused_inside_itself() {
    let host = Host::new();
    let network = Rc::new(host.attach());
    let handle = network.handle();
    for _ in 0..2 {
        handle.call_soon({
            let (network, handle) = (Rc::downgrade(&network), handle.clone());
            move || {
                let network = network.upgrade().expect("it runs");
                assert!(matches!(
                    network.run(),
                    Err(RunError::Life(LifeError::AlreadyRunning))
                ));
                handle.stop();
            }
        });
        network.run().expect("a run");
        assert!(!handle.is_running());
    }
}

/// The reactor waits for its own thread, and the other one sleeps meanwhile.
#[test]
fn another_thread_that_runs_the_context_sleeps_though_the_network_has_work() {
    let host = Host::new();
    let network = host.attach();
    let ran = Rc::new(Cell::new(false));
    network.call_later(Duration::from_millis(20), {
        let ran = ran.clone();
        move || ran.set(true)
    });
    while host.context.iteration(false) {}
    let context = host.context.clone();
    let iterations = thread::spawn(move || {
        let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let source = glib::timeout_source_new(Duration::from_millis(200), None, Priority::LOW, {
            let over = over.clone();
            move || {
                over.store(true, std::sync::atomic::Ordering::Relaxed);
                ControlFlow::Break
            }
        });
        source.attach(Some(&context));
        let mut iterations = 0;
        while !over.load(std::sync::atomic::Ordering::Relaxed) && iterations < 1_000 {
            context.iteration(true);
            iterations += 1;
        }
        iterations
    });
    let iterations = iterations.join().unwrap();
    assert!(iterations < 20, "{iterations} iterations in 0.2 s");
    assert!(!ran.get());
    network.call_later(Duration::from_millis(1), {
        let main = host.main.clone();
        move || main.quit()
    });
    host.run();
    assert!(ran.get());
}

#[test]
fn a_context_that_another_thread_runs_is_refused() {
    let host = Host::new();
    let _owned = host.context.acquire().expect("nobody has it");
    let context = host.context.clone();
    let error = thread::spawn(move || attach(&context).map(drop))
        .join()
        .unwrap()
        .expect_err("it is taken");
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    assert_eq!(error.to_string(), "another thread runs this main context");
}

#[test]
fn dropping_the_attachment_inside_a_callback_ends_everything_at_once() {
    let host = Host::new();
    let slot = Rc::new(RefCell::new(Some(host.attach())));
    let handle = slot.borrow().as_ref().expect("just put there").handle();
    let echoed = echoes(&handle);
    let after = Rc::new(Cell::new(false));
    let remote = handle.remote();
    handle.call_later(Duration::from_millis(5), {
        let (slot, after, handle, quit) =
            (slot.clone(), after.clone(), handle.clone(), host.quit());
        move || {
            let count = |after: &Rc<Cell<bool>>| {
                let after = after.clone();
                move || after.set(true)
            };
            handle.call_soon(count(&after));
            drop(slot.take());
            handle.call_soon(count(&after));
            handle.call_later(Duration::ZERO, count(&after));
            handle.spawn(async {});
            quit();
        }
    });
    host.run();
    assert!(
        host.iterations(Duration::from_millis(30)) <= ONCE,
        "the reactor left something in the loop"
    );
    assert!(!after.get(), "something ran after the end");
    assert_eq!(Rc::strong_count(&after), 1, "a closure was kept");
    assert_eq!(Rc::strong_count(&echoed), 1, "a task was kept");
    assert!(echoed.get() > 0);
    assert!(remote.post(|_| ()).is_err());
    assert_eq!(handle.try_stop(), Err(LifeError::Closed));
    // The same context takes another reactor.
    let network = host.attach();
    network.handle().call_soon(stopper(&network.handle()));
    network.run().expect("a run");
}

#[test]
fn a_reactor_between_two_runs_lets_the_loop_sleep() {
    let host = Host::new();
    let network = host.attach();
    let handle = network.handle();
    handle.call_soon(stopper(&handle));
    network.run().expect("a run");

    let ran = Rc::new(Cell::new(0));
    let count = || {
        let ran = ran.clone();
        move || ran.set(ran.get() + 1)
    };
    handle.call_soon(count());
    handle.call_later(Duration::from_millis(1), count());
    let (sender, receiver) = mpsc::channel();
    handle
        .remote()
        .post(move |_| sender.send(()).expect("the test waits"))
        .expect("it is there");
    assert!(host.iterations(Duration::from_millis(50)) <= ONCE);
    assert_eq!(ran.get(), 0);

    network.start().expect("it does not run");
    host.iterations(Duration::from_millis(20));
    assert_eq!(ran.get(), 2);
    receiver.try_recv().expect("the posted call ran");
}

#[test]
fn an_idle_reactor_does_not_wake_the_loop() {
    let host = Host::new();
    let network = host.attach();
    let (near, _far) = unix::pair(&network.handle()).expect("a pair");
    network.handle().spawn(echo(near));
    network
        .handle()
        .call_later(Duration::from_secs(3_600), || ());
    // A new socket reports once that it is writable.
    host.iterations(Duration::from_millis(30));
    assert!(host.iterations(Duration::from_millis(500)) <= ONCE);
}

#[test]
fn a_timer_set_or_moved_by_the_hosts_callback_is_late_by_less_than_a_millisecond() {
    let host = Host::new();
    let network = host.attach();
    let handle = network.handle();
    let mut lateness: Vec<_> = (0..15)
        .map(|_| {
            let fired = Rc::new(Cell::new(None));
            let due = Rc::new(Cell::new(Instant::now()));
            host.after(Duration::from_millis(3), {
                let (handle, fired, due, main) = (
                    handle.clone(),
                    fired.clone(),
                    due.clone(),
                    host.main.clone(),
                );
                move || {
                    let moved = handle.call_later(Duration::from_secs(3_600), {
                        let (fired, handle) = (fired.clone(), handle.clone());
                        move || {
                            fired.set(Some(Instant::now()));
                            handle.call_soon(move || main.quit());
                        }
                    });
                    // Half a millisecond off what GLib's own sleep could achieve.
                    let delay = Duration::from_micros(4_500);
                    due.set(Instant::now() + delay);
                    moved.reset(delay).expect("it is pending");
                }
            });
            host.run();
            let fired = fired.get().expect("it fired");
            fired
                .checked_duration_since(due.get())
                .expect("never early")
        })
        .collect();
    lateness.sort();
    assert!(lateness[7] < Duration::from_millis(1), "{lateness:?}");
}

#[test]
fn each_post_wakes_a_loop_that_sleeps() {
    let host = Host::new();
    let network = host.attach();
    let remote = network.handle().remote();
    let poster = thread::spawn(move || {
        for number in 0..500 {
            // The answer comes from a loop that has nothing else to do and is most likely asleep.
            assert_eq!(remote.call(move |_| number).expect("an answer"), number);
        }
        remote.call(|handle| handle.stop()).expect("an answer");
    });
    network.run().expect("a run");
    poster.join().unwrap();
}

#[test]
fn a_burst_from_eight_threads_runs_once_each_and_in_order() {
    const THREADS: usize = 8;
    const CALLS: usize = 12_500;
    let host = Host::new();
    let network = host.attach();
    thread_local!(static SEEN: RefCell<[usize; THREADS]> = const { RefCell::new([0; THREADS]) });
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let remote = network.handle().remote();
            thread::spawn(move || {
                for number in 0..CALLS {
                    let call = move |handle: &Handle| {
                        let done = SEEN.with_borrow_mut(|seen| {
                            assert_eq!(seen[thread], number);
                            seen[thread] += 1;
                            *seen == [CALLS; THREADS]
                        });
                        if done {
                            handle.stop();
                        }
                    };
                    remote.post(call).expect("it is there");
                }
            })
        })
        .collect();
    network.run().expect("a run");
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Opens nested loops from callbacks of alternating kinds, and calls `innermost` when `levels` of
/// them are on the stack.
fn nest(handle: &Handle, context: &MainContext, levels: u32, innermost: Rc<dyn Fn(MainLoop)>) {
    let dialog = {
        let (handle, context) = (handle.clone(), context.clone());
        move || {
            let dialog = MainLoop::new(Some(&context), false);
            if levels > 1 {
                nest(&handle, &context, levels - 1, innermost);
                handle.call_later(Duration::from_millis(30), {
                    let dialog = dialog.clone();
                    move || dialog.quit()
                });
            } else {
                innermost(dialog.clone());
            }
            dialog.run();
        }
    };
    match levels % 3 {
        0 => handle.call_soon(dialog),
        1 => drop(handle.call_later(Duration::from_millis(1), dialog)),
        _ => drop(handle.spawn(async move { dialog() })),
    }
}

#[test]
fn nested_loops_three_levels_deep_keep_serving_everybody_else() {
    let host = Host::new();
    let network = host.attach();
    let handle = network.handle();
    let echoed = echoes(&handle);
    let reached = Rc::new(Cell::new(false));
    let (remote, posted) = (handle.remote(), Rc::new(Cell::new(0)));
    nest(&handle, &host.context, 3, {
        let (handle, echoed, reached, posted) = (
            handle.clone(),
            echoed.clone(),
            reached.clone(),
            posted.clone(),
        );
        Rc::new(move |dialog| {
            // Everything here happens inside the third loop.
            let before = echoed.get();
            let (sender, receiver) = mpsc::channel();
            remote
                .post(move |_| sender.send(()).expect("it waits"))
                .expect("it is there");
            for _ in 0..3 {
                let posted = posted.clone();
                handle.call_soon(move || posted.set(posted.get() + 1));
            }
            handle.call_later(Duration::from_millis(20), {
                let (echoed, reached) = (echoed.clone(), reached.clone());
                move || {
                    assert!(echoed.get() > before, "the sockets stalled");
                    receiver.try_recv().expect("the posted call ran");
                    reached.set(true);
                    dialog.quit();
                }
            });
        })
    });
    handle.call_later(Duration::from_millis(300), host.quit());
    host.run();
    assert!(reached.get());
    assert_eq!(posted.get(), 3, "each call once");
}

#[test]
fn waiting_in_a_callback_iterates_the_host() {
    let host = Host::new();
    let network = host.attach();
    let handle = network.handle();
    let ticks = Rc::new(Cell::new(0));
    host.every(Duration::from_millis(1), Priority::DEFAULT, {
        let ticks = ticks.clone();
        move || {
            ticks.set(ticks.get() + 1);
            ControlFlow::Continue
        }
    });
    let value = Rc::new(Cell::new(0));
    host.after(Duration::from_millis(1), {
        let (handle, ticks, value, quit) =
            (handle.clone(), ticks.clone(), value.clone(), host.quit());
        move || {
            let before = ticks.get();
            let sleep = handle.sleep(Duration::from_millis(20));
            let waited = handle.wait(async move {
                sleep.await;
                42
            });
            value.set(waited.expect("the run goes on"));
            assert!(ticks.get() > before, "the host stalled");
            quit();
        }
    });
    host.run();
    assert_eq!(value.get(), 42);
}

#[test]
fn stop_inside_a_nested_wait_ends_both() {
    let host = Host::new();
    let network = host.attach();
    let handle = network.handle();
    let stopped = Rc::new(Cell::new(false));
    handle.call_soon({
        let (handle, stopped) = (handle.clone(), stopped.clone());
        move || {
            handle.call_soon(stopper(&handle));
            stopped.set(handle.wait(std::future::pending::<()>()).is_err());
        }
    });
    network.run().expect("a run");
    assert!(stopped.get());
}

#[test]
fn a_panic_in_a_callback_ends_that_callback_only() {
    let host = Host::new();
    let network = host.attach();
    let handle = network.handle();
    let reports = Rc::new(RefCell::new(Vec::new()));
    let _observer = handle.observe({
        let reports = reports.clone();
        move |report| {
            if let Report::Panic { message, .. } = report {
                reports.borrow_mut().push((*message).to_owned());
            }
        }
    });
    let echoed = echoes(&handle);
    handle.call_soon(|| panic!("a call"));
    handle.spawn(async { panic!("a task") });
    handle.call_later(Duration::from_millis(2), || panic!("a timer"));
    handle.call_later(Duration::from_millis(20), host.quit());
    host.run();
    let mut reports = reports.take();
    reports.sort();
    assert_eq!(reports, ["a call", "a task", "a timer"]);
    let before = echoed.get();
    host.iterations(Duration::from_millis(10));
    assert!(echoed.get() > before);
}

/// Runs a host whose sources of this priority are always ready. Returns how many echoes the network
/// makes in half a second, and the longest wait of a timer.
fn beside_a_busy_host(priority: Priority) -> (u32, Duration) {
    let host = Host::new();
    let network = host.attach();
    let handle = network.handle();
    let spins = Rc::new(Cell::new(0_u64));
    let busy = host.every(Duration::ZERO, priority, {
        let spins = spins.clone();
        move || {
            spins.set(spins.get() + 1);
            ControlFlow::Continue
        }
    });
    let echoed = echoes(&handle);
    let (longest, last) = (
        Rc::new(Cell::new(Duration::ZERO)),
        Rc::new(Cell::new(Instant::now())),
    );
    handle.spawn({
        let (handle, longest) = (handle.clone(), longest.clone());
        async move {
            loop {
                handle.sleep(Duration::from_millis(5)).await;
                longest.set(longest.get().max(last.replace(Instant::now()).elapsed()));
            }
        }
    });
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(500) {
        host.context.iteration(false);
    }
    busy.destroy();
    println!(
        "{priority:?}: {} echoes, longest {:?}, {} spins of the host",
        echoed.get(),
        longest.get(),
        spins.get()
    );
    // Below our own priority, the host also has its floor.
    assert!(
        spins.get() > 15,
        "the host was called only {} times",
        spins.get()
    );
    (echoed.get(), longest.get())
}

#[test]
fn a_host_that_is_always_busy_leaves_the_network_its_floor() {
    for priority in [
        Priority::HIGH,
        Priority::DEFAULT,
        Priority::from(120),
        Priority::DEFAULT_IDLE,
    ] {
        let (echoed, longest) = beside_a_busy_host(priority);
        // Half a second has some thirty slices.
        assert!(echoed > 100, "at {priority:?} only {echoed} echoes");
        assert!(
            longest < Duration::from_millis(150),
            "at {priority:?} nothing for {longest:?}"
        );
    }
}

#[test]
fn a_long_queue_does_not_keep_the_host_from_its_own_work() {
    let host = Host::new();
    let network = host.attach();
    let handle = network.handle();
    handle.set_pacing(Pacing::fixed(Duration::from_millis(1)));
    let left = Rc::new(Cell::new(20_000));
    for _ in 0..left.get() {
        let (left, quit) = (left.clone(), host.main.clone());
        handle.call_soon(move || {
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(5) {}
            left.set(left.get() - 1);
            if left.get() == 0 {
                quit.quit();
            }
        });
    }
    let (ticks, start) = (Rc::new(Cell::new(0)), Instant::now());
    host.every(Duration::from_millis(1), Priority::DEFAULT, {
        let ticks = ticks.clone();
        move || {
            ticks.set(ticks.get() + 1);
            ControlFlow::Continue
        }
    });
    host.run();
    let share = start.elapsed().as_millis() / 8;
    assert!(
        ticks.get() > share,
        "the host was called {} times in {:?}",
        ticks.get(),
        start.elapsed()
    );
}

#[test]
fn with_no_budget_one_callback_runs_in_each_dispatch() {
    let host = Host::new();
    let network = host.attach();
    let (handle, ran) = (network.handle(), Rc::new(Cell::new(0)));
    handle.set_pacing(Pacing::fixed(Duration::ZERO));
    for _ in 0..10 {
        let ran = ran.clone();
        handle.call_soon(move || ran.set(ran.get() + 1));
    }
    for count in 1..=10 {
        let before = ran.get();
        while ran.get() == before {
            host.context.iteration(false);
        }
        assert_eq!(ran.get(), count);
    }
}

#[test]
fn two_reactors_share_a_context_and_a_third_has_its_own_thread() {
    let host = Host::new();
    let networks = [host.attach(), host.attach()];
    let elsewhere = thread::spawn(|| {
        let network = Host::new().attach();
        network
            .handle()
            .call_later(Duration::from_millis(10), stopper(&network.handle()));
        network.run().expect("a run");
    });
    let counts = networks.each_ref().map(|network| echoes(&network.handle()));
    while counts.iter().any(|count| count.get() == 0) {
        host.context.iteration(true);
    }
    let [first, second] = networks;
    drop(first);
    assert!(second.handle().is_running());
    elsewhere.join().unwrap();
}
