//! WebSockets, with each other and with implementations by others.

mod wrong;

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    pin::{Pin, pin},
    process::{Command, Stdio},
    rc::Rc,
    sync::mpsc,
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use crate::run::run;
use entwined::{
    Handle,
    broadcast::{Broadcast, Received, Subscriber},
    deferred::Interrupted,
    transport::{ByteStream, Stream, connect_host, tcp},
};
use entwined_http::{
    self as http, Request, Router, layers,
    websocket::{self, Config, ConnectError, Error, Message, SendError, Sender, WebSocket},
};
use futures_io::{AsyncRead, AsyncWrite};

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.next().await {
        if message == Message::from("close") {
            let _ = socket
                .close(4_000, &format!("as you like{}", "é".repeat(100)))
                .await;
        } else if socket.send(message).await.is_err() {
            break;
        }
    }
}

/// Starts a server and returns it with its address.
fn serve(handle: &Handle, router: Router) -> (http::Server, String) {
    let server = http::serve(
        tcp::listen(handle, (Ipv4Addr::LOCALHOST, 0)).expect("a free port"),
        router,
    );
    let address = format!("ws://{}", server.local_address());
    (server, address)
}

fn echoing() -> Router {
    Router::new()
        .any("/echo", |request: Request| {
            std::future::ready(websocket::upgrade(request, echo))
        })
        .any("/small", |request: Request| {
            std::future::ready(websocket::upgrade_with(
                request,
                config(|config| config.max_message_size = 1_000),
                echo,
            ))
        })
        .any("/chat", |request: Request| {
            let config = config(|config| {
                config.protocols = vec!["v2.chat".to_owned(), "v1.chat".to_owned()]
            });
            std::future::ready(websocket::upgrade_with(
                request,
                config,
                |mut socket| async move {
                    let protocol = socket.protocol().unwrap_or("none").to_owned();
                    let _ = socket.send(protocol).await;
                    let _ = socket.next().await;
                },
            ))
        })
}

