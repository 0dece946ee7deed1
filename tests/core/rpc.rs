//! Calls between programs, in simulated time.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    time::{Duration, Instant},
};

use entwined::{
    Handle,
    deferred::{Deferred, Interrupted},
    rpc::{self, CallError, Config, Failure, Items, Methods, Peer},
    simulation::Simulation,
    transport::{
        Stream,
        memory::{self, Link, MemoryStream},
    },
};
use futures_io::{AsyncRead, AsyncWrite};

fn fragmented(fragment: usize) -> Link {
    Link {
        fragment,
        ..Link::default()
    }
}

/// The methods that the tests call.
pub(crate) fn methods(handle: &Handle) -> Methods {
    let mut methods = Methods::new();
    methods.add("add", |_, (a, b): (i64, i64)| async move {
        a.checked_add(b).ok_or(Failure("overflow".to_owned()))
    });
    methods.add(
        "echo",
        |_, text: String| async move { Ok::<_, Failure>(text) },
    );
    methods.add("panic", |_, (): ()| async {
        if true {
            panic!("in a method")
        } else {
            Ok::<(), Failure>(())
        }
    });
    let clock = handle.clone();
    methods.add("sleep", move |_, seconds: u64| {
        let sleep = clock.sleep(Duration::from_secs(seconds));
        async move {
            sleep.await;
            Ok::<_, Failure>(seconds)
        }
    });
    methods.add("call back", |call, number: i64| async move {
        let peer = call.peer().expect("it calls");
        Ok::<_, Failure>(peer.call::<i64>("double", &number).await? + 1)
    });
    methods.add_stream("count", |_, to: u64, items: Items<u64>| async move {
        for number in 0..to {
            items.send(&number).await?;
        }
        if to == 13 {
            Err(Failure("no luck".to_owned()))
        } else {
            Ok(())
        }
    });
    methods
}

fn pair(simulation: &Simulation, link: Link, config: Config) -> (Peer, Peer) {
    let handle = simulation.handle();
    let (near, far) = memory::pair_over(&handle, link);
    let mut ours = Methods::new();
    ours.add("double", |_, number: i64| async move {
        Ok::<_, Failure>(number * 2)
    });
    let caller = rpc::start_with(&handle, near, ours, config);
    (
        caller,
        rpc::start_with(&handle, far, methods(&handle), config),
    )
}

fn call<R: serde::de::DeserializeOwned + 'static>(
    simulation: &Simulation,
    peer: &Peer,
    method: &str,
    arguments: &impl serde::Serialize,
) -> Result<R, CallError> {
    simulation.run_until(peer.call(method, arguments))
}

/// The caller waited for ever for an answer that could not be encoded, and lost all other calls by
/// one that could not be decoded.
#[test]
fn values_that_panic_are_errors_of_their_call() {
    struct Bad;

    impl serde::Serialize for Bad {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("while it is encoded")
        }
    }

    impl<'de> serde::Deserialize<'de> for Bad {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("while it is decoded")
        }
    }

    let simulation = Simulation::new();
    let (near, far) = memory::pair(&simulation.handle());
    let mut theirs = methods(&simulation.handle());
    theirs.add("bad", |_, (): ()| async { Ok::<_, Failure>(Bad) });
    let caller = rpc::start(&simulation.handle(), near, Methods::new());
    let _callee = rpc::start(&simulation.handle(), far, theirs);
    let other = caller.call::<u64>("sleep", &1);
    let encoded = call::<()>(&simulation, &caller, "bad", &());
    assert_eq!(encoded, Err(CallError::Panicked));
    let decoded = call::<Bad>(&simulation, &caller, "echo", &"text").err();
    assert!(
        matches!(&decoded, Some(CallError::WrongResult(why)) if why.contains("decoded")),
        "{decoded:?}"
    );
    assert_eq!(simulation.run_until(other), Ok(1));
    assert_eq!(simulation.run_until(caller.finish()), Ok(()));
}

