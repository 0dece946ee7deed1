//! Endpoints: parsing their descriptions, and using them.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use entwined::{
    Handle,
    endpoint::{self, Client, Connecting, EndpointError, Kinds},
    protocol::{self, Echo},
    proxy::Proxied,
    resolve::Table,
    simulation::Simulation,
    transport::{
        Address, ByteStream, HostError, Listen, connect_host, listen_once,
        memory::{self, MemoryStream},
        tcp,
    },
};

use futures_io::AsyncWrite;

use crate::{
    run::run,
    streams::{read, write_all},
};

/// Sends a message to an echo server and returns the reply.
pub(crate) fn echoed(mut stream: impl Read + Write) -> String {
    stream.write_all(b"hello").expect("written");
    let mut buffer = [0; 5];
    stream.read_exact(&mut buffer).expect("an echo");
    String::from_utf8_lossy(&buffer).into_owned()
}

pub(crate) fn error(text: &str) -> String {
    let error = endpoint::server(text)
        .map(drop)
        .and(endpoint::client(text).map(drop))
        .expect_err("an error");
    assert_eq!(error.text, text);
    error.to_string()
}

#[test]
fn errors_point_at_the_place() {
    let cases = [
        (
            "",
            "an endpoint starts with its kind, such as tcp: or unix:\n    \n    ^",
        ),
        (
            "tpc:80",
            concat!(
                "unknown kind \"tpc\"; the kinds are fd, stdio, systemd, tcp, tls, unix\n",
                "    tpc:80\n    ^"
            ),
        ),
        (
            "tcp:http",
            "\"http\" is not a port number\n    tcp:http\n        ^",
        ),
        (
            "tcp",
            "the argument \"port\" is missing: a port number\n    tcp\n       ^",
        ),
        (
            "tcp:port=80:port=81",
            "\"port\" is given twice\n    tcp:port=80:port=81\n                ^",
        ),
        (
            "tcp:80:interfaec=::1",
            concat!(
                "unknown argument \"interfaec\"; this kind takes port, interface\n",
                "    tcp:80:interfaec=::1\n           ^"
            ),
        ),
        (
            "tcp:80:81",
            "too many arguments; this kind takes port, interface\n    tcp:80:81\n           ^",
        ),
        // It is shown with its backslash doubled.
        (
            "tcp:8\\0:x=1",
            concat!(
                "unknown argument \"x\"; this kind takes port, interface\n",
                "    tcp:8\\\\0:x=1\n             ^"
            ),
        ),
        (
            "tcp:80:interface=[::1",
            "this bracket is not closed\n    tcp:80:interface=[::1\n                     ^",
        ),
        (
            "tcp:80:interface=home",
            "\"home\" is not an IP address\n    tcp:80:interface=home\n                     ^",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected);
    }
    let late = endpoint::client("tcp:example.org:80:timeout=soon").expect_err("an error");
    assert_eq!(
        (late.at, late.what.as_str()),
        (27, "\"soon\" is not a number of seconds")
    );
}

#[test]
fn a_text_is_shown_as_it_was_written() {
    for text in ["tcp:0:interface=127.0.0.1", "tcp:interface=[::1]:port=0"] {
        assert_eq!(
            endpoint::server(text).expect("an endpoint").to_string(),
            text
        );
    }
    for text in [
        "tcp:example.org:80",
        "tcp:host=::1:port=80",
        "tcp:port=1:host=a",
    ] {
        match endpoint::client(text) {
            Ok(endpoint) => assert_eq!(endpoint.to_string(), text),
            // Without brackets or backslashes, the colons of an IPv6 address separate arguments.
            Err(error) => assert_eq!((text, error.at), ("tcp:host=::1:port=80", 10)),
        }
    }
}

#[test]
fn no_text_is_too_strange() {
    // Combines pieces of possible descriptions in pseudo-random order.
    let pieces = [
        "tcp", ":", "=", "\\", "[", "]", "80", "unix", "ä", "port", "host", "", "timeout",
        "systemd", "\0",
    ];
    let mut state = 1_u64;
    for _ in 0..50_000 {
        let mut text = String::new();
        for _ in 0..state >> 33 & 15 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            text.push_str(pieces[(state >> 40) as usize % pieces.len()]);
        }
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        for error in [endpoint::server(&text).err(), endpoint::client(&text).err()]
            .into_iter()
            .flatten()
        {
            assert!(error.at <= text.len(), "{text:?}");
            assert!(!error.to_string().is_empty());
        }
    }
}

