//! WebSocket peers that violate the protocol, do not read, do not answer, or leave early.

use std::{
    cell::RefCell,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    rc::Rc,
    thread,
    time::Duration,
};

use entwined::{Handle, transport::tcp};
use entwined_http::{
    self as http, Request, Router, Server,
    websocket::{self, Config, Error, Message, WebSocket},
};

use super::{config, echo};
use crate::run::run;

const PATIENCE: Duration = Duration::from_secs(20);

fn serve<Fut: Future<Output = ()> + 'static>(
    handle: &Handle,
    config: Config,
    talk: impl Fn(WebSocket) -> Fut + Clone + 'static,
) -> (Server, SocketAddr) {
    let router = Router::new().any("/", move |request: Request| {
        let upgraded = websocket::upgrade_with(request, config.clone(), talk.clone());
        std::future::ready(upgraded)
    });
    let listener = tcp::listen(handle, (Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let server = http::serve(listener, router);
    let address = server.local_address().tcp().expect("TCP");
    (server, address)
}

/// Opens a WebSocket by hand.
fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.set_write_timeout(Some(PATIENCE)).expect("an option");
    let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Version: 13\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    stream
}

/// A frame with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// The code of the last frame, a CLOSE frame, in what a peer has sent.
fn code(sent: &[u8]) -> Option<u16> {
    let mut rest = sent;
    let mut code = None;
    while let [first, length, after @ ..] = rest {
        let (size, after) = match length & 0x7f {
            126 => (
                usize::from(u16::from_be_bytes([after[0], after[1]])),
                &after[2..],
            ),
            127 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&after[..8]);
                (u64::from_be_bytes(bytes) as usize, &after[8..])
            }
            size => (usize::from(size), after),
        };
        let (masked, after) = match length & 0x80 {
            0 => ([0; 4], after),
            _ => ([after[0], after[1], after[2], after[3]], &after[4..]),
        };
        code = (first & 0xf == 8 && size >= 2)
            .then(|| u16::from_be_bytes([after[0] ^ masked[0], after[1] ^ masked[1]]));
        rest = &after[size..];
    }
    code
}