#[test]
fn messages_of_all_sizes_go_both_ways_and_an_end_has_its_reason() {
    run(|handle| async move {
        let (server, address) = serve(&handle, echoing());
        let mut socket = websocket::connect(&handle, &format!("{address}/echo"))
            .await
            .expect("a WebSocket");
        for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
            let text = "é".repeat(size / 2);
            socket.send(text.clone()).await.expect("sent");
            assert_eq!(
                socket.next().await.expect("a message").expect("no error"),
                Message::Text(text)
            );
            socket.send(vec![7; size]).await.expect("sent");
            assert_eq!(
                socket.next().await.expect("a message").expect("no error"),
                Message::from(vec![7; size])
            );
        }
        socket.send("close").await.expect("sent");
        assert!(socket.next().await.is_none());
        let closed = socket.closed().expect("it says why").clone();
        assert_eq!(closed.code, 4_000);
        assert!(
            closed.reason.starts_with("as you likeéé") && closed.reason.len() <= 123,
            "{closed:?}"
        );
        assert!(matches!(socket.send("late").await, Err(Error::Closed)));
        assert_eq!(
            socket.sender().send("late"),
            Err(SendError::Closed("late".into()))
        );
        let mut second = websocket::connect(&handle, &format!("{address}/echo"))
            .await
            .expect("a WebSocket");
        second.close(1_000, "").await.expect("closed in order");
        drop(second);
        while server.connections() > 0 {
            handle.sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn both_sides_agree_on_a_subprotocol_or_on_none() {
    run(|handle| async move {
        let (_server, address) = serve(&handle, echoing());
        for (wanted, agreed) in [
            (&["v1.chat", "other"][..], Some("v1.chat")),
            (&["v1.chat", "v2.chat"], Some("v2.chat")),
            (&[], None),
        ] {
            let address = format!("{address}/chat");
            let host = address
                .trim_start_matches("ws://")
                .trim_end_matches("/chat");
            let stream = tcp::connect(&handle, host).await.expect("a connection");
            let config = config(|config| {
                config.protocols = wanted.iter().map(|name| (*name).to_owned()).collect()
            });
            let mut socket = websocket::connect_with(&handle, Box::new(stream), &address, config)
                .await
                .expect("a WebSocket");
            assert_eq!(socket.protocol(), agreed);
            let told = socket.next().await.expect("a message").expect("no error");
            assert_eq!(told, Message::from(agreed.unwrap_or("none")));
        }
    });
}

#[test]
fn what_is_no_request_for_a_websocket_is_answered_by_http() {
    run(|handle| async move {
        let (_server, address) = serve(&handle, echoing());
        let address = address.trim_start_matches("ws://").to_owned();
        let answers = handle.defer_to_thread(move |_| {
            let ask_by = |method: &str, version: &str, headers: &str| {
                let mut stream = TcpStream::connect(&address).expect("a connection");
                let request = format!("{method} /echo {version}\r\nHost: x\r\n{headers}\r\n");
                stream.write_all(request.as_bytes()).expect("written");
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).expect("an answer");
                String::from_utf8_lossy(&answer[9..]).into_owned()
            };
            let ask = |headers: &str| ask_by("GET", "HTTP/1.1", headers);
            let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n";
            let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
            let good = format!("{upgrade}Sec-WebSocket-Version: 13\r\n{key}");
            Ok::<_, String>([
                ask(""),
                ask(&format!("{upgrade}Sec-WebSocket-Version: 8\r\n{key}")),
                ask(&format!("{upgrade}Sec-WebSocket-Version: 13\r\n")),
                ask(&format!(
                    "{upgrade}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: YQ==\r\n"
                )),
                ask(&good),
                // RFC 6455, 4.1: the method is GET. RFC 9110, 7.8: HTTP/1.0 has no upgrade.
                ask_by("HEAD", "HTTP/1.1", &good),
                ask_by("POST", "HTTP/1.1", &good),
                ask_by("GET", "HTTP/1.0", &good),
            ])
        });
        assert_eq!(
            answers.await.expect("answers"),
            ["426", "426", "400", "400", "101", "405", "405", "426"]
        );
    });
}

#[test]
fn a_client_says_why_there_is_none() {
    run(|handle| async move {
        let (_server, address) = serve(&handle, Router::new().get("/plain", || "no WebSocket"));
        let refused = websocket::connect(&handle, &format!("{address}/plain"))
            .await
            .expect_err("it is none");
        assert!(
            matches!(&refused, ConnectError::Refused(what) if what.contains("200")),
            "{refused}"
        );
        for wrong in ["http://localhost/", "nonsense", "ws://", ""] {
            assert!(websocket::connect(&handle, wrong).await.is_err(), "{wrong}");
        }
        let error = websocket::connect(&handle, "ws://127.0.0.1:1/")
            .await
            .expect_err("nobody listens");
        assert!(matches!(error, ConnectError::Host(_)), "{error}");
    });
}

#[test]
fn too_long_a_message_ends_it_with_1009_and_a_wrong_frame_with_1002() {
    run(|handle| async move {
        let (_server, address) = serve(&handle, echoing());
        let mut socket = websocket::connect(&handle, &format!("{address}/small"))
            .await
            .expect("a WebSocket");
        socket.send(vec![0; 1_000]).await.expect("sent");
        socket.next().await.expect("a message").expect("no error");
        socket.send(vec![0; 1_001]).await.expect("sent");
        match socket.next().await {
            None => assert_eq!(socket.closed().map(|closed| closed.code), Some(1009)),
            Some(Err(Error::Stream(_))) => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn senders_elsewhere_are_told_when_the_peer_is_slow() {
    run(|handle| async move {
        let senders: Rc<RefCell<Vec<Sender>>> = Rc::default();
        let kept = senders.clone();
        let router = Router::new().any("/", move |request: Request| {
            let kept = kept.clone();
            let config = config(|config| config.max_queued = 100_000);
            std::future::ready(websocket::upgrade_with(
                request,
                config,
                |mut socket| async move {
                    kept.borrow_mut().push(socket.sender());
                    while let Some(Ok(_)) = socket.next().await {}
                },
            ))
        });
        let (_server, address) = serve(&handle, router);
        let mut reading = websocket::connect(&handle, &address)
            .await
            .expect("a WebSocket");
        let _silent = websocket::connect(&handle, &address)
            .await
            .expect("a WebSocket");
        while senders.borrow().len() < 2 {
            handle.sleep(Duration::from_millis(1)).await;
        }
        let (seen, counting) = (Rc::new(Cell::new(0)), handle.clone());
        let count = seen.clone();
        counting.spawn(async move {
            while let Some(Ok(_)) = reading.next().await {
                count.set(count.get() + 1);
            }
        });
        // One peer reads everything. The queue of the other is full once the wire is.
        let all = senders.borrow().clone();
        let mut sent = 0;
        while !matches!(all[1].send(vec![1; 10_000]), Err(SendError::Full(_))) {
            while all[0].send(vec![1; 10_000]).is_err() {
                handle.sleep(Duration::from_millis(1)).await;
            }
            sent += 1;
            assert!(all[1].queued() <= 100_000);
            assert!(sent < 10_000, "a peer that takes nothing was never full");
            handle.sleep(Duration::ZERO).await;
        }
        while seen.get() < sent {
            handle.sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(all[0].queued(), 0);
    });
}

#[test]
fn a_peer_that_does_not_answer_is_given_up() {
    run(|handle| async move {
        let ends: Rc<RefCell<Vec<String>>> = Rc::default();
        let noted = ends.clone();
        let router = Router::new().any("/", move |request: Request| {
            let noted = noted.clone();
            let config = config(|config| config.ping_interval = Duration::from_millis(100));
            std::future::ready(websocket::upgrade_with(
                request,
                config,
                |mut socket| async move {
                    let end = socket.next().await;
                    noted.borrow_mut().push(format!("{end:?}"));
                },
            ))
        });
        let (_server, address) = serve(&handle, router);
        // Nobody reads its messages, so nobody answers.
        let silent = websocket::connect(&handle, &address)
            .await
            .expect("a WebSocket");
        let mut there = websocket::connect(&handle, &address)
            .await
            .expect("a WebSocket");
        let answering = handle.spawn(async move { there.next().await.is_none() });
        handle.sleep(Duration::from_millis(500)).await;
        assert_eq!(*ends.borrow(), ["Some(Err(Silent))"]);
        drop((silent, answering));
    });
}

fn python(program: &str, argument: &str) -> std::process::Child {
    let mut command = Command::new("/usr/bin/python3");
    command
        .args(["-c", program, argument])
        .stdout(Stdio::piped());
    command.spawn().expect("apt-get install python3-websockets")
}

const CLIENT: &str = r"
import asyncio, sys, websockets
async def main():
    async with websockets.connect(sys.argv[1] + '/echo') as socket:
        for size in [0, 1, 125, 126, 65535, 65536, 500000]:
            await socket.send('x' * size)
            assert await socket.recv() == 'x' * size
            await socket.send([b'a' * 10, b'b' * size])
            assert await socket.recv() == b'a' * 10 + b'b' * size
        await asyncio.wait_for(await socket.ping(), 5)
        await socket.send('close')
        try:
            await socket.recv()
        except websockets.ConnectionClosed as closed:
            print(closed.code)
asyncio.run(main())
";

#[test]
fn pythons_websockets_talks_to_ours() {
    run(|handle| async move {
        let (_server, address) = serve(&handle, echoing());
        let talking = handle.defer_to_thread(move |_| {
            let output = python(CLIENT, &address)
                .wait_with_output()
                .map_err(|error| error.to_string())?;
            Ok::<_, String>((
                output.status.success(),
                String::from_utf8_lossy(&output.stdout).into_owned(),
            ))
        });
        assert_eq!(talking.await.expect("an end"), (true, "4000\n".to_owned()));
    });
}

const SERVER: &str = r"
import asyncio, websockets
async def echo(socket, path=None):
    async for message in socket:
        if message == 'close':
            await socket.close(4001, 'enough')
        else:
            await socket.send(message)
async def main():
    async with websockets.serve(echo, '127.0.0.1', 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()
asyncio.run(main())
";

#[test]
fn ours_talks_to_pythons_websockets() {
    let mut server = python(SERVER, "");
    let mut port = String::new();
    let stdout = server.stdout.take().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut port).expect("a port");
    let address = format!("ws://127.0.0.1:{}/", port.trim());
    run(|handle| async move {
        let mut socket = websocket::connect(&handle, &address)
            .await
            .expect("a WebSocket");
        for size in [0, 1, 70_000, 500_000] {
            socket.send("y".repeat(size)).await.expect("sent");
            assert_eq!(
                socket.next().await.expect("a message").expect("no error"),
                Message::Text("y".repeat(size))
            );
        }
        socket.send("close").await.expect("sent");
        assert!(socket.next().await.is_none());
        assert_eq!(
            socket
                .closed()
                .map(|closed| (closed.code, closed.reason.clone())),
            Some((4001, "enough".to_owned()))
        );
    });
    server.kill().expect("it runs");
    server.wait().expect("its status");
}

/// The reader pauses for a while. Then it gets the number of messages that it missed, and the
/// newest one.
#[test]
fn a_slow_reader_of_a_channel_misses_messages_and_nobody_waits_for_it() {
    run(|handle| async move {
        let channel = Broadcast::<Vec<u8>>::new(4);
        let (news, heard) = (channel.clone(), Rc::new(RefCell::new(Vec::new())));
        let hears = heard.clone();
        let router = Router::new().any("/news", move |request: Request| {
            let (subscriber, hears) = (news.subscribe(), hears.clone());
            std::future::ready(websocket::upgrade(request, |mut socket| async move {
                let messages = Told(subscriber);
                socket
                    .talk(messages, |message| hears.borrow_mut().push(message))
                    .await
                    .expect("an orderly end");
            }))
        });
        let (_server, address) = serve(&handle, router);
        let mut socket = websocket::connect(&handle, &format!("{address}/news"))
            .await
            .expect("a WebSocket");
        socket.send("ready").await.expect("sent");
        let mut other = websocket::connect(&handle, &format!("{address}/news"))
            .await
            .expect("a WebSocket");
        // More than all buffers hold.
        const ALL: u64 = 400;
        for number in 0..ALL {
            channel.send(vec![number as u8; 100_000]);
            // The peer that reads gets every message.
            let message = other.next().await.expect("a message").expect("no error");
            assert_eq!(message, Message::from(vec![number as u8; 100_000]));
        }
        let (mut messages, mut missed, mut last) = (0, 0, Message::from(""));
        while messages + missed < ALL {
            last = socket.next().await.expect("a message").expect("no error");
            match &last {
                Message::Text(text) => missed += text.parse::<u64>().expect("a number"),
                Message::Binary(_) => messages += 1,
            }
        }
        assert_eq!(last, Message::from(vec![(ALL - 1) as u8; 100_000]));
        assert!(missed > ALL / 4, "{missed} were missed");
        assert_eq!(*heard.borrow(), [Message::from("ready")]);
        assert_eq!(channel.subscribers(), 2);
        socket.close(1000, "").await.expect("closed");
        other.close(1000, "").await.expect("closed");
        while channel.subscribers() > 0 {
            handle.sleep(Duration::from_millis(1)).await;
        }
    });
}

/// Streams a channel's messages, and the number of missed ones as text.
struct Told(Subscriber<Vec<u8>>);

impl futures_core::Stream for Told {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        Pin::new(&mut self.0).poll_next(cx).map(|received| {
            received.map(|received| match received {
                Received::Message { message, .. } => Message::from((*message).clone()),
                Received::Missed(count) => Message::from(count.to_string()),
            })
        })
    }
}

/// An RFC 8441 client, written with Python's h2.
const OVER_HTTP2: &str = r"
import os, socket, sys, time
import h2.config, h2.connection, h2.events, h2.settings

host, port = sys.argv[1].split(':')
sock = socket.create_connection((host, int(port)), timeout=20)
connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding='utf-8'))
connection.initiate_connection()

def receive():
    sock.sendall(connection.data_to_send())
    data = sock.recv(65536)
    assert data, 'the connection ended'
    events = connection.receive_data(data)
    for event in events:
        if isinstance(event, h2.events.DataReceived):
            connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
    sock.sendall(connection.data_to_send())
    return events

while connection.remote_settings.enable_connect_protocol != 1:
    receive()
connection.send_headers(1, [
    (':method', 'CONNECT'), (':protocol', 'websocket'), (':scheme', 'http'), (':path', sys.argv[2]),
    (':authority', sys.argv[1]), ('sec-websocket-version', '13'),
    ('origin', 'http://' + sys.argv[1]),
])
status, said, ended = None, b'', False

def until(done):
    global status, said, ended
    while not done():
        for event in receive():
            if isinstance(event, h2.events.ResponseReceived):
                status = dict(event.headers)[':status']
            elif isinstance(event, h2.events.DataReceived):
                said += event.data
            elif isinstance(event, h2.events.StreamEnded):
                ended = True

def frame(first, payload):
    mask = os.urandom(4)
    assert len(payload) < 126
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return bytes([first, 0x80 | len(payload)]) + mask + masked

until(lambda: status)
print(status)
if status == '200':
    connection.send_data(1, frame(0x81, b'over HTTP/2'))
    until(lambda: len(said) >= 13)
    print(said[2:].decode())
    said = b''
    # Another request goes beside it.
    connection.send_headers(3, [
        (':method', 'GET'), (':scheme', 'http'), (':path', '/plain'), (':authority', sys.argv[1]),
    ], end_stream=True)
    until(lambda: ended)
    print(said.decode())
    # The WebSocket is all that is left, and has nothing to say for a while.
    time.sleep(float(sys.argv[3]))
    said, ended = b'', False
    connection.send_data(1, frame(0x88, (1000).to_bytes(2, 'big')))
    until(lambda: ended)
    print(said.hex())
";

#[test]
fn over_http2_a_websocket_is_a_stream_beside_others() {
    run(|handle| async move {
        let listener = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let router = echoing().get("/plain", || "beside it");
        let config = http::Config {
            idle_timeout: Duration::from_millis(200),
            ..http::Config::default()
        };
        let server = http::serve_with(listener, router, config);
        for (path, expected) in [
            ("/echo", "200\nover HTTP/2\nbeside it\n880203e8\n"),
            ("/nowhere", "404\n"),
        ] {
            let address = server.local_address().to_string();
            let client = handle.defer_to_thread(move |_| {
                let mut command = Command::new("/usr/bin/python3");
                command
                    .args(["-c", OVER_HTTP2, &address, path, "1"])
                    .stderr(Stdio::inherit());
                Ok::<_, Interrupted>(command.output().expect("apt-get install python3-h2").stdout)
            });
            let said = client.await.expect("it ends");
            assert_eq!(String::from_utf8_lossy(&said), expected);
        }
    });
}

/// "For ever" is a usual thing to say, and no clock reaches that far.
#[test]
fn no_time_of_a_websocket_is_too_long() {
    run(|handle| async move {
        let forever = || {
            config(|config| {
                config.ping_interval = Duration::MAX;
                config.write_timeout = Duration::MAX;
                config.connect_timeout = Duration::MAX;
            })
        };
        let router = Router::new().any("/", move |request: Request| {
            std::future::ready(websocket::upgrade_with(request, forever(), echo))
        });
        let (server, address) = serve(&handle, router);
        let host = server.local_address().tcp().expect("TCP");
        let stream = tcp::connect(&handle, host).await.expect("a connection");
        let mut socket = websocket::connect_with(&handle, Box::new(stream), &address, forever())
            .await
            .expect("a WebSocket");
        for size in [1, 1_000_000] {
            socket.send(vec![7; size]).await.expect("sent");
            handle.sleep(Duration::from_millis(20)).await;
            let message = socket.next().await.expect("a message").expect("no error");
            assert_eq!(message.len(), size);
        }
    });
}

/// They were left out without a word, so the server refused.
#[test]
fn a_user_name_and_a_password_in_the_address_are_sent() {
    run(|handle| async move {
        let auth = layers::basic_auth("notes", |name, password| {
            (name, password) == ("J\u{fc}rgen", "a:b c")
        });
        let (_server, address) = serve(&handle, echoing().layer(auth));
        let with = |user: &str| address.replace("//", &format!("//{user}@")) + "/echo";
        let good = with("J%C3%BCrgen:a:b%20c");
        let mut socket = websocket::connect(&handle, &good).await.expect("known");
        socket.send("hello").await.expect("sent");
        assert!(socket.next().await.is_some_and(|message| message.is_ok()));
        for bad in [with("J%C3%BCrgen"), with("J%C3%BCrgen%3Aa:b%20c")] {
            assert!(websocket::connect(&handle, &bad).await.is_err());
        }
    });
}

/// No such port: it was the default one that was asked.
#[test]
fn a_port_that_is_none_is_not_another() {
    run(|handle| async move {
        for wrong in [
            "ws://127.0.0.1:99999/",
            "ws://127.0.0.1:-1/",
            "ws://127.0.0.1:8o/",
            "ws://[::1]:65536/",
            "ws://[::1]x/",
        ] {
            let error = websocket::connect(&handle, wrong).await;
            let error = error.expect_err("no address");
            assert!(
                matches!(error, ConnectError::Address(_)),
                "{wrong}: {error}"
            );
        }
    });
}

#[test]
fn errors_name_no_passwords() {
    run(|handle| async move {
        for wrong in [
            "ws://user:secret@ho st/",
            "http://user:secret@127.0.0.1/",
            "wss:/user:secret@",
            "user:secret@host",
            "ws://user:sec/ret@ho st/",
        ] {
            let error = websocket::connect(&handle, wrong)
                .await
                .expect_err("no address");
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!shown.contains("sec") && !shown.contains("ret@"), "{shown}");
            }
        }
    });
}

/// RFC 6455, 4.1: a client fails if the server uses what it has not offered.
#[test]
fn a_client_refuses_what_it_has_not_offered() {
    run(|handle| async move {
        let router = Router::new().any("/{header}", |request: Request| {
            let header = request.param("header").unwrap_or_default().to_owned();
            let answer = websocket::upgrade(request, echo).map(|mut response| {
                let (name, value) = header.split_once('=').unwrap_or((&header, "x"));
                let name = http::HeaderName::try_from(name).expect("a name");
                let value = http::HeaderValue::try_from(value).expect("a value");
                response.headers_mut().insert(name, value);
                response
            });
            std::future::ready(answer)
        });
        let (_server, address) = serve(&handle, router);
        for (header, fits) in [
            ("x-other", true),
            ("connection=keep-alive,%20Upgrade", true),
            ("connection=keep-alive", false),
            ("upgrade=other", false),
            ("sec-websocket-accept=x", false),
            ("sec-websocket-extensions=permessage-deflate", false),
            ("sec-websocket-extensions=x-any;%20a=1", false),
            ("sec-websocket-extensions=", true),
            ("sec-websocket-protocol=chat", false),
        ] {
            let socket = websocket::connect(&handle, &format!("{address}/{header}")).await;
            match socket {
                Ok(_) => assert!(fits, "{header}"),
                Err(error) => {
                    assert!(
                        !fits && matches!(error, ConnectError::Refused(_)),
                        "{error}"
                    )
                }
            }
        }
    });
}

/// The parser of heads takes lines that end with LF alone, and empty lines before the first.
#[test]
fn what_comes_with_the_head_is_not_lost_however_its_lines_end() {
    run(|handle| async move {
        let (server, _) = serve(&handle, echoing());
        let there = server.local_address().tcp().expect("TCP");
        for change in [
            |head: String| head,
            |head: String| head.replace("\r\n", "\n"),
            |head: String| format!("\r\n\r\n{head}"),
            // Interim answers may come before it (RFC 9110, 15.2).
            |head: String| {
                let hints = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n";
                format!("{hints}HTTP/1.1 100 Continue\r\n\r\n{head}")
            },
            |head: String| format!("\n\n{}", head.replace("\r\n\r\n", "\r\n\n")),
        ] {
            let listener =
                std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let address = format!("ws://{}/echo", listener.local_addr().expect("an address"));
            std::thread::spawn(move || {
                let head = |stream: &mut TcpStream| {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        stream.read_exact(&mut byte).expect("a head");
                        head.push(byte[0]);
                    }
                    String::from_utf8(head).expect("text")
                };
                let (mut client, _) = listener.accept().expect("a client");
                let mut server = TcpStream::connect(there).expect("the server");
                server
                    .write_all(head(&mut client).as_bytes())
                    .expect("written");
                let mut answer = change(head(&mut server)).into_bytes();
                // A text with what looks like the end of a head.
                answer.extend(b"\x81\x06a\r\n\r\nb");
                client.write_all(&answer).expect("written");
                let _ = client.read(&mut [0]);
            });
            let mut socket = websocket::connect(&handle, &address)
                .await
                .expect("a WebSocket");
            let message = socket.next().await.expect("a message").expect("no error");
            assert_eq!(message, Message::from("a\r\n\r\nb"));
        }
    });
}

/// RFC 6455, 11.3: the protocols may be in several headers; the key and the version may not.
#[test]
fn headers_of_a_handshake_that_come_twice_are_read_as_the_rfc_says() {
    run(|handle| async move {
        let (_server, address) = serve(&handle, echoing());
        let address = address.trim_start_matches("ws://").to_owned();
        let answers = handle.defer_to_thread(move |_| {
            let ask = |headers: &str| {
                let mut stream = TcpStream::connect(&address).expect("a connection");
                let request = format!(
                    "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
                     Upgrade: websocket\r\n{headers}\r\n"
                );
                stream.write_all(request.as_bytes()).expect("written");
                let mut answer = Vec::new();
                while !answer.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("an answer");
                    answer.push(byte[0]);
                }
                let answer = String::from_utf8_lossy(&answer).to_lowercase();
                let protocol = answer
                    .split("sec-websocket-protocol: ")
                    .nth(1)
                    .map(|rest| rest.lines().next().unwrap_or_default().to_owned());
                (answer[9..12].to_owned(), protocol)
            };
            let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
            let version = "Sec-WebSocket-Version: 13\r\n";
            let chat = |name: &str| format!("Sec-WebSocket-Protocol: {name}\r\n");
            Ok::<_, String>([
                ask(&format!(
                    "{key}{version}{}{}",
                    chat("other"),
                    chat("v1.chat")
                )),
                ask(&format!(
                    "{key}{version}{}{}",
                    chat("v1.chat"),
                    chat("a, v2.chat")
                )),
                ask(&format!("{key}{key}{version}")),
                ask(&format!("{key}{version}{version}")),
                ask(&format!("{key}{version}Sec-WebSocket-Version: 8\r\n")),
            ])
        });
        let expected = [
            ("101", Some("v1.chat")),
            ("101", Some("v2.chat")),
            ("400", None),
            ("400", None),
            ("400", None),
        ];
        let answers = answers.await.expect("answers");
        for ((status, protocol), expected) in answers.iter().zip(expected) {
            assert_eq!((status.as_str(), protocol.as_deref()), expected);
        }
    });
}