#[test]
fn calls_have_results_and_errors() {
    for fragment in [usize::MAX, 3, 1] {
        let simulation = Simulation::new();
        let (peer, other) = pair(&simulation, fragmented(fragment), Config::default());
        assert_eq!(call(&simulation, &peer, "add", &(2, 3)), Ok(5));
        assert_eq!(
            call(&simulation, &peer, "echo", &"hällo"),
            Ok("hällo".to_owned())
        );
        assert_eq!(
            call::<i64>(&simulation, &peer, "add", &(i64::MAX, 1)),
            Err(CallError::Failed("overflow".into()))
        );
        assert_eq!(
            call::<()>(&simulation, &peer, "panic", &()),
            Err(CallError::Panicked)
        );
        let missing = call::<()>(&simulation, &peer, "ehco", &())
            .expect_err("there is none")
            .to_string();
        assert_eq!(missing, "the peer has no method \"ehco\"; it has \"echo\"");
        let missing = call::<()>(&simulation, &peer, "something else", &())
            .expect_err("there is none")
            .to_string();
        assert_eq!(missing, "the peer has no method \"something else\"");
        for arguments in [(2, "three"), (2, "")] {
            let wrong = call::<i64>(&simulation, &peer, "add", &arguments);
            assert!(
                matches!(wrong, Err(CallError::WrongArguments(_))),
                "{wrong:?}"
            );
        }
        assert!(matches!(
            call::<i64>(&simulation, &peer, "add", &(1, 2, 3)),
            Err(CallError::WrongArguments(_))
        ));
        assert!(matches!(
            call::<String>(&simulation, &peer, "add", &(1, 2)),
            Err(CallError::WrongResult(_))
        ));
        assert!(matches!(
            call::<u64>(&simulation, &peer, "count", &3),
            Err(CallError::WrongArguments(_))
        ));
        assert_eq!(
            (peer.waiting(), other.answering(), peer.is_closing()),
            (0, 0, false)
        );
    }
}

#[test]
fn both_sides_call_also_while_they_answer() {
    let simulation = Simulation::new();
    let (peer, other) = pair(&simulation, Link::default(), Config::default());
    assert_eq!(call(&simulation, &peer, "call back", &20), Ok(41));
    assert_eq!(call(&simulation, &other, "double", &4), Ok(8));
    // A slow call does not delay others.
    let slow = peer.call::<u64>("sleep", &100);
    assert_eq!(call(&simulation, &peer, "add", &(1, 1)), Ok(2));
    assert!(!slow.is_ready());
    assert_eq!(simulation.run_until(slow), Ok(100));
}

#[test]
fn ten_thousand_calls_at_once_are_answered_each_by_its_own() {
    let simulation = Simulation::new();
    let config = Config {
        max_calls: 10_000,
        max_waiting: 10_000,
        ..Config::default()
    };
    let (peer, _other) = pair(&simulation, Link::default(), config);
    let calls: Vec<_> = (0..10_000_i64)
        .map(|number| peer.call::<i64>("add", &(number, number)))
        .collect();
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(simulation.run_until(call), Ok(2 * number as i64));
    }
}

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
fn a_call_that_is_cancelled_or_late_ends_there_too() {
    let simulation = Simulation::new();
    let (peer, other) = pair(&simulation, Link::default(), Config::default());
    let cancelled = peer.call::<u64>("sleep", &1_000);
    simulation.drive();
    assert_eq!(other.answering(), 1);
    cancelled.cancel();
    simulation.drive();
    assert_eq!((peer.waiting(), other.answering()), (0, 0));
    assert_eq!(
        simulation.run_until(cancelled),
        Err(CallError::Interrupted(Interrupted::Cancelled))
    );
    let late = peer
        .call::<u64>("sleep", &1_000)
        .add_timeout(&simulation.handle(), Duration::from_secs(5));
    assert_eq!(
        simulation.run_until(late),
        Err(CallError::Interrupted(Interrupted::TimedOut))
    );
    simulation.drive();
    assert_eq!((peer.waiting(), other.answering()), (0, 0));
    // A future with a timeout, and a task, are dropped with what they wait for.
    let handle = simulation.handle();
    let timeout = handle.timeout(Duration::from_secs(5), peer.call::<u64>("sleep", &1_000));
    let timeout = handle.spawn(timeout);
    assert!(matches!(simulation.run_until(timeout), Ok(Err(_))));
    let task = handle.spawn(peer.call::<u64>("sleep", &1_000));
    simulation.drive();
    assert_eq!((peer.waiting(), other.answering()), (1, 1));
    task.cancel();
    simulation.drive();
    assert_eq!((peer.waiting(), other.answering()), (0, 0));
    // The connection still works.
    assert_eq!(call(&simulation, &peer, "add", &(1, 1)), Ok(2));
}

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