/// Wrong inputs of a client, and the code that answers them (RFC 6455, 7.4.1).
fn wrong() -> Vec<(&'static str, Vec<u8>, u16)> {
    vec![
        ("a reserved bit", frame(0xc1, b"a"), 1002),
        ("another reserved bit", frame(0x92, b"a"), 1002),
        ("an unknown opcode", frame(0x83, b"a"), 1002),
        ("an unknown control opcode", frame(0x8f, b"a"), 1002),
        ("no mask", b"\x81\x01a".to_vec(), 1002),
        ("a long control frame", frame(0x89, &[0; 126]), 1002),
        ("a fragmented control frame", frame(0x09, b"a"), 1002),
        ("a continuation of nothing", frame(0x80, b"a"), 1002),
        (
            "a continuation of a complete message",
            [frame(0x81, b"a"), frame(0x80, b"b")].concat(),
            1002,
        ),
        (
            "a message inside another",
            [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
            1002,
        ),
        ("no UTF-8", frame(0x81, b"a\xff"), 1007),
        ("half a character", frame(0x81, b"a\xc3"), 1007),
        (
            "no UTF-8 across fragments",
            [frame(0x01, b"a\xe2\x82"), frame(0x80, b"b")].concat(),
            1007,
        ),
        (
            "a surrogate across fragments",
            [
                frame(0x01, b"a\xed"),
                frame(0x00, b"\xa0"),
                frame(0x80, b"\x80"),
            ]
            .concat(),
            1007,
        ),
        ("too long a frame", frame(0x82, &[0; 1_001]), 1009),
        (
            "too long a message",
            [frame(0x02, &[0; 600]), frame(0x80, &[0; 401])].concat(),
            1009,
        ),
        (
            "a length beyond all bounds",
            b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec(),
            1009,
        ),
        (
            "a negative length",
            b"\x82\xff\xff\0\0\0\0\0\0\0".to_vec(),
            1002,
        ),
        ("half a close code", frame(0x88, &[3]), 1002),
        (
            "a close code that is never sent",
            frame(0x88, &1005_u16.to_be_bytes()),
            1002,
        ),
        (
            "a close code of nobody",
            frame(0x88, &2999_u16.to_be_bytes()),
            1002,
        ),
        (
            "a close code beyond all",
            frame(0x88, &5000_u16.to_be_bytes()),
            1002,
        ),
        (
            "a close reason of no UTF-8",
            frame(0x88, b"\x03\xe8\xff"),
            1007,
        ),
    ]
}

#[test]
fn a_client_is_told_why_its_input_is_wrong_and_the_connection_ends_in_order() {
    run(|handle| async move {
        let ends: Rc<RefCell<Vec<String>>> = Rc::default();
        let noted = ends.clone();
        let small = config(|config| config.max_message_size = 1_000);
        let (server, address) = serve(&handle, small, move |mut socket| {
            let noted = noted.clone();
            async move {
                loop {
                    match socket.next().await {
                        Some(Ok(_)) => {}
                        Some(Err(error)) => break noted.borrow_mut().push(error.to_string()),
                        None => break noted.borrow_mut().push("closed".to_owned()),
                    }
                }
            }
        });
        let asking = handle.defer_to_thread(move |_| {
            for (what, input, expected) in wrong() {
                // What follows is read too, so that the end is no reset.
                let mut stream = open(address);
                stream.write_all(&input).expect("written");
                stream.write_all(&vec![0; 300_000]).expect("written");
                let mut sent = Vec::new();
                let ended = stream.read_to_end(&mut sent);
                assert!(ended.is_ok(), "{what}: {ended:?}");
                assert_eq!(code(&sent), Some(expected), "{what}: {sent:?}");
            }
            Ok::<_, String>(wrong().len())
        });
        let count = asking.await.expect("all are told");
        for end in ends.borrow().iter() {
            assert!(end.starts_with("the peer violated"), "{end}");
        }
        assert_eq!(ends.borrow().len(), count);
        while server.connections() > 0 {
            handle.sleep(Duration::from_millis(1)).await;
        }
    });
}

/// A server by hand: sends `answer` after the handshake, in the same write, and returns what the
/// client sent.
fn by_hand(answer: Vec<u8>) -> (SocketAddr, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a request");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("text");
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
            .expect("a key");
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let mut all = format!(
            "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .into_bytes();
        all.extend(answer);
        stream.write_all(&all).expect("written");
        stream.shutdown(std::net::Shutdown::Write).expect("ended");
        let mut sent = Vec::new();
        let _ = stream.read_to_end(&mut sent);
        sent
    });
    (address, serving)
}

#[test]
fn a_server_is_told_why_its_input_is_wrong_and_nothing_behind_the_handshake_is_lost() {
    run(|handle| async move {
        let cases: [(&[u8], u16); 6] = [
            (b"\x82\x01a\x81\x81\0\0\0\0a", 1002),
            (b"\x82\x01a\xc1\x01a", 1002),
            (b"\x82\x01a\x81\x01\xff", 1007),
            (b"\x82\x01a\x82\x7f\0\0\0\0\0\x10\0\x01", 1009),
            (b"\x82\x01a\x88\x01a", 1002),
            (b"\x82\x01a\x88\x02\x0f\xa0", 4000),
        ];
        for (answer, expected) in cases {
            let (address, serving) = by_hand(answer.to_vec());
            let mut socket = websocket::connect(&handle, &format!("ws://{address}/"))
                .await
                .expect("a WebSocket");
            let first = socket.next().await.expect("a message").expect("no error");
            assert_eq!(first, Message::from(b"a".to_vec()));
            match socket.next().await {
                None => assert_eq!(socket.closed().map(|closed| closed.code), Some(expected)),
                Some(Err(Error::Protocol(_))) => {}
                other => panic!("{other:?}"),
            }
            let ended = handle.defer_to_thread(move |_| Ok::<_, String>(serving.join()));
            let sent = ended.await.expect("an end").expect("no panic");
            assert_eq!(code(&sent), Some(expected));
        }
    });
}