#[test]
fn tcp_listens_on_one_address_or_on_all() {
    run(|handle| async move {
        let one = endpoint::server("tcp:0:interface=127.0.0.1")
            .expect("an endpoint")
            .listen(&handle)
            .expect("a port");
        assert!(one.local_address().tcp().expect("TCP").ip().is_loopback());
        let all = endpoint::server("tcp:0")
            .expect("an endpoint")
            .listen(&handle)
            .expect("a port");
        assert!(
            all.local_address()
                .tcp()
                .expect("TCP")
                .ip()
                .is_unspecified()
        );
        let used = one.local_address().tcp().expect("TCP").port();
        let again = endpoint::server(&format!("tcp:{used}:interface=127.0.0.1"))
            .expect("an endpoint")
            .listen(&handle);
        let error = again.err().expect("it is used").to_string();
        assert!(error.contains("another program listens there"), "{error}");
        // All addresses includes those of IPv4.
        let server = protocol::serve(all, |_| Some(Echo));
        let port = server.local_address().tcp().expect("TCP").port();
        let said = handle.defer_to_thread(move |_| {
            Ok::<_, String>(echoed(
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a server"),
            ))
        });
        assert_eq!(said.await.expect("an echo"), "hello");
    });
}

#[test]
fn of_several_addresses_one_that_answers_is_enough() {
    run(|handle| async move {
        let listener = tcp::listen(&handle, ([127, 0, 0, 1], 0)).expect("a port");
        let port = listener.local_address().tcp().expect("TCP").port();
        let address = |last: u8| Ipv4Addr::new(127, 0, 0, last).into();
        let table = Table::new([
            ("some.example", vec![address(2), address(3), address(1)]),
            ("none.example", vec![address(2), address(3)]),
        ]);
        handle.set_resolver(Rc::new(table));
        let stream = connect_host(&handle, "Some.Example", port)
            .await
            .expect("the third");
        assert_eq!(
            *stream.peer_address(),
            Address::Tcp(SocketAddr::new(address(1), port))
        );
        let error = connect_host(&handle, "none.example", port)
            .await
            .expect_err("nobody");
        assert!(
            matches!(&error, HostError::Attempts { attempts, .. } if attempts.len() == 2),
            "{error:?}"
        );
        let text = format!(
            "cannot connect to none.example: nobody listens on 127.0.0.2:{port}; \
             nobody listens on 127.0.0.3:{port}"
        );
        assert_eq!(error.to_string(), text);
        let error = connect_host(&handle, "other.example", port)
            .await
            .expect_err("no such name");
        assert!(matches!(error, HostError::Name(_)), "{error:?}");
    });
}

#[test]
fn kinds_can_be_added_and_replaced() {
    struct Anywhere;
    impl endpoint::Server for Anywhere {
        fn listen(
            &self,
            handle: &Handle,
        ) -> Result<entwined::transport::BoxedListener, EndpointError> {
            Ok(tcp::listen(handle, ([127, 0, 0, 1], 0))?.boxed())
        }
    }
    let mut kinds = Kinds::new();
    kinds.add_server("anywhere", |_| Ok(Rc::new(Anywhere)));
    kinds.add_server("tcp", |_| Ok(Rc::new(Anywhere)));
    run(move |handle| async move {
        for text in ["anywhere:", "anywhere", "tcp:"] {
            let listener = kinds
                .server(text)
                .expect("an endpoint")
                .listen(&handle)
                .expect("a port");
            assert!(listener.local_address().tcp().is_some());
        }
        assert!(kinds.server("anywhere:80").is_err());
    });
}

/// Whoever is not through its handshake costs no connection to the target, and has as long as with
/// other servers.
#[test]
fn a_forwarded_peer_that_does_not_finish_its_handshake_is_given_up_before_the_target_is_asked() {
    struct Target(Rc<Cell<u32>>);

    impl Client for Target {
        fn connect(&self, handle: &Handle) -> Connecting {
            self.0.set(self.0.get() + 1);
            let (near, far) = memory::pair(handle);
            std::mem::forget(far);
            Box::pin(async move { Ok(Box::new(near) as Box<dyn ByteStream>) })
        }
    }

    let (simulation, asked) = (Simulation::new(), Rc::new(Cell::new(0)));
    let handle = simulation.handle();
    let mut kinds = Kinds::new();
    kinds.add_client("target", {
        let asked = asked.clone();
        move |_| Ok(Rc::new(Target(asked.clone())))
    });
    let (near, far) = memory::pair(&handle);
    let near = Proxied::new(near, true);
    let target = kinds.client("target:").expect("an endpoint");
    let forward = endpoint::forward(listen_once(&handle, near), target);
    simulation.advance(Duration::from_secs(9));
    assert_eq!((asked.get(), forward.connections()), (0, 1));
    simulation.advance(Duration::from_secs(2));
    assert_eq!((asked.get(), forward.connections()), (0, 0));
    drop(far);
}

