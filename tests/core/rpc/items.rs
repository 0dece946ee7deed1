//! Calls whose answer is a stream of items.

use super::*;

#[test]
fn a_stream_gives_all_items_and_how_it_ended() {
    let simulation = Simulation::new();
    let (peer, other) = pair(&simulation, fragmented(7), Config::default());
    for to in [0_u64, 1, 8, 100, 13] {
        let mut stream = peer.stream::<u64>("count", &to);
        let taking = simulation.handle().spawn(async move {
            let mut items = Vec::new();
            while let Some(item) = stream.next().await {
                items.push(item);
            }
            assert!(stream.next().await.is_none());
            items
        });
        let mut items = simulation.run_until(taking).expect("no panic");
        if to == 13 {
            assert_eq!(
                items.pop(),
                Some(Err(CallError::Failed("no luck".to_owned())))
            );
        }
        assert_eq!(items, (0..to).map(Ok).collect::<Vec<_>>());
    }
    let mut wrong = peer.stream::<i64>("add", &(1, 2));
    let wrong = simulation.handle().spawn(async move { wrong.next().await });
    assert!(matches!(
        simulation.run_until(wrong),
        Ok(Some(Err(CallError::WrongArguments(_))))
    ));
    assert_eq!((peer.waiting(), other.answering()), (0, 0));
}

#[test]
fn who_does_not_take_items_holds_who_sends_them() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, far) = memory::pair(&handle);
    let sent = Rc::new(Cell::new(0));
    let counted = sent.clone();
    let mut methods = Methods::new();
    methods.add_stream("huge", move |_, (): (), items: Items<Vec<u8>>| {
        let sent = counted.clone();
        async move {
            let piece = vec![7; 100_000];
            for _ in 0..40 {
                items.send(&piece).await?;
                sent.set(sent.get() + 1);
            }
            Ok(())
        }
    });
    let peer = rpc::start(&handle, near, Methods::new());
    let other = rpc::start(&handle, far, methods);
    let mut stream = peer.stream::<Vec<u8>>("huge", &());
    simulation.drive();
    assert_eq!(sent.get(), 16, "no more than the window");
    let clock = handle.clone();
    let taking = handle.spawn(async move {
        let mut bytes = 0;
        while let Some(item) = stream.next().await {
            bytes += item.expect("an item").len();
            clock.sleep(Duration::from_millis(1)).await;
        }
        bytes
    });
    assert_eq!(simulation.run_until(taking), Ok(4_000_000));
    // If a stream is dropped, it ends at the other side.
    let mut stream = peer.stream::<Vec<u8>>("huge", &());
    let one =
        handle.spawn(async move { stream.next().await.map(|item| item.map(|item| item.len())) });
    assert_eq!(simulation.run_until(one), Ok(Some(Ok(100_000))));
    simulation.drive();
    assert_eq!(other.answering(), 0);
}

/// The items of many streams that nobody reads are bounded together, and none is lost.
#[test]
fn items_of_all_streams_have_a_limit_in_bytes() {
    const SIZE: usize = 10_000;
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, far) = memory::pair_over(&handle, Link::default());
    let config = Config {
        max_item_bytes: 10 * SIZE,
        ..Config::default()
    };
    let peer = rpc::start_with(&handle, near, Methods::new(), config);
    let mut methods = Methods::new();
    methods.add_stream("large", |_, (): (), items: Items<String>| async move {
        for _ in 0..20 {
            items.send(&"x".repeat(SIZE)).await?;
        }
        Ok::<_, Failure>(())
    });
    let _other = rpc::start_with(&handle, far, methods, Config::default());
    let mut streams: Vec<_> = (0..20)
        .map(|_| peer.stream::<String>("large", &()))
        .collect();
    simulation.advance(Duration::from_secs(5));
    // An `ItemStream` says how many wait.
    let waiting = streams.iter().map(|stream| {
        let text = format!("{stream:?}");
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        digits.parse::<usize>().expect("a number")
    });
    // The limit, and one frame.
    let waiting: usize = waiting.sum();
    assert!((10..=11).contains(&waiting), "{waiting} items wait");
    // A stream that is dropped makes room, also if it has all of them, and the others go on.
    streams.drain(..10);
    let read = streams.into_iter().map(|mut stream| {
        handle.spawn(async move {
            let mut taken = 0;
            while let Some(item) = stream.next().await {
                assert_eq!(item.expect("an item").len(), SIZE);
                taken += 1;
            }
            taken
        })
    });
    for taken in read.collect::<Vec<_>>() {
        assert_eq!(simulation.run_until(taken), Ok(20));
    }
}

