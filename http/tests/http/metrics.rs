//! What the reactor reports about the program that runs on it.

use std::{
    cell::RefCell,
    net::Ipv4Addr,
    rc::Rc,
    time::{Duration, Instant},
};

use crate::run::run;
use entwined::{
    Handle, Standalone,
    reactor::{Driver, Label, Pacing, Report, Selector},
    transport::tcp,
};
use entwined_http::{self as http, Router, client::Client, labels, layers};

/// Holds the thread by sleeping: time spent waiting for a processor would not count.
fn hold(duration: Duration) {
    std::thread::sleep(duration);
}

/// Returns the stalls of a request to a site whose handlers hold the thread for 100 ms, either
/// immediately or later.
fn stalls_of(layered: bool, path: &'static str) -> Vec<(Label, u32)> {
    run(move |handle| async move {
        let later = handle.clone();
        let line = line!() + 1;
        let mut router = Router::new().get("/held", || hold(Duration::from_millis(100)));
        router = router.get("/later", move || {
            let handle = later.clone();
            async move {
                handle.sleep(Duration::from_millis(1)).await;
                hold(Duration::from_millis(100));
            }
        });
        if layered {
            router = router.layer(layers::request_id());
        }
        let server = http::serve(
            tcp::listen(&handle, ([127, 0, 0, 1], 0)).expect("a port"),
            router,
        );
        // Other callbacks hold the thread for less than this, even on a busy machine.
        handle.set_stall_threshold(Duration::from_millis(60));
        let url = format!("http://{}{path}", server.local_address());
        Client::new(&handle)
            .get(&url)
            .send()
            .await
            .expect("a response")
            .bytes()
            .await
            .expect("all of it");
        let stalls = handle.stalls();
        assert_eq!(
            (stalls.count, stalls.recent.len()),
            (handle.metrics().stalls, stalls.recent.len())
        );
        let share = handle.metrics().share(labels().handler);
        assert!(
            share.time >= Duration::from_millis(100) && share.time < Duration::from_secs(5),
            "{share:?}"
        );
        // On Windows, where waiting for a processor counts as work, a busy machine adds others.
        let request = [labels().handler, labels().connection];
        stalls
            .recent
            .iter()
            .filter(|stall| request.contains(&stall.origin.label))
            .map(|stall| {
                (
                    stall.origin.label,
                    stall.origin.location.line().wrapping_sub(line),
                )
            })
            .collect()
    })
}

#[test]
fn a_handler_that_holds_the_thread_is_named_once_by_the_line_of_its_route() {
    for layered in [false, true] {
        assert_eq!(stalls_of(layered, "/held"), [(labels().handler, 0)]);
        assert_eq!(stalls_of(layered, "/later"), [(labels().handler, 1)]);
    }
}

#[test]
fn without_timing_the_callback_around_a_handler_is_named() {
    run(|handle| async move {
        handle.set_timing(false);
        handle.set_stall_threshold(Duration::from_millis(60));
        let router = Router::new().get("/held", || hold(Duration::from_millis(100)));
        let server = http::serve(
            tcp::listen(&handle, ([127, 0, 0, 1], 0)).expect("a port"),
            router,
        );
        let url = format!("http://{}/held", server.local_address());
        Client::new(&handle)
            .get(&url)
            .send()
            .await
            .expect("a response")
            .bytes()
            .await
            .expect("all of it");
        let stalls = handle.stalls();
        assert_eq!(
            stalls
                .recent
                .iter()
                .map(|stall| stall.origin.label)
                .collect::<Vec<_>>(),
            [labels().connection]
        );
        assert_eq!(
            (
                handle.metrics().share(labels().handler).count,
                handle.metrics().turn_times.count()
            ),
            (0, 0)
        );
    });
}

#[test]
fn stalls_are_kept_by_place_and_the_last_one_by_one() {
    run(|handle| async move {
        handle.set_stall_threshold(Duration::ZERO);
        let told = Rc::new(RefCell::new(0));
        let _observer = handle.observe({
            let told = told.clone();
            move |report| {
                *told.borrow_mut() += u32::from(
                    matches!(report, Report::Stall { origin, .. } if origin.label == Label::CALL),
                )
            }
        });
        let line = line!() + 2;
        for _ in 0..50 {
            handle.call_soon(|| ());
        }
        handle.sleep(Duration::from_millis(1)).await;
        handle.set_stall_threshold(Duration::from_secs(60));
        let stalls = handle.stalls();
        let place = stalls
            .places
            .iter()
            .find(|place| place.origin.label == Label::CALL)
            .expect("it is there");
        assert_eq!((place.count, place.origin.location.line()), (50, line));
        assert_eq!((*told.borrow(), stalls.recent.len()), (50, 32));
    });
}

