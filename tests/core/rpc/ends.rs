//! How connections end, and what becomes of their calls.

use super::*;

#[test]
fn the_end_of_a_connection_ends_its_calls() {
    let simulation = Simulation::new();
    let (peer, other) = pair(&simulation, Link::default(), Config::default());
    let waiting = peer.call::<u64>("sleep", &1_000);
    let mut stream = peer.stream::<u64>("count", &1_000_000);
    simulation.drive();
    other.close();
    simulation.drive();
    assert_eq!(
        (peer.waiting(), other.answering(), other.waiting()),
        (0, 0, 0)
    );
    assert!(matches!(
        simulation.run_until(waiting),
        Err(CallError::Lost(_))
    ));
    let rest = simulation.handle().spawn(async move {
        let mut last = None;
        while let Some(item) = stream.next().await {
            last = Some(item);
        }
        last
    });
    assert!(matches!(
        simulation.run_until(rest),
        Ok(Some(Err(CallError::Lost(_))))
    ));
    assert!(matches!(
        call::<u64>(&simulation, &peer, "sleep", &1),
        Err(CallError::Lost(_))
    ));
}

/// Sends bytes to a peer and returns its reply until it ends.
#[test]
fn an_aborted_connection_ends_at_once_though_the_peer_takes_nothing() {
    let simulation = Simulation::new();
    let (peer, _other) = pair(
        &simulation,
        Link {
            latency: Duration::from_secs(1_000),
            ..Link::default()
        },
        Config::default(),
    );
    let waiting = peer.call::<i64>("add", &(1, 2));
    simulation.drive();
    peer.abort();
    simulation.drive();
    assert!(matches!(waiting.take(), Ok(Err(CallError::Lost(_)))));
}

#[test]
fn calls_over_a_connection_that_is_never_established_end() {
    let simulation = Simulation::new();
    let (peer, _other) = pair(&simulation, Link::default(), Config::default());
    let waiting = peer.call::<i64>("add", &(1, 2));
    let finished = peer.finish();
    peer.abort();
    simulation.drive();
    let error = simulation.run_until(waiting).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the connection is over: {}",
            entwined::protocol::Lost::Aborted
        )
    );
    assert!(matches!(finished.take(), Ok(Err(CallError::Lost(_)))));
    assert!(matches!(
        call::<i64>(&simulation, &peer, "add", &(1, 2)),
        Err(CallError::Lost(_))
    ));
}

/// A peer in another language, written from the description of the protocol. It calls `add`,
/// answers `double`, and reads a stream.
#[test]
fn an_end_in_order_waits_for_calls_of_both_sides_and_takes_no_more() {
    let simulation = Simulation::new();
    let (peer, other) = pair(&simulation, Link::default(), Config::default());
    let answered = peer.call::<u64>("sleep", &10);
    let asked = other.call::<i64>("double", &4);
    let mut stream = peer.stream::<u64>("count", &1_000);
    simulation.drive();
    let finished = peer.finish();
    // This is sent before the other side can know.
    let crossing = other.call::<i64>("double", &5);
    assert_eq!(simulation.run_until(crossing), Err(CallError::Finishing));
    assert_eq!(
        call::<u64>(&simulation, &peer, "sleep", &1),
        Err(CallError::Finishing)
    );
    assert_eq!(
        call::<i64>(&simulation, &other, "double", &1),
        Err(CallError::Finishing)
    );
    assert_eq!(simulation.run_until(asked), Ok(8));
    let items = simulation.handle().spawn(async move {
        let mut count = 0;
        while let Some(item) = stream.next().await {
            assert_eq!(item, Ok(count));
            count += 1;
        }
        count
    });
    assert_eq!(simulation.run_until(items).expect("no panic"), 1_000);
    assert!(!peer.is_closing());
    assert_eq!(simulation.run_until(answered), Ok(10));
    assert_eq!(simulation.run_until(finished), Ok(()));
    simulation.drive();
    assert!(peer.is_closing() && other.is_closing());
    assert!(matches!(
        simulation.run_until(peer.finish()),
        Err(CallError::Lost(_))
    ));
}