/// The time in which the target is connected to is not the peer's.
#[test]
fn a_forwarded_peer_is_not_idle_while_the_target_is_connected_to() {
    struct Late(RefCell<Option<MemoryStream>>);

    impl Client for Late {
        fn connect(&self, handle: &Handle) -> Connecting {
            let (sleep, stream) = (handle.sleep(Duration::from_secs(20)), self.0.take());
            Box::pin(async move {
                sleep.await;
                Ok(Box::new(stream.expect("it is asked once")) as Box<dyn ByteStream>)
            })
        }
    }

    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (target, mut server) = memory::pair(&handle);
    let target = Rc::new(Late(RefCell::new(Some(target))));
    let mut kinds = Kinds::new();
    kinds.add_client("late", move |_| Ok(target.clone()));
    let (near, mut client) = memory::pair(&handle);
    let late = kinds.client("late:").expect("an endpoint");
    let forward = endpoint::forward(listen_once(&handle, near), late);
    forward.set_idle_timeout(Some(Duration::from_secs(10)));
    let sleeping = handle.clone();
    handle.spawn(async move {
        sleeping.sleep(Duration::from_secs(25)).await;
        write_all(&mut server, b"220 mail").await.expect("room");
        sleeping.sleep(Duration::from_secs(600)).await;
    });
    let reading = handle.spawn(async move {
        let mut buffer = [0; 64];
        let count = read(&mut client, &mut buffer).await.ok()?;
        Some((buffer[..count].to_vec(), client))
    });
    let greeting = simulation.run_until(reading).expect("no panic");
    let (greeting, mut client) = greeting.expect("it was not idle");
    assert_eq!(greeting, b"220 mail");
    // A peer that ends its direction is idle too if nothing comes back.
    let closing = handle.spawn(async move {
        poll_fn(|cx| Pin::new(&mut client).poll_close(cx))
            .await
            .expect("ended");
        client
    });
    let _client = simulation.run_until(closing).expect("no panic");
    simulation.advance(Duration::from_secs(9));
    assert_eq!(forward.connections(), 1);
    simulation.advance(Duration::from_secs(2));
    assert_eq!(forward.connections(), 0, "now it was idle");
}

/// Other limits of 30 s ended it before.
#[test]
fn a_longer_timeout_than_the_usual_is_kept() {
    struct Silent;

    impl entwined::resolve::Resolve for Silent {
        fn resolve(
            &self,
            handle: &Handle,
            _: &str,
            _: u16,
        ) -> entwined::deferred::Deferred<Vec<SocketAddr>, entwined::resolve::ResolveError>
        {
            handle.defer(std::future::pending())
        }
    }

    for (text, seconds) in [
        ("tcp:a.test:80", 30),
        ("tcp:a.test:80:timeout=100", 100),
        ("tls:a.test:443:timeout=100", 100),
        ("tcp:a.test:80:timeout=5", 5),
    ] {
        let simulation = Simulation::new();
        let (handle, start) = (simulation.handle(), simulation.handle().now());
        handle.set_resolver(Rc::new(Silent));
        let (client, own) = (endpoint::client(text).expect("an endpoint"), handle.clone());
        let connecting = handle.spawn(async move { client.connect(&own).await.err() });
        let error = simulation.run_until(connecting).expect("an end");
        assert!(error.is_some(), "{text}");
        assert_eq!(handle.now() - start, Duration::from_secs(seconds), "{text}");
    }
}

/// Writing the error panicked: the place was too far to the right.
#[test]
fn the_error_of_a_long_text_can_be_shown() {
    let text = format!("tcp:{}", "h".repeat(100_000));
    let error = endpoint::client(&text).expect_err("no port");
    assert!(error.to_string().ends_with('^'));
}
