//! The PROXY protocol, and forwarded connections.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpStream},
    thread,
    time::Duration,
};

use crate::run::run;
use entwined::{
    Handle, endpoint,
    protocol::{self, Connection, Echo, Protocol},
    proxy::{Header, Proxied, ProxyError},
    transport::{Address, Listen, UnixAddress, tcp},
};

fn tcp_address(text: &str) -> Address {
    Address::Tcp(text.parse().expect("an address"))
}

/// Checks that a header is found if it arrives in pieces, and not before it is complete.
fn check(bytes: &[u8], expected: &Header) {
    let with_rest = [bytes, b"the rest"].concat();
    for end in 0..=with_rest.len() {
        let found = Header::parse(&with_rest[..end]).expect("no error");
        if end < bytes.len() {
            assert_eq!(found, None, "{end} of {bytes:?}");
        } else {
            assert_eq!(found, Some((expected.clone(), bytes.len())));
        }
    }
}

#[test]
fn both_versions_say_the_same() {
    let v4 = Header::new(
        tcp_address("192.0.2.1:56324"),
        tcp_address("198.51.100.2:443"),
    );
    let v6 = Header::new(tcp_address("[2001:db8::1]:1"), tcp_address("[::1]:65535"));
    check(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", &v4);
    check(b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", &v6);
    check(b"PROXY UNKNOWN\r\n", &Header::default());
    check(b"PROXY UNKNOWN anything at all ::1\r\n", &Header::default());
    for mut header in [v4, v6, Header::default()] {
        let mut bytes = Vec::new();
        header.encode_v1(&mut bytes);
        check(&bytes, &header);
        for values in [
            vec![],
            vec![(1, b"h2".to_vec()), (0xe0, vec![]), (2, vec![7; 300])],
        ] {
            header.values = values;
            let mut bytes = Vec::new();
            header.encode_v2(&mut bytes).expect("it fits");
            if header.source.is_some() {
                check(&bytes, &header);
            } else {
                // The header of a connection that the proxy makes for itself is ignored.
                check(&bytes, &Header::default());
            }
        }
    }
    let path = Address::Unix(UnixAddress::Path("/run/client".into()));
    let hidden = Address::Unix(UnixAddress::Abstract(b"server".to_vec()));
    let unix = Header::new(path, hidden);
    let mut bytes = Vec::new();
    unix.encode_v2(&mut bytes).expect("it fits");
    check(&bytes, &unix);
    let mut huge = Header::default();
    huge.values = vec![(1, vec![0; 70_000])];
    assert_eq!(huge.encode_v2(&mut bytes), Err(ProxyError::TooLong));
}

#[test]
fn what_is_wrong_is_refused() {
    let v2 = |rest: &[u8]| [b"\r\n\r\n\0\r\nQUIT\n", rest].concat();
    type Judge = fn(&ProxyError) -> bool;
    let wrong: [(Vec<u8>, Judge); 20] = [
        (b"GET / HTTP/1.1\r\n".to_vec(), |error| {
            *error == ProxyError::NoHeader
        }),
        (b"\x16\x03\x01".to_vec(), |error| {
            *error == ProxyError::NoHeader
        }),
        (b"PROXYTCP4".to_vec(), |error| {
            *error == ProxyError::NoHeader
        }),
        ([b"PROXY TCP4 ", &[b'1'; 200][..]].concat(), |error| {
            *error == ProxyError::TooLong
        }),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n".to_vec(), is_malformed),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n".to_vec(), is_malformed),
        (
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n".to_vec(),
            is_malformed,
        ),
        (
            b"PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n".to_vec(),
            is_malformed,
        ),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(), is_malformed),
        (b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), is_malformed),
        (
            b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n".to_vec(),
            is_malformed,
        ),
        (
            b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n".to_vec(),
            is_malformed,
        ),
        (
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n".to_vec(),
            is_malformed,
        ),
        (b"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), is_malformed),
        (v2(&[0x11, 0x11, 0, 0]), is_malformed),
        (v2(&[0x22, 0x11, 0, 0]), is_malformed),
        (v2(&[0x21, 0x11, 0, 4, 1, 1, 1, 1]), is_malformed),
        // A family and a transport that there are not: section 2.2.
        (v2(&[0x21, 0x41, 0, 0]), is_malformed),
        (v2(&[0x21, 0x13, 0, 0]), is_malformed),
        (
            v2(&[0x21, 0x11, 0, 14, 1, 1, 1, 1, 2, 2, 2, 2, 0, 1, 0, 2, 5, 0]),
            is_malformed,
        ),
    ];
    for (bytes, expected) in wrong {
        let error = Header::parse(&bytes).expect_err("it is wrong");
        assert!(expected(&error), "{bytes:?}: {error}");
    }
    assert_eq!(
        Header::parse(&v2(&[0x21, 0x11, 0xff, 0xff])),
        Err(ProxyError::TooLong)
    );
}