/// The path of such an address is `/` (RFC 6455, 3 and 4.1; RFC 9112, 3.2.1).
#[test]
fn an_address_may_have_a_query_without_a_path() {
    run(|handle| async move {
        let router = Router::new().any("/", |request: Request| {
            let query = request.uri().query().unwrap_or("none").to_owned();
            std::future::ready(websocket::upgrade(request, |mut socket| async move {
                let _ = socket.send(query).await;
            }))
        });
        let (_server, address) = serve(&handle, router);
        for (end, expected) in [("?a=b", "a=b"), ("", "none"), ("/?c", "c"), ("#x", "none")] {
            let socket = websocket::connect(&handle, &format!("{address}{end}")).await;
            let mut socket = socket.unwrap_or_else(|error| panic!("{end}: {error}"));
            let message = socket.next().await.expect("a message").expect("no error");
            assert_eq!(message, Message::from(expected), "{end}");
        }
    });
}

const HELLO: &[u8] = b"GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Opens a WebSocket, and reads until these bytes have come.
fn open(address: SocketAddr, until: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("an option");
    stream.write_all(HELLO).expect("written");
    let mut said = Vec::new();
    while !said.ends_with(until) {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("more");
        said.push(byte[0]);
    }
    stream
}

const LIMIT: Duration = Duration::from_secs(20);

