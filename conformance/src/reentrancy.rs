//! Re-entrancy, when a callback spins the host's loop: behaviours 49 to 53.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    future::poll_fn,
    io::Write,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::Poll,
    thread,
    time::Duration,
};

use futures_io::{AsyncRead, AsyncWrite};

use super::{
    backend::HostLoop,
    rig::{Count, Log, Rig, Scripted, dial, ms, peer, read_to_end},
};
use entwined::{
    Handle,
    protocol::{Echo, Server},
    reactor::{Direction, Interest, Phase, Registration, WaitError},
    transport::tcp,
};
#[cfg(feature = "http")]
use entwined_http::{self as http, Router};

/// What a callback does.
type Action = Box<dyn FnOnce()>;

/// Arranges for a callback of one kind to run an action. What it returns lives as long as the run.
type Arrange = fn(&Rig, Action) -> Box<dyn Any>;

fn in_a_timer(rig: &Rig, action: Action) -> Box<dyn Any> {
    Box::new(rig.handle.call_later(ms(1), action))
}

fn in_a_call(rig: &Rig, action: Action) -> Box<dyn Any> {
    rig.handle.call_soon(action);
    Box::new(())
}

/// Runs the action in a call that another thread posts. The call finds the action in a thread-local
/// and spins inside the call itself.
fn in_a_posted_call(rig: &Rig, action: Action) -> Box<dyn Any> {
    ACTION.set(Some(action));
    let remote = rig.handle.remote();
    let poster = thread::spawn(move || {
        remote
            .post(|_| ACTION.take().expect("it was put there")())
            .expect("there");
    });
    poster.join().expect("the poster");
    Box::new(())
}

thread_local! {
    /// An action that is not `Send`, for a call that is.
    static ACTION: Cell<Option<Action>> = const { Cell::new(None) };
}

/// Starts a server whose protocol runs the action in one of its callbacks, and a peer that triggers
/// it.
fn in_a_protocol(
    rig: &Rig,
    action: Action,
    script: impl FnOnce(Box<dyn Fn()>) -> Scripted,
) -> Box<dyn Any> {
    let action = Cell::new(Some(action));
    let once = move || {
        if let Some(action) = action.take() {
            action();
        }
    };
    let protocol = RefCell::new(Some(script(Box::new(once))));
    let (server, address) = rig.serve(move |_| protocol.take());
    let mut client = dial(address);
    client.write_all(b"!").expect("written");
    let client = (client, server);
    Box::new(client)
}

fn in_connection_made(rig: &Rig, action: Action) -> Box<dyn Any> {
    in_a_protocol(rig, action, |once| Scripted::new().made(move |_| once()))
}

fn in_data_received(rig: &Rig, action: Action) -> Box<dyn Any> {
    in_a_protocol(rig, action, |once| Scripted::new().data(move |_, _| once()))
}

fn in_connection_lost(rig: &Rig, action: Action) -> Box<dyn Any> {
    in_a_protocol(rig, action, |once| {
        Scripted::new()
            .data(|connection, _| connection.close())
            .lost(move |_| once())
    })
}

fn in_accept(rig: &Rig, action: Action) -> Box<dyn Any> {
    let action = Cell::new(Some(action));
    let (server, address) = rig.serve(move |_| {
        if let Some(action) = action.take() {
            action();
        }
        Some(Echo)
    });
    Box::new((server, dial(address)))
}

fn in_a_task(rig: &Rig, action: Action) -> Box<dyn Any> {
    let handle = rig.handle.clone();
    rig.handle.spawn(async move {
        handle.sleep(ms(1)).await;
        action();
    });
    Box::new(())
}