#[test]
fn a_peer_that_does_not_read_ends_sending_after_a_while() {
    run(|handle| async move {
        let ends: Rc<RefCell<Vec<String>>> = Rc::default();
        let noted = ends.clone();
        let short = config(|config| config.write_timeout = Duration::from_millis(100));
        let (server, address) = serve(&handle, short, move |mut socket| {
            let noted = noted.clone();
            async move {
                // One waits in `send`, the other in `next`.
                let first = noted.borrow().is_empty();
                let sender = socket.sender();
                let end = loop {
                    if first {
                        if let Err(error) = socket.send(vec![0; 1_000_000]).await {
                            break error.to_string();
                        }
                    } else {
                        while sender.send(vec![0; 10_000_000]).is_ok() {}
                        if let Some(Err(error)) = socket.next().await {
                            break error.to_string();
                        }
                    }
                };
                noted.borrow_mut().push(end);
                assert!(socket.next().await.is_none());
            }
        });
        for number in 1..=2 {
            let opening = handle.defer_to_thread(move |_| Ok::<_, String>(open(address)));
            let stream = opening.await.expect("a WebSocket");
            while ends.borrow().len() < number || server.connections() > 0 {
                handle.sleep(Duration::from_millis(1)).await;
            }
            drop(stream);
        }
        assert_eq!(*ends.borrow(), ["the peer does not read"; 2]);
    });
}

#[test]
fn a_peer_inside_one_long_frame_is_there() {
    run(|handle| async move {
        let quick = config(|config| config.ping_interval = Duration::from_millis(200));
        let (_server, address) = serve(&handle, quick, echo);
        let sending = handle.defer_to_thread(move |_| {
            let mut stream = open(address);
            let message = frame(0x82, &[7; 100]);
            for byte in message.chunks(1) {
                stream.write_all(byte).expect("written");
                // The peer's own pace. It takes longer than two intervals for the message.
                let pause = Duration::from_millis(10);
                let mut answer = [0; 2];
                stream.set_read_timeout(Some(pause)).expect("an option");
                let _ = stream.peek(&mut answer);
            }
            stream.set_read_timeout(Some(PATIENCE)).expect("an option");
            let mut answer = [0; 102];
            stream.read_exact(&mut answer).expect("the echo");
            Ok::<_, String>(answer.to_vec())
        });
        let mut expected = vec![0x82, 100];
        expected.extend([7; 100]);
        assert_eq!(sending.await.expect("an echo"), expected);
    });
}