fn is_malformed(error: &ProxyError) -> bool {
    matches!(error, ProxyError::Malformed(_))
}

#[test]
fn no_bytes_are_too_strange() {
    let mut state = 7_u64;
    let starts: [&[u8]; 3] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n", b""];
    for round in 0..100_000 {
        let mut bytes = starts[round % 3].to_vec();
        for _ in 0..round % 61 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            bytes.push(
                b"\x21\x20\x11\x21\x31\0\x01\x0c \r\n.:TCP46UNKOW0129"[(state >> 40) as usize % 27],
            );
        }
        if let Ok(Some((_, length))) = Header::parse(&bytes) {
            assert!(length <= bytes.len());
        }
    }
}

/// Reports who the peer is, and to which address it has connected.
struct Who;

impl Protocol for Who {
    fn connection_made(&mut self, connection: &Connection) {
        let destination = connection
            .ask(|stream: &Proxied<entwined::transport::Stream>| {
                stream
                    .header()
                    .and_then(|header| header.destination.clone())
            })
            .flatten();
        let destination =
            destination.map_or_else(|| "nothing".to_owned(), |address| address.to_string());
        connection.write(format!("{} to {destination}\n", connection.peer_address()).as_bytes());
    }

    fn data_received(&mut self, connection: &Connection, data: &[u8]) {
        connection.write(data);
        connection.close();
    }
}

pub(crate) fn serve_who(handle: &Handle) -> protocol::Server {
    let listener = tcp::listen(handle, (Ipv4Addr::LOCALHOST, 0)).expect("a port");
    protocol::serve(
        listener.map_stream(|stream| Proxied::new(stream, true)),
        |_| Some(Who),
    )
}

#[test]
fn a_server_takes_the_client_for_its_peer() {
    let said = run(|handle| async move {
        let server = serve_who(&handle);
        let address = server.local_address().tcp().expect("TCP");
        let said = handle.defer_to_thread(move |_| {
            let talk = |sent: &[u8]| -> io::Result<String> {
                let mut stream = TcpStream::connect(address)?;
                stream.write_all(sent)?;
                let mut said = String::new();
                // A refused peer may see a reset.
                let _ = stream.read_to_string(&mut said);
                Ok(said)
            };
            let header = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nhello";
            let results = [
                talk(header),
                talk(b"PROXY UNKNOWN\r\nhello"),
                talk(b"GET / HTTP/1.1\r\n\r\n"),
            ];
            results
                .into_iter()
                .collect::<io::Result<Vec<_>>>()
                .map_err(|error| error.to_string())
        });
        let said = said.await.expect("answers");
        drop(server);
        said
    });
    assert_eq!(said[0], "192.0.2.1:56324 to 198.51.100.2:443\nhello");
    assert!(
        said[1].starts_with("127.0.0.1:") && said[1].ends_with(" to nothing\nhello"),
        "{}",
        said[1]
    );
    assert_eq!(said[2], "");
}