/// Two tasks that wait for room: one of them was never woken.
#[test]
fn items_may_be_sent_by_several_tasks() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let mut methods = Methods::new();
    let own = handle.clone();
    methods.add_stream("many", move |_, (): (), items: Items<u32>| {
        let (items, handle) = (Rc::new(items), own.clone());
        async move {
            let parts: Vec<_> = (0..4)
                .map(|part| {
                    let items = items.clone();
                    handle.spawn(async move {
                        for number in 0..100 {
                            items.send(&(part * 100 + number)).await?;
                        }
                        Ok::<_, Failure>(())
                    })
                })
                .collect();
            for part in parts {
                part.await.expect("no panic")?;
            }
            Ok(())
        }
    });
    let (peer, _other) = serving(&simulation, methods, Config::default());
    let mut stream = peer.stream::<u32>("many", &());
    let taking = handle.spawn(async move {
        let mut taken = Vec::new();
        while let Some(item) = stream.next().await {
            taken.push(item.expect("an item"));
        }
        taken
    });
    let limit = handle.timeout(Duration::from_secs(60), taking);
    let taken = simulation.run_until(handle.spawn(limit)).expect("no panic");
    let mut taken = taken.expect("an end in time").expect("no panic");
    taken.sort_unstable();
    assert_eq!(taken, (0..400).collect::<Vec<_>>());
}

/// The method had no credit, and the caller gave none.
#[test]
fn a_window_of_no_items_is_one_of_one() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let mut methods = Methods::new();
    methods.add_stream("three", |_, (): (), items: Items<u32>| async move {
        for number in 0..3 {
            items.send(&number).await?;
        }
        Ok(())
    });
    let config = Config {
        window: 0,
        ..Config::default()
    };
    let (peer, _other) = serving(&simulation, methods, config);
    let mut stream = peer.stream::<u32>("three", &());
    let taking = handle.spawn(async move {
        let mut taken = Vec::new();
        while let Some(item) = stream.next().await {
            taken.push(item.expect("an item"));
        }
        taken
    });
    let limit = handle.timeout(Duration::from_secs(60), taking);
    let taken = simulation.run_until(handle.spawn(limit)).expect("no panic");
    assert_eq!(taken.expect("an end in time"), Ok(vec![0, 1, 2]));
}

/// A caller that takes as many as there are was sent all of them at once.
#[test]
fn many_items_let_others_have_their_turn() {
    const MANY: u32 = 5_000;
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (count, last, most) = <(Rc<Cell<u32>>, Cell<u32>, Rc<Cell<u32>>)>::default();
    let mut methods = Methods::new();
    let counted = count.clone();
    methods.add_stream("many", move |_, (): (), items: Items<()>| {
        let counted = counted.clone();
        async move {
            for _ in 0..MANY {
                items.send(&()).await?;
                counted.set(counted.get() + 1);
            }
            Ok(())
        }
    });
    let config = Config {
        window: MANY,
        ..Config::default()
    };
    let (peer, _other) = serving(&simulation, methods, config);
    let _hook = handle.on_turn({
        let (count, most) = (count.clone(), most.clone());
        move || most.set(most.get().max(count.get() - last.replace(count.get())))
    });
    let mut stream = peer.stream::<()>("many", &());
    let taking = handle.spawn(async move {
        let mut taken = 0;
        while let Some(item) = stream.next().await {
            item.expect("an item");
            taken += 1;
        }
        taken
    });
    assert_eq!(simulation.run_until(taking), Ok(MANY));
    assert!(most.get() <= 520, "{} items in a turn", most.get());
}

