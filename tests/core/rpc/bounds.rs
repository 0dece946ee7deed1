//! How much a peer, and the program, may ask for, and that no peer keeps the thread.

use super::*;

#[test]
fn too_many_calls_are_refused_and_the_others_answered() {
    let simulation = Simulation::new();
    let config = Config {
        max_calls: 3,
        ..Config::default()
    };
    let (peer, other) = pair(&simulation, Link::default(), config);
    let calls: Vec<_> = (0..5).map(|_| peer.call::<u64>("sleep", &1)).collect();
    simulation.drive();
    assert_eq!(other.answering(), 3);
    let results: Vec<_> = calls
        .into_iter()
        .map(|call| simulation.run_until(call))
        .collect();
    assert_eq!(
        results,
        [
            Ok(1),
            Ok(1),
            Ok(1),
            Err(CallError::TooMany),
            Err(CallError::TooMany)
        ]
    );
    assert_eq!(call(&simulation, &peer, "sleep", &1), Ok(1));
}

#[test]
fn the_arguments_of_all_open_calls_are_bounded_in_bytes() {
    let simulation = Simulation::new();
    let config = Config {
        max_call_bytes: 10_000,
        ..Config::default()
    };
    let mut methods = Methods::new();
    methods.add("hold", |_, _: String| async {
        std::future::pending::<Result<(), Failure>>().await
    });
    let (peer, other) = serving(&simulation, methods, config);
    let text = "x".repeat(3_000);
    let calls: Vec<_> = (0..5).map(|_| peer.call::<()>("hold", &text)).collect();
    simulation.drive();
    assert_eq!(other.answering(), 3);
    let refused: Vec<_> = calls
        .iter()
        .map(entwined::deferred::Deferred::is_ready)
        .collect();
    assert_eq!(refused, [false, false, false, true, true]);
    for call in calls {
        call.cancel();
    }
    simulation.drive();
    // Alone a longer one is answered, within the limit of a frame.
    let long = peer.call::<()>("hold", &"x".repeat(20_000));
    simulation.drive();
    assert_eq!(other.answering(), 1);
    assert!(!long.is_ready());
}

/// Calls a method `calls` times, behind one call with `large` bytes if that is more than none. No
/// turn answers more than a few hundred.
fn many_calls_let_others_have_their_turn(calls: u32, large: usize) {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let config = Config {
        max_calls: 100_000,
        max_waiting: 100_000,
        ..Config::default()
    };
    let (count, most) = (Rc::new(Cell::new(0_u32)), Rc::new(Cell::new(0)));
    let mut methods = Methods::new();
    let seen = count.clone();
    methods.add("count", move |_, (): ()| {
        seen.set(seen.get() + 1);
        async { Ok::<_, Failure>(()) }
    });
    methods.add("large", |_, _: String| async { Ok::<_, Failure>(()) });
    let (peer, _other) = serving(&simulation, methods, config);
    simulation.drive();
    let _hook = handle.on_turn({
        let (count, most, last) = (count.clone(), most.clone(), Cell::new(0));
        move || most.set(most.get().max(count.get() - last.replace(count.get())))
    });
    let _large = (large > 0).then(|| peer.call::<()>("large", &"x".repeat(large)));
    let answers: Vec<_> = (0..calls).map(|_| peer.call::<()>("count", &())).collect();
    simulation.drive();
    assert_eq!(count.get(), calls);
    assert!(answers.iter().all(entwined::deferred::Deferred::is_ready));
    assert!(most.get() <= 520, "{} calls in one turn", most.get());
}

#[test]
fn a_peer_with_many_small_messages_lets_others_have_their_turn() {
    many_calls_let_others_have_their_turn(20_000, 0);
}

/// A peer whose method "hold" never answers.
fn holding(simulation: &Simulation, config: Config) -> (Peer, Peer) {
    let mut methods = Methods::new();
    methods.add("hold", |_, _: String| async {
        std::future::pending::<Result<(), Failure>>().await
    });
    methods.add("echo", |_, text: String| async { Ok::<_, Failure>(text) });
    serving(simulation, methods, config)
}

/// The least time of some rounds of echoes, in this thread.
fn echoes(simulation: &Simulation, peer: &Peer) -> Duration {
    let round = || {
        let start = Instant::now();
        let calls: Vec<_> = (0..100)
            .map(|_| peer.call::<String>("echo", &"x"))
            .collect();
        for call in calls {
            assert_eq!(simulation.run_until(call), Ok("x".to_owned()));
        }
        start.elapsed()
    };
    (0..10).map(|_| round()).min().expect("some rounds")
}

#[test]
fn a_call_takes_no_longer_when_many_others_are_open() {
    const MANY: usize = 20_000;
    let simulation = Simulation::new();
    let config = Config {
        max_calls: 2 * MANY,
        max_waiting: 2 * MANY,
        ..Config::default()
    };
    let (peer, other) = holding(&simulation, config);
    let alone = echoes(&simulation, &peer);
    let held: Vec<_> = (0..MANY).map(|_| peer.call::<()>("hold", &"x")).collect();
    simulation.drive();
    assert_eq!(other.answering(), MANY);
    let among = echoes(&simulation, &peer);
    // To look at each of them would make it twenty times as long.
    assert!(among < alone * 4, "{among:?}, alone {alone:?}");
    for call in held {
        call.cancel();
    }
    simulation.drive();
    assert_eq!(other.answering(), 0);
}