#[test]
fn what_is_too_long_is_refused_and_the_connection_lives() {
    let simulation = Simulation::new();
    let config = Config {
        max_frame_size: 1_000,
        ..Config::default()
    };
    let (peer, _other) = pair(&simulation, Link::default(), config);
    let long = "x".repeat(2_000);
    assert!(matches!(
        call::<String>(&simulation, &peer, "echo", &long),
        Err(CallError::TooLong(_))
    ));
    // The arguments fit, but the result does not.
    let (near, far) = memory::pair(&simulation.handle());
    let mut methods = Methods::new();
    methods.add("long", |_, count: usize| async move {
        Ok::<_, Failure>("x".repeat(count))
    });
    let peer = rpc::start_with(&simulation.handle(), near, Methods::new(), config);
    let _other = rpc::start_with(&simulation.handle(), far, methods, config);
    assert!(matches!(
        call::<String>(&simulation, &peer, "long", &5_000),
        Err(CallError::TooLong(_))
    ));
    assert_eq!(call(&simulation, &peer, "long", &5), Ok("xxxxx".to_owned()));
}

/// A type that serde cannot serialize.
struct Stubborn;

impl serde::Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no"))
    }
}

#[test]
fn what_cannot_be_serialized_is_not_called_too_long() {
    let simulation = Simulation::new();
    let (near, far) = memory::pair(&simulation.handle());
    let mut methods = Methods::new();
    methods.add(
        "stubborn",
        |_, (): ()| async move { Ok::<_, Failure>(Stubborn) },
    );
    let peer = rpc::start(&simulation.handle(), near, Methods::new());
    let _other = rpc::start(&simulation.handle(), far, methods);
    let arguments = peer.call::<()>("stubborn", &Stubborn);
    assert_eq!(
        simulation.run_until(arguments),
        Err(CallError::NotSerializable("no".to_owned()))
    );
    assert_eq!(
        call::<()>(&simulation, &peer, "stubborn", &()),
        Err(CallError::NotSerializable("no".to_owned()))
    );
}

#[test]
fn every_error_and_every_text_is_the_failure_of_a_method() {
    fn checked(what: u8) -> Result<(), Failure> {
        match what {
            0 => Err(std::io::Error::other("an error"))?,
            1 => Err("a text")?,
            2 => Err(format!("a {}", "string"))?,
            3 => Err::<(), Box<dyn std::error::Error>>("a box".into())?,
            _ => Err(Interrupted::Cancelled)?,
        }
        Ok(())
    }
    let texts = ["an error", "a text", "a string", "a box"];
    for (what, text) in texts.into_iter().enumerate() {
        assert_eq!(checked(what as u8), Err(Failure(text.to_owned())));
    }
    assert_eq!(checked(4), Err(Failure(Interrupted::Cancelled.to_string())));
    // As a Deferred's error.
    let simulation = Simulation::new();
    let (near, far) = memory::pair(&simulation.handle());
    let mut methods = Methods::new();
    methods.add("deferred", |_, (): ()| {
        Deferred::<u8, Failure>::ready(Err("not today".into()))
    });
    let peer = rpc::start(&simulation.handle(), near, Methods::new());
    let _other = rpc::start(&simulation.handle(), far, methods);
    assert_eq!(
        call::<u8>(&simulation, &peer, "deferred", &()),
        Err(CallError::Failed("not today".to_owned()))
    );
}

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

