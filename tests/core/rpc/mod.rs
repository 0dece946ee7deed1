//! Calls between programs, in simulated time.

mod bounds;
mod ends;
mod items;

use std::{
    cell::{Cell, RefCell},
    future::{Future as _, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Waker},
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

/// Two peers, of which one has these methods.
fn serving(simulation: &Simulation, methods: Methods, config: Config) -> (Peer, Peer) {
    let (near, far) = memory::pair(&simulation.handle());
    let caller = rpc::start_with(&simulation.handle(), near, Methods::new(), config);
    let callee = rpc::start_with(&simulation.handle(), far, methods, config);
    (caller, callee)
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