#[test]
fn connections_tasks_and_timers_are_listed_with_where_they_come_from() {
    run(|handle| async move {
        let listener = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_address().tcp().expect("TCP");
        let before = handle.metrics();
        let client = tcp::connect(&handle, address).await.expect("a connection");
        let server = listener.accept().await.expect("one");
        assert_eq!(handle.metrics().connections, 2);
        let mut writer = client;
        write(&mut writer, &[b'x'; 1_000]).await;
        let mut reader = server;
        assert_eq!(read(&mut reader).await, 1_000);

        let line = line!() + 2;
        for _ in 0..3 {
            handle.spawn(std::future::pending::<()>());
        }
        for seconds in [50, 40] {
            let _ = handle.call_later(Duration::from_secs(seconds), || ());
        }
        let census = handle.census();
        let tasks: Vec<_> = census
            .tasks
            .iter()
            .filter(|(origin, _)| origin.location.line() == line)
            .collect();
        assert_eq!((tasks.len(), tasks[0].1), (1, 3));
        let [(origin, 2, first)] = census.timers[..] else {
            panic!("{:?}", census.timers)
        };
        assert_eq!(
            (origin.label, origin.location.line()),
            (Label::TIMER, line + 3)
        );
        assert!(first <= handle.now() + Duration::from_secs(40));
        let mut traffic: Vec<_> = census
            .connections
            .iter()
            .map(|one| (one.received, one.sent))
            .collect();
        traffic.sort();
        assert_eq!(traffic, [(0, 1_000), (1_000, 0)]);
        assert!(
            census
                .connections
                .iter()
                .all(|one| one.since <= handle.now())
        );
        let after = handle.metrics();
        assert_eq!(
            (after.received - before.received, after.sent - before.sent),
            (1_000, 1_000)
        );
        assert_eq!(after.connections_opened - before.connections_opened, 2);
        drop((reader, writer));
        assert_eq!(
            (
                handle.metrics().connections,
                handle.census().connections.len()
            ),
            (0, 0)
        );
    });
}

async fn write(stream: &mut entwined::transport::Stream, bytes: &[u8]) {
    use futures_io::AsyncWrite;
    let count = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *stream).poll_write(cx, bytes))
        .await
        .expect("room");
    assert_eq!(count, bytes.len());
}

async fn read(stream: &mut entwined::transport::Stream) -> usize {
    use futures_io::AsyncRead;
    let mut buffer = [0; 2_000];
    std::future::poll_fn(|cx| std::pin::Pin::new(&mut *stream).poll_read(cx, &mut buffer))
        .await
        .expect("bytes")
}

#[test]
fn timers_that_come_late_because_the_thread_was_held_are_recorded_so() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let _ = handle.call_later(Duration::from_millis(5), || ());
    handle.call_soon(|| hold(Duration::from_millis(60)));
    let end = handle.clone();
    let _ = handle.call_later(Duration::from_millis(70), move || end.stop());
    reactor.run().expect("a run");
    let lateness = handle.metrics().timer_lateness;
    assert_eq!(lateness.count(), 2);
    assert!(
        lateness.longest() >= Duration::from_millis(50),
        "{lateness:?}"
    );
}

#[test]
fn a_slice_ends_before_the_next_frame() {
    let driver = Driver::new(Rc::new(Selector::new().expect("a selector")), ());
    let handle: Handle = driver.handle();
    assert_eq!(driver.budget(), Duration::from_millis(2));
    let clock = handle.frame_clock();
    clock.begin(Duration::from_secs(60));
    clock.end();
    assert_eq!(
        driver.budget(),
        Duration::from_millis(4),
        "there is much time"
    );
    clock.expect(Some(Instant::now() + Duration::from_micros(1_500)));
    assert!(driver.budget() <= Duration::from_micros(1_300));
    handle.set_pacing(Pacing::fixed(Duration::from_millis(7)));
    assert_eq!(driver.budget(), Duration::from_millis(7));
    handle.set_pacing(Pacing::default());
    drop(clock);
    assert_eq!(driver.budget(), Duration::from_millis(2));
    assert_eq!(handle.metrics().frames.drawn, 1);
}