#[test]
fn a_method_can_ask_for_the_stream_that_it_is_called_over() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, far) = memory::pair(&handle);
    let mut methods = Methods::new();
    methods.add("kinds", |call, (): ()| async move {
        let peer = call.peer().expect("it calls");
        Ok::<_, Failure>((
            peer.ask(|_: &MemoryStream| ()).is_some(),
            peer.ask(|_: &Stream| ()).is_some(),
        ))
    });
    let caller = rpc::start(&handle, near, Methods::new());
    rpc::start(&handle, far, methods);
    let kinds: Result<(bool, bool), _> = call(&simulation, &caller, "kinds", &());
    assert_eq!(kinds.ok(), Some((true, false)));
    caller.close();
    simulation.drive();
    assert_eq!(caller.ask(|_: &MemoryStream| ()), None);
}

fn say(bytes: &[u8]) -> Vec<u8> {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, far): (MemoryStream, MemoryStream) = memory::pair(&handle);
    let peer = rpc::start(&handle, far, methods(&handle));
    let bytes = bytes.to_vec();
    let talking = handle.spawn(async move {
        let mut near = near;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match poll_fn(|cx| Pin::new(&mut near).poll_write(cx, rest)).await {
                Ok(count) => rest = &rest[count..],
                Err(_) => break,
            }
        }
        let (mut all, mut buffer) = (Vec::new(), [0; 1_000]);
        while let Ok(count @ 1..) =
            poll_fn(|cx| Pin::new(&mut near).poll_read(cx, &mut buffer)).await
        {
            all.extend_from_slice(&buffer[..count]);
        }
        all
    });
    let said = simulation.run_until(talking).expect("no panic");
    assert!(peer.is_closing());
    said
}

#[test]
fn a_peer_that_does_not_keep_to_the_protocol_is_ended() {
    let hello = b"entwrpc\x01";
    let cases: [(&str, Vec<u8>); 12] = [
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("another version", b"entwrpc\x02".to_vec()),
        ("nothing", b"".to_vec()),
        ("half a hello", b"entw".to_vec()),
        (
            "a frame that is too long",
            [hello, &b"\xff\xff\xff\xff"[..]].concat(),
        ),
        ("an empty frame", [hello, &b"\0\0\0\0"[..]].concat()),
        (
            "a kind that is not known",
            [hello, &b"\0\0\0\x02\x09\0"[..]].concat(),
        ),
        (
            "an answer to no call",
            [hello, &b"\0\0\0\x03\x01\0\0"[..]].concat(),
        ),
        (
            "an item of no call",
            [hello, &b"\0\0\0\x03\x05\0\0"[..]].concat(),
        ),
        (
            "a name that is not a string",
            [hello, &b"\0\0\0\x04\0\0\x05\0"[..]].concat(),
        ),
        (
            "a name that is cut off",
            [hello, &b"\0\0\0\x04\0\0\xa5x"[..]].concat(),
        ),
        (
            "a number used twice",
            [
                hello,
                &b"\0\0\0\x09\0\0\xa5sleep\x64\0\0\0\x09\0\0\xa5sleep\x64"[..],
            ]
            .concat(),
        ),
    ];
    for (what, bytes) in cases {
        let said = say(&bytes);
        assert!(
            said.starts_with(hello) || said.is_empty(),
            "{what}: {said:?}"
        );
    }
}