/// The others: an exchange over a new connection, a timer, a call, a post from another thread, a
/// task. Ends when all of them have made progress.
async fn the_others(handle: Handle, echo: SocketAddr) {
    let count = Count::default();
    handle.call_later(ms(2), count.adder());
    handle.call_soon(count.adder());
    let posted = Arc::new(AtomicBool::new(false));
    let (remote, flag) = (handle.remote(), posted.clone());
    let poster = thread::spawn(move || {
        remote
            .post(move |_| flag.store(true, Ordering::Relaxed))
            .expect("there")
    });
    let (task, clock) = (count.clone(), handle.clone());
    handle.spawn(async move {
        let mut stream = tcp::connect(&clock, echo).await.expect("a connection");
        let mut buffer = [0; 16];
        for _ in 0..3 {
            let sent = poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, b"ping"))
                .await
                .expect("sent");
            let received = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut buffer))
                .await
                .expect("an echo");
            assert_eq!((sent, &buffer[..received]), (4, &b"ping"[..]));
        }
        task.add(1);
    });
    count.reached(3).await;
    while !posted.load(Ordering::Relaxed) {
        handle.sleep(ms(1)).await;
    }
    poster.join().expect("the poster");
}

fn echo(rig: &Rig) -> (Server, SocketAddr) {
    rig.serve_each(|| Echo)
}

/// Checks that the others make progress while a callback of one kind spins the host's loop.
fn assert_others_go_on(arrange: Arrange) {
    let rig = Rig::new();
    let (done, (_server, echo)) = (Count::default(), echo(&rig));
    let (told, harness, handle) = (done.clone(), rig.harness.clone(), rig.handle.clone());
    let _alive = arrange(
        &rig,
        Box::new(move || {
            assert_eq!(harness.nest(Box::pin(the_others(handle, echo))), Ok(()));
            told.add(1);
        }),
    );
    rig.complete(done.reached(1));
}

pub(super) fn b49_others_go_on_inside_a_timer() {
    assert_others_go_on(in_a_timer);
}

pub(super) fn b49_others_go_on_inside_a_call() {
    assert_others_go_on(in_a_call);
}

pub(super) fn b49_others_go_on_inside_a_posted_call() {
    assert_others_go_on(in_a_posted_call);
}

pub(super) fn b49_others_go_on_inside_connection_made() {
    assert_others_go_on(in_connection_made);
}

pub(super) fn b49_others_go_on_inside_data_received() {
    assert_others_go_on(in_data_received);
}

pub(super) fn b49_others_go_on_inside_connection_lost() {
    assert_others_go_on(in_connection_lost);
}

pub(super) fn b49_others_go_on_inside_accept() {
    assert_others_go_on(in_accept);
}

pub(super) fn b49_others_go_on_inside_a_task() {
    assert_others_go_on(in_a_task);
}

pub(super) fn b49_others_go_on_inside_a_shutdown_hook() {
    let rig = Rig::new();
    let (done, (_server, echo)) = (Count::default(), echo(&rig));
    let (told, harness, handle) = (done.clone(), rig.harness.clone(), rig.handle.clone());
    let hook = rig.handle.on_shutdown(Phase::Before, move || {
        assert_eq!(harness.nest(Box::pin(the_others(handle, echo))), Ok(()));
        told.add(1);
        async { Ok(()) }
    });
    hook.keep();
    rig.complete(async {});
    assert_eq!(done.get(), 1);
}

pub(super) fn b49_others_go_on_inside_handle_wait() {
    let rig = Rig::new();
    let (done, (_server, echo)) = (Count::default(), echo(&rig));
    let (told, handle) = (done.clone(), rig.handle.clone());
    rig.handle.call_later(ms(1), move || {
        let others = the_others(handle.clone(), echo);
        assert_eq!(
            handle.wait(async {
                others.await;
                7
            }),
            Ok(7)
        );
        told.add(1);
    });
    rig.complete(done.reached(1));
}

#[cfg(feature = "http")]
pub(super) fn b49_others_go_on_inside_an_http_handler() {
    assert_others_go_on(in_an_http_handler);
}