/// What is queued when the peer closes is sent before the answer to its CLOSE frame.
#[test]
fn a_peer_that_closes_gets_what_is_on_its_way() {
    run(|handle| async move {
        let many = config(|config| config.max_queued = 64 * 1024 * 1024);
        let (server, address) = serve(&handle, many, |mut socket| async move {
            let sender = socket.sender();
            for number in 0..30 {
                sender.send(vec![number; 1_000_000]).expect("queued");
            }
            assert!(socket.next().await.is_none());
            assert_eq!(socket.closed().map(|closed| closed.code), Some(1001));
        });
        let reading = handle.defer_to_thread(move |_| {
            let mut stream = open(address);
            let mut first = [0; 1];
            stream.read_exact(&mut first).expect("a message");
            // What comes behind the CLOSE frame must not reset the connection.
            stream
                .write_all(&frame(0x88, &1001_u16.to_be_bytes()))
                .expect("written");
            stream.write_all(&frame(0x89, b"late")).expect("written");
            let mut all = first.to_vec();
            stream.read_to_end(&mut all).expect("no reset");
            Ok::<_, String>((all.len(), code(&all)))
        });
        let (length, code) = reading.await.expect("an end");
        assert_eq!((length, code), (30 * 1_000_010 + 4, Some(1001)));
        while server.connections() > 0 {
            handle.sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn empty_messages_fill_the_queue_of_a_sender_too() {
    run(|handle| async move {
        let (_server, address) = serve(&handle, Config::default(), |mut socket| async move {
            while let Some(Ok(_)) = socket.next().await {}
        });
        let url = format!("ws://{address}/");
        let socket = websocket::connect(&handle, &url);
        let sender = socket.await.expect("a WebSocket").sender();
        assert!(sender.is_closed());
        let socket = websocket::connect(&handle, &url);
        let socket = socket.await.expect("a WebSocket");
        let sender = socket.sender();
        let count = (0..5_000_000)
            .take_while(|_| sender.send("").is_ok())
            .count();
        assert_eq!(count, 1024 * 1024 / 64);
        assert_eq!(sender.queued(), 1024 * 1024);
    });
}

#[test]
fn a_server_that_does_not_answer_the_handshake_is_given_up() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    run(|handle| async move {
        let stream = tcp::connect(&handle, address).await.expect("a connection");
        let short = config(|config| config.connect_timeout = Duration::from_millis(50));
        let url = format!("ws://{address}/");
        let opened = websocket::connect_with(&handle, Box::new(stream), &url, short).await;
        let error = opened.map(|_| ()).expect_err("no answer");
        assert!(
            matches!(error, websocket::ConnectError::TimedOut),
            "{error}"
        );
    });
}

/// Whoever gives up to wait for the answer has said that nothing more comes (RFC 6455, 5.5.1).
#[test]
fn nothing_is_sent_after_a_close_that_was_given_up() {
    run(|handle| async move {
        let sent = Rc::new(RefCell::new(None));
        let (told, time) = (sent.clone(), handle.clone());
        let (server, address) = serve(&handle, Config::default(), move |mut socket| {
            let (told, time) = (told.clone(), time.clone());
            async move {
                let closing = socket.close(1001, "bye");
                let closed = time.timeout(Duration::from_millis(50), closing).await;
                assert!(closed.is_err(), "the peer does not answer");
                *told.borrow_mut() = Some(socket.send("late").await);
                // It may still hear the peer's answer.
                assert!(socket.next().await.is_none());
                assert_eq!(socket.closed().map(|closed| closed.code), Some(1001));
            }
        });
        let asking = handle.defer_to_thread(move |_| {
            let mut stream = open(address);
            let mut close = [0; 7];
            stream.read_exact(&mut close).expect("a close");
            assert_eq!(&close, b"\x88\x05\x03\xe9bye");
            stream
                .set_read_timeout(Some(Duration::from_millis(300)))
                .expect("an option");
            let mut late = [0; 1];
            let silent = stream.read(&mut late).is_err();
            stream.set_read_timeout(Some(PATIENCE)).expect("an option");
            stream
                .write_all(&frame(0x88, b"\x03\xe9"))
                .expect("written");
            let mut rest = Vec::new();
            let ended = stream.read_to_end(&mut rest);
            Ok::<_, String>((silent, rest, ended.is_ok()))
        });
        let (silent, rest, ended) = asking.await.expect("a peer");
        assert!(silent, "something came after the close");
        assert_eq!((rest.as_slice(), ended), (&b""[..], true));
        let sent = sent.borrow_mut().take();
        assert!(matches!(sent, Some(Err(Error::Closed))), "{sent:?}");
        drop(server);
    });
}

/// What follows the head would be taken for frames: somebody in between who knows no WebSockets
/// takes it for a body (RFC 9110, 7.8).
#[test]
fn the_body_of_a_handshake_is_no_frame() {
    run(|handle| async move {
        let heard = Rc::new(RefCell::new(Vec::new()));
        let told = heard.clone();
        let (server, address) = serve(&handle, Config::default(), move |mut socket| {
            let told = told.clone();
            async move {
                while let Some(Ok(message)) = socket.next().await {
                    told.borrow_mut().push(message);
                }
            }
        });
        let asking = handle.defer_to_thread(move |_| {
            let text = frame(0x81, b"smuggled");
            let length = format!("Content-Length: {}\r\n\r\n", text.len());
            let chunk = format!("{:x}\r\n", text.len());
            let chunked = [chunk.as_bytes(), &text, b"\r\n0\r\n\r\n"].concat();
            let statuses = [
                (length, text),
                ("Transfer-Encoding: chunked\r\n\r\n".to_owned(), chunked),
            ]
            .map(|(framing, body)| {
                let mut stream = TcpStream::connect(address).expect("a connection");
                stream.set_read_timeout(Some(PATIENCE)).expect("an option");
                let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n\
                               Upgrade: websocket\r\n\
                               Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                               Sec-WebSocket-Version: 13\r\n";
                let all = [request.as_bytes(), framing.as_bytes(), &body].concat();
                stream.write_all(&all).expect("written");
                stream.shutdown(std::net::Shutdown::Write).expect("ended");
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer);
                String::from_utf8_lossy(&answer)[9..12].to_owned()
            });
            Ok::<_, String>(statuses)
        });
        let statuses = asking.await.expect("answers");
        assert_eq!(statuses, ["400", "400"]);
        assert!(heard.borrow().is_empty(), "{:?}", heard.borrow());
        drop(server);
    });
}