#[test]
fn no_peer_is_too_strange() {
    let mut state = 11_u64;
    for round in 0..300_usize {
        let mut bytes = b"entwrpc\x01".to_vec();
        for _ in 0..20 {
            let mut frame = vec![(round % 9) as u8];
            for _ in 0..state >> 60 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                frame.push(b"\0\x01\x07\xa4\xa5echosleep\xff\x93\xcd"[(state >> 40) as usize % 17]);
            }
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            bytes.extend_from_slice(&(frame.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&frame);
        }
        // Makes it end, whatever it has understood.
        bytes.extend_from_slice(b"\xff\xff\xff\xff");
        say(&bytes);
    }
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

/// Two peers, of which one has these methods.
fn serving(simulation: &Simulation, methods: Methods, config: Config) -> (Peer, Peer) {
    let (near, far) = memory::pair(&simulation.handle());
    let caller = rpc::start_with(&simulation.handle(), near, Methods::new(), config);
    let callee = rpc::start_with(&simulation.handle(), far, methods, config);
    (caller, callee)
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

#[test]
fn a_server_counts_its_connections_until_they_are_over() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, far) = memory::pair(&handle);
    let peers = Rc::new(RefCell::new(Vec::new()));
    let server = rpc::serve(entwined::transport::listen_once(&handle, far), {
        let (handle, peers) = (handle.clone(), peers.clone());
        move |peer: &Peer| {
            peers.borrow_mut().push(peer.clone());
            methods(&handle)
        }
    });
    let closed = server.closed();
    let mut ours = Methods::new();
    ours.add("name", |_, (): ()| async { Ok::<_, Failure>("a worker") });
    let peer = rpc::start(&handle, near, ours);
    assert_eq!(call(&simulation, &peer, "add", &(2, 3)), Ok(5));
    // The server can call, too, and it does not matter who drops a `Peer`.
    let calling = peers.borrow_mut().pop().expect("a peer");
    let name = call::<String>(&simulation, &calling, "name", &());
    assert_eq!(name, Ok("a worker".to_owned()));
    drop(calling);
    simulation.advance(Duration::from_secs(600));
    assert_eq!(server.connections(), 1);
    assert!(!closed.is_ready());
    peer.close();
    simulation.run_until(closed).expect("in order");
    assert_eq!(server.connections(), 0);
}

/// The stacks of threads have 2 MiB, those of some systems 512 KiB.
#[test]
fn values_in_values_do_not_use_up_the_stack() {
    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "only its depth matters")]
    struct Tree {
        children: Vec<Tree>,
    }
    let tried = std::thread::Builder::new()
        .stack_size(512 * 1024)
        .spawn(|| {
            let simulation = Simulation::new();
            let handle = simulation.handle();
            let (near, mut far) = memory::pair(&handle);
            let mut methods = Methods::new();
            methods.add("tree", |_, _: Tree| async { Ok::<_, Failure>(()) });
            rpc::start(&handle, near, methods);
            // Each level is an array of one field, which is an array of one tree.
            let mut call = vec![0, 0];
            call.extend(b"\xa4tree");
            call.extend(std::iter::repeat_n(0x91, 20_000));
            let answer = handle.spawn(async move {
                let mut bytes = b"entwrpc\x01".to_vec();
                bytes.extend((call.len() as u32).to_be_bytes());
                bytes.extend(call);
                let mut bytes = &bytes[..];
                while !bytes.is_empty() {
                    let sent = poll_fn(|cx| Pin::new(&mut far).poll_write(cx, bytes)).await;
                    bytes = &bytes[sent.expect("it is open")..];
                }
                let mut answer = Vec::new();
                while answer.len() < 8 + 4 + 3 {
                    let mut buffer = [0; 100];
                    let read = poll_fn(|cx| Pin::new(&mut far).poll_read(cx, &mut buffer)).await;
                    let count = read.expect("it is open");
                    assert!(count > 0, "it was closed");
                    answer.extend_from_slice(&buffer[..count]);
                }
                answer
            });
            let answer = simulation.run_until(answer).expect("an answer");
            // Kind, number, code: wrong arguments.
            assert_eq!(answer[12..15], [2, 0, 2]);
        })
        .expect("a thread")
        .join();
    tried.expect("it did not panic");
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

/// Messages behind the end of a large one were all handled at once.
#[test]
fn small_messages_behind_a_large_one_let_others_have_their_turn() {
    many_calls_let_others_have_their_turn(5_000, 200 * 1024);
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