/// Serves one WebSocket, and returns what `talk` does once `peer` has ended.
fn one<F, Fut>(config: Config, talk: F, peer: impl FnOnce(SocketAddr) + Send + 'static) -> String
where
    F: Fn(Handle, WebSocket) -> Fut + 'static,
    Fut: Future<Output = String> + 'static,
{
    let result: Rc<RefCell<String>> = Rc::default();
    let returned = result.clone();
    run(|handle| async move {
        let talk = Rc::new(talk);
        let router = Router::new().any("/", move |request: Request| {
            let (handle, talk, result) = (request.handle().clone(), talk.clone(), result.clone());
            let talk = move |socket| async move {
                *result.borrow_mut() = talk(handle, socket).await;
            };
            std::future::ready(websocket::upgrade_with(request, config.clone(), talk))
        });
        let (server, _) = serve(&handle, router);
        let address = server.local_address().tcp().expect("it listens on TCP");
        let peer = handle.defer_to_thread(move |_| {
            peer(address);
            Ok::<_, Interrupted>(())
        });
        peer.await.expect("it ends");
    });
    returned.take()
}

/// Polls a future in a task that has used up its share for something else in the first two polls
/// after `hold`, which holds the thread in the first poll that is so late.
async fn greedily<F: Future>(
    handle: &Handle,
    late: Duration,
    future: F,
    mut hold: impl FnMut(),
) -> F::Output {
    let (start, mut greedy) = (Instant::now(), None);
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Some(1..) = greedy {
            greedy = greedy.map(|left: u32| left - 1);
            while handle.spend(1) {}
        }
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() && greedy.is_none() && start.elapsed() >= late {
            hold();
            greedy = Some(2);
        }
        polled
    })
    .await
}