#[test]
fn the_bytes_of_calls_that_are_over_are_free_again() {
    let simulation = Simulation::new();
    let config = Config {
        max_call_bytes: 10_000,
        ..Config::default()
    };
    let mut methods = Methods::new();
    methods.add("echo", |_, text: String| async { Ok::<_, Failure>(text) });
    methods.add("hold", |_, _: String| async {
        std::future::pending::<Result<(), Failure>>().await
    });
    methods.add("fail", |_, _: String| async {
        Err::<(), _>(Failure("as wanted".to_owned()))
    });
    methods.add("panic", |_, text: String| async move {
        assert!(text.is_empty(), "as wanted");
        Ok::<_, Failure>(())
    });
    methods.add_stream("items", |_, _: String, items: Items<u8>| async move {
        items.send(&1).await
    });
    let (peer, other) = serving(&simulation, methods, config);
    // A call that is alone always fits.
    let open = peer.call::<()>("hold", &"x");
    let text = "x".repeat(6_000);
    for _ in 0..3 {
        for name in ["echo", "fail", "panic", "there is none", "items"] {
            // Whatever its end is, the next call fits.
            let ended = simulation.run_until(peer.call::<String>(name, &text));
            assert_eq!(ended.is_ok(), name == "echo", "{name}: {ended:?}");
            assert_eq!(other.answering(), 1);
        }
        let mut items = peer.stream::<u8>("items", &text);
        let next = simulation
            .handle()
            .spawn(async move { (items.next().await, items.next().await) });
        assert_eq!(simulation.run_until(next), Ok((Some(Ok(1)), None)));
        let held = peer.call::<()>("hold", &text);
        simulation.drive();
        assert_eq!(other.answering(), 2);
        held.cancel();
        simulation.drive();
    }
    let echoed = call::<String>(&simulation, &peer, "echo", &text);
    assert_eq!(echoed, Ok(text));
    assert!(!open.is_ready());
}

#[test]
fn our_calls_that_wait_for_an_answer_are_bounded_in_number() {
    let simulation = Simulation::new();
    let config = Config {
        max_waiting: 3,
        ..Config::default()
    };
    let (peer, other) = holding(&simulation, config);
    let mut calls: Vec<_> = (0..3).map(|_| peer.call::<()>("hold", &"x")).collect();
    let refused = peer.call::<()>("hold", &"x");
    assert_eq!(
        simulation.run_until(refused),
        Err(CallError::TooManyWaiting)
    );
    let mut refused = peer.stream::<()>("hold", &"x");
    let first = simulation
        .handle()
        .spawn(async move { refused.next().await });
    let first = simulation.run_until(first).expect("a task");
    assert_eq!(first, Some(Err(CallError::TooManyWaiting)));
    assert_eq!((peer.waiting(), other.answering()), (3, 3));
    // The connection lives, and a call that has ended makes room.
    calls.pop().expect("a call").cancel();
    simulation.drive();
    let echoed = call::<String>(&simulation, &peer, "echo", &"again");
    assert_eq!(echoed, Ok("again".to_owned()));
}

#[test]
fn our_calls_that_wait_for_an_answer_are_bounded_in_bytes() {
    let simulation = Simulation::new();
    let config = Config {
        max_waiting_bytes: 10_000,
        ..Config::default()
    };
    let (peer, _other) = holding(&simulation, config);
    let text = "x".repeat(3_000);
    let calls: Vec<_> = (0..3).map(|_| peer.call::<()>("hold", &text)).collect();
    simulation.drive();
    let refused = peer.call::<()>("hold", &text);
    assert_eq!(
        simulation.run_until(refused),
        Err(CallError::TooManyWaiting)
    );
    for call in calls {
        call.cancel();
    }
    simulation.drive();
    // Alone, a longer one is sent, within the limit of a frame.
    let text = "x".repeat(20_000);
    let echoed = call::<String>(&simulation, &peer, "echo", &text);
    assert!(echoed == Ok(text));
}

/// Calls that time out do not pile up before a peer that does not read.
#[test]
fn calls_that_were_cancelled_count_until_they_are_sent() {
    let simulation = Simulation::new();
    let (near, _far) = memory::pair(&simulation.handle());
    let peer = rpc::start(&simulation.handle(), near, Methods::new());
    let text = "x".repeat(1_000_000);
    let mut refused = 0;
    for _ in 0..100 {
        let call = peer.call::<()>("any", &text);
        simulation.drive();
        if call.is_ready() {
            assert_eq!(simulation.run_until(call), Err(CallError::TooManyWaiting));
            refused += 1;
        } else {
            call.cancel();
        }
        simulation.drive();
        assert!(!peer.is_closing());
    }
    assert!(refused >= 95, "{refused} were refused");
}

#[test]
fn no_limit_in_bytes_is_too_large() {
    let simulation = Simulation::new();
    let config = Config {
        max_frame_size: usize::MAX,
        max_calls: usize::MAX,
        max_call_bytes: usize::MAX,
        max_waiting: usize::MAX,
        max_waiting_bytes: usize::MAX,
        window: u32::MAX,
        max_item_bytes: usize::MAX,
        idle_timeout: Some(Duration::MAX),
    };
    let (peer, other) = pair(&simulation, Link::default(), config);
    assert_eq!(call(&simulation, &peer, "add", &(2, 3)), Ok(5));
    let mut items = peer.stream::<u64>("count", &3);
    let counted = simulation.handle().spawn(async move {
        let mut sum = 0;
        while let Some(item) = items.next().await {
            sum += item.expect("an item");
        }
        sum
    });
    assert_eq!(simulation.run_until(counted), Ok(3));
    drop(other);
}

/// Messages behind the end of a large one were all handled at once.
#[test]
fn small_messages_behind_a_large_one_let_others_have_their_turn() {
    many_calls_let_others_have_their_turn(5_000, 200 * 1024);
}