#[test]
fn an_end_in_order_comes_at_once_when_nothing_is_open_and_both_may_want_it() {
    let simulation = Simulation::new();
    let (peer, other) = pair(&simulation, fragmented(1), Config::default());
    let both = (peer.finish(), other.finish(), peer.finish());
    assert_eq!(simulation.run_until(both.0), Ok(()));
    assert_eq!(simulation.run_until(both.1), Ok(()));
    assert_eq!(simulation.run_until(both.2), Ok(()));

    // The last call is cancelled, or it never ends but the connection does.
    let (peer, _other) = pair(&simulation, Link::default(), Config::default());
    let open = peer.call::<u64>("sleep", &1_000);
    let finished = peer.finish();
    simulation.drive();
    open.cancel();
    assert!(matches!(
        simulation.run_until(open),
        Err(CallError::Interrupted(Interrupted::Cancelled))
    ));
    assert_eq!(simulation.run_until(finished), Ok(()));
    let (peer, other) = pair(&simulation, Link::default(), Config::default());
    let open = peer.call::<u64>("sleep", &1_000);
    let finished = peer.finish();
    simulation.drive();
    other.close();
    assert!(matches!(
        simulation.run_until(finished),
        Err(CallError::Lost(_))
    ));
    assert!(matches!(
        simulation.run_until(open),
        Err(CallError::Lost(_))
    ));
}

#[test]
fn a_silent_peer_loses_its_place_if_the_program_says_so() {
    let second = Duration::from_secs(1);
    for idle_timeout in [None, Some(60 * second)] {
        let simulation = Simulation::new();
        let config = Config {
            idle_timeout,
            ..Config::default()
        };
        let (peer, other) = serving(&simulation, methods(&simulation.handle()), config);
        simulation.advance(50 * second);
        // A call keeps the connection for as long as it takes.
        assert_eq!(call::<u64>(&simulation, &peer, "sleep", &500), Ok(500));
        simulation.advance(59 * second);
        assert!(!peer.is_closing() && !other.is_closing());
        assert_eq!(call(&simulation, &peer, "add", &(2, 3)), Ok(5));
        simulation.advance(59 * second);
        assert!(!peer.is_closing() && !other.is_closing());
        simulation.advance(2 * second);
        let over = idle_timeout.is_some();
        assert_eq!((peer.is_closing(), other.is_closing()), (over, over));
        if over {
            let lost = peer.call::<()>("add", &(2, 3));
            let why = simulation.run_until(lost).expect_err("it is over");
            assert!(why.to_string().contains("silent") || why.to_string().contains("reset"));
        }
    }
}

/// Puts a number into the log when it is dropped.
struct Dropped(Rc<RefCell<Vec<usize>>>, usize);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.borrow_mut().push(self.1);
    }
}

/// The order was another one each time, also in simulated time.
#[test]
fn calls_end_in_their_order_when_the_connection_is_lost() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, far) = memory::pair(&handle);
    let (failed, dropped) = <(Rc<RefCell<Vec<usize>>>, Rc<RefCell<Vec<usize>>>)>::default();
    let mut methods = Methods::new();
    methods.add("hold", {
        let dropped = dropped.clone();
        move |_, number: usize| {
            let held = Dropped(dropped.clone(), number);
            async move {
                std::future::pending::<()>().await;
                drop(held);
                Ok::<_, Failure>(())
            }
        }
    });
    let peer = rpc::start(&handle, near, Methods::new());
    let _far = rpc::start(&handle, far, methods);
    for number in 0..50 {
        let failed = failed.clone();
        let call = peer.call::<()>("hold", &number);
        call.add_both(move |result| {
            assert!(result.is_err());
            failed.borrow_mut().push(number);
            Ok::<_, CallError>(())
        });
    }
    simulation.drive();
    peer.abort();
    simulation.drive();
    assert_eq!(failed.take(), (0..50).collect::<Vec<_>>());
    assert_eq!(dropped.take(), (0..50).collect::<Vec<_>>());
}