#[test]
fn a_peer_whose_answer_was_not_read_for_want_of_a_share_is_not_silent() {
    const INTERVAL: Duration = Duration::from_millis(100);
    let (tell, answered) = mpsc::channel();
    let answered = Rc::new(answered);
    let talk = move |handle: Handle, mut socket: WebSocket| {
        let answered = answered.clone();
        async move {
            let next = socket.next();
            let next = greedily(&handle, INTERVAL / 2, next, || {
                let answer = answered.recv_timeout(LIMIT);
                answer.expect("an answer to the PING");
                thread::sleep(2 * INTERVAL);
            });
            format!("{:?}", next.await)
        }
    };
    let peer = move |address| {
        let mut stream = open(address, &[0x89, 0]);
        // PONG and CLOSE.
        let frames = [0x8a, 0x80, 0, 0, 0, 0, 0x88, 0x80, 0, 0, 0, 0];
        stream.write_all(&frames).expect("written");
        tell.send(()).expect("the server waits");
        let _ = stream.read_to_end(&mut Vec::new());
    };
    let config = config(|config| config.ping_interval = INTERVAL);
    assert_eq!(one(config, talk, peer), "None");
}

#[test]
fn a_peer_to_which_nothing_was_written_for_want_of_a_share_is_not_stuck() {
    const TIMEOUT: Duration = Duration::from_millis(100);
    const SIZE: usize = 16 << 20;
    let ((ask, asked), (tell, read)) = (mpsc::channel(), mpsc::channel());
    let read = Rc::new(read);
    let talk = move |handle: Handle, mut socket: WebSocket| {
        let (ask, read) = (ask.clone(), read.clone());
        async move {
            let sent = socket.send(vec![0; SIZE]);
            let sent = greedily(&handle, Duration::ZERO, sent, || {
                ask.send(()).expect("the peer waits");
                read.recv_timeout(LIMIT).expect("the peer reads");
                thread::sleep(2 * TIMEOUT);
            });
            format!("{:?}", sent.await)
        }
    };
    let peer = move |address| {
        let mut stream = open(address, b"\r\n\r\n");
        asked.recv_timeout(LIMIT).expect("the server has written");
        let mut some = vec![0; 1 << 16];
        stream.read_exact(&mut some).expect("what it has written");
        tell.send(()).expect("the server waits");
        let _ = stream.read_to_end(&mut Vec::new());
    };
    let config = config(|config| config.write_timeout = TIMEOUT);
    assert_eq!(one(config, talk, peer), "Ok(())");
}

/// A stream whose bytes come one by one.
struct Trickle {
    stream: Stream,
}

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let most = buffer.len().min(1);
        Pin::new(&mut self.stream).poll_read(cx, &mut buffer[..most])
    }
}

impl AsyncWrite for Trickle {
    entwined::forward_stream!(stream: poll_write, poll_flush, poll_close);
}

impl ByteStream for Trickle {
    entwined::forward_stream!(stream: local_address, peer_address, abort);
}

/// It was taken for an attack.
#[test]
fn the_answer_of_a_server_may_come_byte_by_byte() {
    run(|handle| async move {
        let (server, address) = serve(&handle, echoing());
        let port = server.local_address().tcp().expect("TCP").port();
        let stream = connect_host(&handle, "127.0.0.1", port).await;
        let stream = Trickle {
            stream: stream.expect("a connection"),
        };
        let address = format!("{address}/echo");
        let config = Config::default();
        let socket = websocket::connect_with(&handle, Box::new(stream), &address, config);
        let mut socket = socket.await.expect("a WebSocket");
        socket.send("hello").await.expect("sent");
        let message = socket.next().await.expect("a message").expect("no error");
        assert_eq!(message, Message::from("hello"));
    });
}