#[test]
fn a_connection_is_passed_on_both_ways_to_its_ends() {
    let bytes: Vec<u8> = (0..10_000_000_u32)
        .map(|number| (number >> 5) as u8)
        .collect();
    let sent = bytes.clone();
    let came = run(|handle| async move {
        let target = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let target = protocol::serve(target, |_| Some(Echo));
        let listener = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = target.local_address().tcp().expect("TCP").port();
        let client = endpoint::client(&format!("tcp:127.0.0.1:{port}")).expect("an endpoint");
        let forward = endpoint::forward(listener, client);
        let address = forward.local_address().tcp().expect("TCP");
        let came = handle.defer_to_thread(move |_| {
            let talk = || -> io::Result<Vec<u8>> {
                let mut stream = TcpStream::connect(address)?;
                let mut writing = stream.try_clone()?;
                let writer = thread::spawn(move || {
                    writing.write_all(&sent)?;
                    writing.shutdown(Shutdown::Write)
                });
                let mut all = Vec::new();
                stream.read_to_end(&mut all)?;
                writer.join().expect("no panic")?;
                Ok(all)
            };
            talk().map_err(|error| error.to_string())
        });
        let came = came.await.expect("an echo");
        while forward.connections() > 0 {
            handle.sleep(Duration::from_millis(1)).await;
        }
        came
    });
    assert!(came == bytes, "{} of {} bytes", came.len(), bytes.len());
}

#[test]
fn a_forwarded_connection_without_traffic_ends_if_the_program_says_so() {
    run(|handle| async move {
        let target = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let target = protocol::serve(target, |_| Some(Echo));
        let listener = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = target.local_address().tcp().expect("TCP").port();
        let client = endpoint::client(&format!("tcp:127.0.0.1:{port}")).expect("an endpoint");
        let forward = endpoint::forward(listener, client);
        forward.set_idle_timeout(Some(Duration::from_millis(100)));
        let address = forward.local_address().tcp().expect("TCP");
        let heard = handle.defer_to_thread(move |_| {
            let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
            stream.write_all(b"x").map_err(|error| error.to_string())?;
            let mut buffer = [0; 8];
            let echoed = stream.read(&mut buffer).map_err(|error| error.kind());
            Ok::<_, String>((
                echoed,
                stream.read(&mut buffer).map_err(|error| error.kind()),
            ))
        });
        let over = Err(io::ErrorKind::ConnectionReset);
        assert_eq!(heard.await.expect("an end"), (Ok(1), over));
        while forward.connections() + target.connections() > 0 {
            handle.sleep(Duration::from_millis(1)).await;
        }
    });
}

/// Whoever asked last was the only one that was woken by the header.
#[test]
fn a_reader_and_a_writer_may_wait_for_the_header() {
    use entwined::{
        framing::{FramedStream, Lines},
        simulation::Simulation,
        transport::memory,
    };

    let simulation = Simulation::new();
    let handle = simulation.handle();
    for given_up in [false, true] {
        let (near, far) = memory::pair(&handle);
        let near = Proxied::new(near, true);
        let (mut reader, mut writer) = FramedStream::new(near, Lines::new(100)).split();
        let read = handle.spawn(async move { reader.next().await.expect("a line").ok() });
        simulation.drive();
        let written = handle.spawn(async move { writer.send(b"hi").await.is_ok() });
        simulation.drive();
        if given_up {
            written.cancel();
        }
        let mut far = FramedStream::new(far, Lines::new(100));
        let sent = handle.spawn(async move {
            far.send(b"PROXY UNKNOWN").await.expect("room");
            far.send(b"hello").await.expect("room");
            far
        });
        let _far = simulation.run_until(sent).expect("no panic");
        simulation.drive();
        assert!(read.is_ready(), "given up: {given_up}");
        assert_eq!(read.take().expect("ready"), Ok(Some(b"hello".to_vec())));
        assert!(written.is_ready());
    }
}