#[cfg(feature = "http")]
fn in_an_http_handler(rig: &Rig, action: Action) -> Box<dyn Any> {
    let action = Rc::new(Cell::new(Some(action)));
    let router = Router::new().get("/", move |_: http::Request| {
        let action = action.clone();
        async move {
            if let Some(action) = action.take() {
                action();
            }
            "answered"
        }
    });
    let listener =
        tcp::listen(&rig.handle, (std::net::Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_address().tcp().expect("it listens on TCP");
    let mut client = dial(address);
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("written");
    Box::new((http::serve(listener, router), client))
}

pub(super) fn b49_the_host_goes_on_inside_the_nested_loop() {
    let (rig, done, host) = (Rig::new(), Count::default(), Count::default());
    for number in 0..5 {
        rig.host_call(ms(5 + number), host.adder());
    }
    let (told, harness) = (done.clone(), rig.harness.clone());
    rig.handle.call_soon(move || {
        assert_eq!(host.get(), 0, "the host was faster than its own timers");
        assert_eq!(harness.nest(Box::pin(host.reached(5))), Ok(()));
        told.add(1);
    });
    rig.complete(done.reached(1));
}

pub(super) fn b50_data_received_on_the_stack_is_not_entered_again_and_its_events_come_afterwards() {
    let (rig, log, lost) = (Rig::new(), Log::default(), Count::default());
    let (sent, sending) = mpsc::channel();
    let (go, going) = mpsc::channel();
    let (harness, handle, noted) = (rig.harness.clone(), rig.handle.clone(), log.clone());
    let inside = Cell::new(false);
    let channels = Cell::new(Some((go, sending)));
    let ended = lost.clone();
    let protocol = Scripted::noting(&log)
        .data(move |_, data| {
            assert!(
                !inside.replace(true),
                "data_received was entered while it was on the stack"
            );
            noted.add(format!("data {}", String::from_utf8_lossy(data)));
            if let Some((go, sending)) = channels.take() {
                go.send(()).expect("the peer waits");
                let clock = handle.clone();
                let nested = harness.nest(Box::pin(async move {
                    while sending.try_recv().is_err() {
                        clock.sleep(ms(1)).await;
                    }
                    // The connection's events have arrived by now.
                    clock.sleep(ms(10)).await;
                }));
                assert_eq!(nested, Ok(()));
                noted.add("returned");
            }
            inside.set(false);
        })
        .lost(move |_| ended.add(1));
    let protocol = RefCell::new(Some(protocol));
    let (_server, address) = rig.serve(move |_| protocol.take());
    let client = peer(address, move |mut stream| {
        stream.write_all(b"first").expect("written");
        going.recv().expect("a sign");
        stream.write_all(b"second").expect("written");
        drop(stream);
        sent.send(()).expect("awaited");
    });
    rig.complete(lost.reached(1));
    client.join().expect("the peer");
    log.assert(&["made", "data first", "returned", "data second", "end"]);
}

pub(super) fn b50_what_the_connection_on_the_stack_writes_meanwhile_is_sent_afterwards() {
    let (rig, lost) = (Rig::new(), Count::default());
    let (harness, handle, ended) = (rig.harness.clone(), rig.handle.clone(), lost.clone());
    let protocol = Scripted::new()
        .data(move |connection, _| {
            connection.write(b"before, ");
            let (clock, inner) = (handle.clone(), connection.clone());
            let nested = harness.nest(Box::pin(async move {
                clock.sleep(ms(2)).await;
                inner.write(b"inside, ");
                clock.sleep(ms(2)).await;
            }));
            assert_eq!(nested, Ok(()));
            connection.write(b"after");
            connection.close();
        })
        .lost(move |_| ended.add(1));
    let protocol = RefCell::new(Some(protocol));
    let (_server, address) = rig.serve(move |_| protocol.take());
    let client = peer(address, |mut stream| {
        stream.write_all(b"!").expect("written");
        read_to_end(&stream).expect("the end")
    });
    rig.complete(lost.reached(1));
    assert_eq!(client.join().expect("the peer"), b"before, inside, after");
}

pub(super) fn b50_a_task_on_the_stack_is_not_polled_again_and_its_wake_ups_come_afterwards() {
    let (rig, log) = (Rig::new(), Log::default());
    let (inside, polls) = (Cell::new(false), Cell::new(0));
    let (harness, handle, noted) = (rig.harness.clone(), rig.handle.clone(), log.clone());
    rig.complete(poll_fn(move |cx| {
        assert!(
            !inside.replace(true),
            "the task was polled while it was on the stack"
        );
        polls.set(polls.get() + 1);
        noted.add(format!("poll {}", polls.get()));
        if polls.get() == 1 {
            let (waker, clock) = (cx.waker().clone(), handle.clone());
            let nested = harness.nest(Box::pin(async move {
                for _ in 0..5 {
                    waker.wake_by_ref();
                    clock.sleep(ms(1)).await;
                }
            }));
            assert_eq!(nested, Ok(()));
            noted.add("returned");
        }
        inside.set(false);
        if polls.get() == 2 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }));
    log.assert(&["poll 1", "returned", "poll 2"]);
}

pub(super) fn b50_readiness_that_comes_meanwhile_is_not_lost() {
    let rig = Rig::new();
    let (ours, mut theirs) = super::sys::pair();
    ours.set_nonblocking(true).expect("an option");
    let source =
        Registration::new(&rig.handle, ours, Interest::READABLE).expect("it can be watched");
    let (harness, handle) = (rig.harness.clone(), rig.handle.clone());
    rig.complete(async move {
        let clock = handle.clone();
        let nested = harness.nest(Box::pin(async move {
            clock.sleep(ms(1)).await;
            theirs.write_all(b"!").expect("written");
            // A turn in here takes the event, although its task is on the stack.
            clock.sleep(ms(5)).await;
            std::mem::forget(theirs);
        }));
        assert_eq!(nested, Ok(()));
        source.ready(Direction::Read).await;
    });
}

pub(super) fn b51_each_call_runs_once_and_none_is_lost() {
    const CALLS: u32 = 600;
    let (rig, all) = (Rig::new(), Count::default());
    let ran = Rc::new(RefCell::new(Vec::new()));
    let ordinary = {
        let (ran, all) = (ran.clone(), all.clone());
        move |number: u32| {
            ran.borrow_mut().push(number);
            all.add(1);
        }
    };
    for number in 0..CALLS {
        let (ordinary, all) = (ordinary.clone(), all.clone());
        let (harness, handle) = (rig.harness.clone(), rig.handle.clone());
        rig.handle.call_soon(move || {
            // Some of them spin the loop until everything queued has run, and queue more from
            // inside.
            if number % 200 == 100 {
                let more = ordinary.clone();
                handle.call_soon(move || more(CALLS + number));
                let remaining = all.clone();
                let clock = handle.clone();
                let nested = harness.nest(Box::pin(async move {
                    clock.sleep(ms(3)).await;
                    drop(remaining);
                }));
                assert_eq!(nested, Ok(()));
            }
            ordinary(number);
        });
    }
    let total = CALLS + CALLS / 200;
    let handle = rig.handle.clone();
    let finished = all.clone();
    rig.complete(async move {
        finished.reached(total.into()).await;
        handle.sleep(ms(10)).await;
    });
    let mut ran = ran.take();
    ran.sort_unstable();
    let mut expected: Vec<_> = (0..CALLS)
        .chain((0..3).map(|nth| CALLS + 200 * nth + 100))
        .collect();
    expected.sort_unstable();
    assert_eq!(ran, expected);
}

/// Spins the loop until the run ends, and stops the run in there.
fn stop_inside(harness: &HostLoop) -> Result<(), WaitError> {
    let handle = harness.handle();
    harness.nest(Box::pin(async move {
        handle.stop();
        std::future::pending().await
    }))
}

/// Makes a callback of one kind spin the loop, and stops the reactor in there. Checks that both end
/// and that no user code runs afterwards.
fn assert_stop_ends_both(arrange: Arrange) {
    let (rig, log) = (Rig::new(), Log::default());
    // Another connection, which must be lost in order.
    let noted = log.clone();
    let (_server, address) = rig.serve_each(move || {
        let noted = noted.clone();
        Scripted::new().lost(move |why| noted.add(format!("lost: {why}")))
    });
    let made = dial(address);
    let (noted, harness, handle) = (log.clone(), rig.harness.clone(), rig.handle.clone());
    let late = log.clone();
    let _alive = arrange(
        &rig,
        Box::new(move || {
            // Others wait in the same turn.
            for _ in 0..5 {
                handle.call_soon(|| {});
            }
            // Stop soon, while the outer turn has budget left.
            assert_eq!(stop_inside(&harness), Err(WaitError::Stopped));
            noted.add("returned");
            // The run is over. This must wait for the next one.
            handle.call_soon(late.adder("late call"));
            handle.call_later(Duration::ZERO, late.adder("late timer"));
            let task = late.clone();
            handle.spawn(async move { task.add("late task") });
        }),
    );
    for _ in 0..20 {
        // Queued behind the callback in question, so that its turn has more to do.
        rig.handle.call_soon(|| {});
        rig.handle.spawn(async {});
    }
    rig.run();
    assert!(!rig.handle.is_running());
    let entries = log.entries();
    assert_eq!(
        entries,
        ["lost: the reactor stopped", "returned"],
        "in this order, and nothing late"
    );
    drop(made);
}

pub(super) fn b52_stop_inside_ends_both_from_a_timer() {
    assert_stop_ends_both(in_a_timer);
}

pub(super) fn b52_stop_inside_ends_both_from_a_call() {
    assert_stop_ends_both(in_a_call);
}

pub(super) fn b52_stop_inside_ends_both_from_data_received() {
    assert_stop_ends_both(in_data_received);
}

pub(super) fn b52_stop_inside_ends_both_from_connection_lost() {
    assert_stop_ends_both(in_connection_lost);
}

pub(super) fn b52_stop_inside_ends_both_from_accept() {
    assert_stop_ends_both(in_accept);
}

pub(super) fn b52_stop_inside_ends_both_from_a_task() {
    assert_stop_ends_both(in_a_task);
}

pub(super) fn b52_what_a_callback_asks_for_after_the_end_waits_for_the_next_run() {
    let (rig, log) = (Rig::new(), Log::default());
    let (harness, handle, noted) = (rig.harness.clone(), rig.handle.clone(), log.clone());
    rig.handle.call_soon(move || {
        assert_eq!(stop_inside(&harness), Err(WaitError::Stopped));
        handle.call_soon(noted.adder("call"));
        handle.call_later(Duration::ZERO, noted.adder("timer"));
        let task = noted.clone();
        handle.spawn(async move { task.add("task") });
    });
    for _ in 0..20 {
        // The outer turn has more to do, and budget left for it.
        rig.handle.call_soon(|| {});
        rig.handle.spawn(async {});
    }
    rig.run();
    log.assert(&[]);
    let handle = rig.handle.clone();
    rig.complete(async move { handle.sleep(ms(5)).await });
    let mut entries = log.entries();
    entries.sort();
    assert_eq!(entries, ["call", "task", "timer"]);
}

pub(super) fn b52_the_connection_on_the_stack_is_lost_once_it_returns() {
    let (rig, log) = (Rig::new(), Log::default());
    let (noted, harness, lost) = (log.clone(), rig.harness.clone(), log.clone());
    let protocol = Scripted::new()
        .data(move |_, _| {
            assert_eq!(stop_inside(&harness), Err(WaitError::Stopped));
            noted.add("returned");
        })
        .lost(move |why| lost.add(format!("lost: {why}")));
    let protocol = RefCell::new(Some(protocol));
    let (_server, address) = rig.serve(move |_| protocol.take());
    let mut client = dial(address);
    client.write_all(b"!").expect("written");
    rig.run();
    log.assert(&["returned", "lost: the reactor stopped"]);
}

pub(super) fn b52_a_dialog_in_connection_lost_does_not_hold_the_end_for_ever() {
    let (rig, log) = (Rig::new(), Log::default());
    let (harness, clock, noted, made) = (
        rig.harness.clone(),
        rig.handle.clone(),
        log.clone(),
        Count::default(),
    );
    let told = made.clone();
    let (_server, address) = rig.serve_each(move || {
        let (harness, clock, noted, told) =
            (harness.clone(), clock.clone(), noted.clone(), told.clone());
        Scripted::new().made(move |_| told.add(1)).lost(move |_| {
            let clock = clock.clone();
            // The end may cut the dialog short, but the dialog ends.
            let _ = harness.nest(Box::pin(async move { clock.sleep(ms(5)).await }));
            noted.add("lost");
        })
    });
    let clients = [dial(address), dial(address), dial(address)];
    rig.complete(made.reached(3));
    log.assert(&["lost"; 3]);
    drop(clients);
}

/// Nests `levels` deep, with each level in a callback of another kind, and runs `innermost` at the
/// bottom.
fn nest_deeper(
    rig: Rc<Rig>,
    levels: &'static [Arrange],
    log: Log,
    innermost: Rc<dyn Fn() -> Result<(), WaitError>>,
) {
    let Some((arrange, deeper)) = levels.split_first() else {
        log.add(format!("innermost: {}", innermost().is_ok()));
        return;
    };
    let (outer, done) = (rig.clone(), Count::default());
    let (level, finished) = (levels.len(), done.clone());
    let action = {
        let rig = rig.clone();
        move || {
            nest_deeper(rig, deeper, log.clone(), innermost);
            log.add(format!("level {level} returns"));
            finished.add(1);
        }
    };
    let alive = arrange(&outer, Box::new(action));
    // The callback on the stack waits for the next level's callback.
    let _ = outer.harness.nest(Box::pin(done.reached(1)));
    drop(alive);
}

fn three_levels_deep(
    innermost: impl Fn(&Rig) -> Result<(), WaitError> + 'static,
    expected: &[&str],
) {
    let (rig, log) = (Rc::new(Rig::new()), Log::default());
    let (inner, noted, again) = (rig.clone(), log.clone(), rig.clone());
    let levels: &'static [Arrange] = Box::leak(Box::new([in_a_timer, in_data_received, in_a_task]));
    rig.handle.call_soon(move || {
        nest_deeper(
            inner,
            levels,
            noted.clone(),
            Rc::new(move || innermost(&again)),
        );
        noted.add("all return");
    });
    let (handle, watch) = (rig.handle.clone(), log.clone());
    rig.handle.spawn(async move {
        while !watch.entries().iter().any(|entry| entry == "all return") {
            handle.sleep(ms(1)).await;
        }
        // In one of the cases it is stopped already.
        handle.stop();
    });
    rig.run();
    log.assert(expected);
}

pub(super) fn b53_three_levels_deep_others_go_on() {
    three_levels_deep(
        |rig| {
            let (server, echo) = echo(rig);
            let result = rig
                .harness
                .nest(Box::pin(the_others(rig.handle.clone(), echo)));
            drop(server);
            result
        },
        &[
            "innermost: true",
            "level 1 returns",
            "level 2 returns",
            "level 3 returns",
            "all return",
        ],
    );
}

pub(super) fn b53_three_levels_deep_each_call_runs_once() {
    three_levels_deep(
        |rig| {
            let count = Count::default();
            for _ in 0..200 {
                rig.handle.call_soon(count.adder());
            }
            let (clock, all) = (rig.handle.clone(), count.clone());
            let result = rig.harness.nest(Box::pin(async move {
                all.reached(200).await;
                clock.sleep(ms(3)).await;
            }));
            assert_eq!(count.get(), 200);
            result
        },
        &[
            "innermost: true",
            "level 1 returns",
            "level 2 returns",
            "level 3 returns",
            "all return",
        ],
    );
}

pub(super) fn b53_three_levels_deep_stop_ends_all() {
    three_levels_deep(
        |rig| stop_inside(&rig.harness),
        &[
            "innermost: false",
            "level 1 returns",
            "level 2 returns",
            "level 3 returns",
            "all return",
        ],
    );
}

/// Peers may see to as many as they like, and each takes a part of the stack.
pub(super) fn b53_waits_inside_of_each_other_are_bounded() {
    const WAITS: u64 = 50;
    let rig = Rig::new();
    let (returned, too_deep) = (Count::default(), Count::default());
    for _ in 0..WAITS {
        let (handle, returned, too_deep) = (rig.handle.clone(), returned.clone(), too_deep.clone());
        let all = returned.clone();
        rig.handle.call_soon(move || {
            // The innermost ones are refused, so that those around them can end.
            let waited = handle.wait(async move { all.reached(1).await });
            if waited == Err(WaitError::TooDeep) {
                too_deep.add(1);
            }
            returned.add(1);
        });
    }
    rig.complete(returned.reached(WAITS));
    assert!(too_deep.get() > 0, "the stack is not endless");
    assert!(
        WAITS - too_deep.get() >= 15,
        "{} of {WAITS} are refused",
        too_deep.get()
    );
}