/// A method may give its items to other tasks, such as one that sends to all who listen.
#[test]
fn items_of_a_call_that_is_over_are_not_waited_for() {
    for how in ["cancelled", "answered", "lost", "aborted"] {
        let simulation = Simulation::new();
        let handle = simulation.handle();
        let (near, far) = memory::pair(&handle);
        let ended = Rc::new(Cell::new(None));
        let (clock, told) = (handle.clone(), ended.clone());
        let mut methods = Methods::new();
        methods.add_stream("listen", move |_, (): (), items: Items<u32>| {
            let (sleep, told) = (clock.sleep(Duration::from_secs(1)), told.clone());
            clock.spawn(async move {
                let mut sent = 0;
                while items.send(&sent).await.is_ok() {
                    sent += 1;
                }
                told.set(Some(sent));
            });
            async move {
                sleep.await;
                match how {
                    "answered" => Ok(()),
                    _ => std::future::pending().await,
                }
            }
        });
        let peer = rpc::start(&handle, near, Methods::new());
        // Kept, so that the connection's end is not that of everything.
        let other = rpc::start(&handle, far, methods);
        let stream = peer.stream::<u32>("listen", &());
        simulation.advance(Duration::from_millis(500));
        assert_eq!((other.answering(), ended.get()), (1, None));
        match how {
            "cancelled" => drop(stream),
            "lost" => peer.abort(),
            "aborted" => other.abort(),
            _ => {}
        }
        simulation.advance(Duration::from_secs(5));
        assert_eq!((how, ended.get()), (how, Some(16)));
    }
}

/// The program's own code encodes an item. One credit was spent twice, and there were four thousand
/// million more.
#[test]
fn an_item_that_sends_another_while_it_is_encoded_spends_one_credit() {
    struct Nested(Option<Rc<Items<Nested>>>);

    impl serde::Serialize for Nested {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if let Some(items) = &self.0 {
                let item = Nested(None);
                let mut sending = pin!(items.send(&item));
                let polled = sending
                    .as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()));
                drop(polled);
            }
            serializer.serialize_u32(7)
        }
    }

    let simulation = Simulation::new();
    let handle = simulation.handle();
    let mut methods = Methods::new();
    methods.add_stream("nested", |_, (): (), items: Items<Nested>| async move {
        let items = Rc::new(items);
        items.send(&Nested(Some(items.clone()))).await?;
        items.send(&Nested(None)).await
    });
    let config = Config {
        window: 1,
        ..Config::default()
    };
    let (peer, _other) = serving(&simulation, methods, config);
    let mut stream = peer.stream::<u32>("nested", &());
    let taking = handle.spawn(async move {
        let mut taken = Vec::new();
        while let Some(item) = stream.next().await {
            taken.push(item);
        }
        taken
    });
    assert_eq!(simulation.run_until(taking), Ok(vec![Ok(7), Ok(7)]));
}

/// An item that cannot be sent takes no credit.
#[test]
fn an_item_that_is_too_long_leaves_its_credit() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let mut methods = Methods::new();
    methods.add_stream("long", |_, (): (), items: Items<String>| async move {
        let long = "x".repeat(10_000);
        for _ in 0..3 {
            assert!(items.send(&long).await.is_err());
        }
        items.send(&"short".to_owned()).await
    });
    let config = Config {
        window: 1,
        max_frame_size: 1_000,
        ..Config::default()
    };
    let (peer, _other) = serving(&simulation, methods, config);
    let mut stream = peer.stream::<String>("long", &());
    let item = handle.spawn(async move { stream.next().await });
    assert_eq!(simulation.run_until(item), Ok(Some(Ok("short".to_owned()))));
}
