//! A host that holds the thread for two seconds, while a thousand peers with short deadlines send
//! something.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpStream},
    pin::Pin,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use entwined::{
    Remote,
    reactor::{Driver, Selector},
    transport::tcp,
};
use entwined_http::{Config, Error, Request, Router};
use futures_io::AsyncRead;

use crate::{
    server::{
        http2::{Reader, SETTINGS, frame, get, say},
        support::{LIMIT, Peer, Site, config},
    },
    sys::allow_file_descriptors,
};

const HOLD: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(1);

fn short() -> Config {
    config(|config| {
        config.head_timeout = DEADLINE;
        config.idle_timeout = DEADLINE;
        config.body_timeout = DEADLINE;
        config.write_timeout = DEADLINE;
    })
}

fn site() -> Site {
    Site::with(short(), |_| {
        Router::new()
            .get("/", || async { "hello" })
            .get("/held", || async {
                hold(HOLD);
                "held"
            })
            .post("/early", || async { "early" })
            .post("/", |mut request: Request| async move {
                Ok::<_, Error>(request.bytes().await?.len().to_string())
            })
    })
}

/// Acts like a host that draws for so long: it does not return to the loop.
fn hold(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// Holds the server's thread, runs `during` meanwhile, and waits until it is free again.
fn while_held(remote: &Remote, during: impl FnOnce()) {
    let (tell, told) = std::sync::mpsc::channel();
    remote
        .post(move |_| {
            tell.send(()).expect("the test waits");
            hold(HOLD);
        })
        .expect("it runs");
    told.recv().expect("it is held");
    let start = Instant::now();
    during();
    assert!(
        start.elapsed() < HOLD,
        "the peers took too long for this test: {:?}",
        start.elapsed()
    );
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n";

fn connect(site: &Site) -> TcpStream {
    let stream = TcpStream::connect_timeout(&site.address, LIMIT).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("an option");
    stream
}

/// Reads an answer. Returns false if the connection ended instead.
fn is_answered(stream: &mut TcpStream) -> bool {
    let mut said = Vec::new();
    let mut buffer = [0; 512];
    while !said.ends_with(b"hello") {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => said.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return false,
            Err(error) => panic!("no answer: {error}"),
        }
    }
    said.starts_with(b"HTTP/1.1 200")
}

/// Connections that have had one answer each and have been idle for less than half the deadline.
fn keep_alive(site: &Site, count: usize) -> Vec<TcpStream> {
    for _ in 0..10 {
        let start = Instant::now();
        let mut streams: Vec<TcpStream> = (0..count).map(|_| connect(site)).collect();
        for stream in &mut streams {
            stream.write_all(GET).expect("the kernel takes it");
        }
        if streams.iter_mut().all(is_answered) && start.elapsed() < DEADLINE / 2 {
            return streams;
        }
    }
    panic!(
        "this machine is too slow to open {count} connections in {:?}",
        DEADLINE / 2
    );
}

#[test]
fn a_thousand_idle_connections_survive_a_host_that_held_the_thread() {
    const COUNT: usize = 1000;
    allow_file_descriptors(2 * COUNT + 500);
    let site = site();
    let mut streams = keep_alive(&site, COUNT);
    while_held(&site.remote, || {
        for stream in &mut streams {
            stream.write_all(GET).expect("the kernel takes it");
        }
    });
    let answered = streams
        .iter_mut()
        .filter_map(|stream| is_answered(stream).then_some(()))
        .count();
    assert_eq!(answered, COUNT);
}

/// One wait for events returned 1,024 of them. Any other connection was judged by its deadline
/// before it was read.
#[test]
fn more_streams_than_one_wait_tells_of_are_read_before_their_deadlines_are_judged() {
    const COUNT: usize = 3000;
    allow_file_descriptors(2 * COUNT + 500);
    let driver = Driver::new(Rc::new(Selector::new().expect("file descriptors")), ());
    let handle = driver.handle();
    let listener = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_address().tcp().expect("it listens on TCP");
    // A turn that has time for everything that one wait returns.
    let turn = || {
        driver
            .slice(Duration::from_secs(1))
            .expect("a turn without errors")
    };
    driver.start().expect("it does not run");

    let results = Rc::new(RefCell::new(Vec::new()));
    handle.spawn({
        let (handle, results) = (handle.clone(), results.clone());
        async move {
            loop {
                let mut stream = listener.accept().await.expect("a connection");
                let (limit, results) = (handle.clone(), results.clone());
                let reading = async move {
                    let read =
                        poll_fn(|cx| AsyncRead::poll_read(Pin::new(&mut stream), cx, &mut [0]));
                    let result = limit.timeout(HOLD, read).await;
                    results.borrow_mut().push(result.is_ok());
                };
                handle.spawn(reading);
            }
        }
    });
    let mut peers = Vec::new();
    for number in 0..COUNT {
        peers.push(TcpStream::connect_timeout(&address, LIMIT).expect("a connection"));
        if number % 16 == 0 {
            turn();
        }
    }
    while handle.metrics().timers < COUNT {
        turn();
    }

    // The connections with the earliest deadlines are reported last.
    for peer in peers.iter_mut().rev() {
        peer.write_all(b"x").expect("the kernel takes it");
    }
    hold(HOLD);
    while results.borrow().len() < COUNT {
        turn();
    }
    let in_time = results.borrow().iter().filter(|in_time| **in_time).count();
    assert_eq!(in_time, COUNT);
}

#[test]
fn the_rest_of_a_head_that_came_while_the_host_held_the_thread_counts() {
    let site = site();
    let mut peers: Vec<Peer> = (0..50).map(|_| site.peer()).collect();
    for peer in &mut peers {
        peer.send("GET / HTTP/1.1\r\nho");
    }
    site.wait_until(|server| server.connections() == 50);
    while_held(&site.remote, || {
        for peer in &mut peers {
            peer.send("st: test\r\n\r\n");
        }
    });
    for peer in &mut peers {
        assert_eq!(peer.answer().status, 200);
    }
}

/// The deadline of a body was judged after its first piece was read, although the rest had arrived,
/// too.
#[test]
fn the_rest_of_a_body_that_came_while_the_host_held_the_thread_counts() {
    const LENGTH: usize = 48 * 1024;
    let site = site();
    let mut peer = site.peer();
    peer.send(format!(
        "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {LENGTH}\r\n\r\nx"
    ));
    while site.ask(|server| server.requests()) == 0 {}
    while_held(&site.remote, || peer.send(vec![b'x'; LENGTH - 1]));
    let answer = peer.answer();
    assert_eq!(
        (answer.status, answer.text()),
        (200, LENGTH.to_string().as_str())
    );
}

/// By the turn's clock, a handler's own connection seemed idle since before the handler held the
/// thread.
#[test]
fn a_handler_that_held_the_thread_does_not_make_its_connection_look_idle() {
    let site = site();
    let mut peer = site.peer();
    assert_eq!(peer.get("/held").text(), "held");
    assert!(peer.hears_nothing_for(DEADLINE / 2));
    assert_eq!(peer.get("/").text(), "hello");
}

#[test]
fn a_peer_that_read_while_the_host_held_the_thread_is_not_stuck() {
    let site = Site::with(short(), |_| {
        Router::new().get("/large", || async { vec![b'x'; 32 << 20] })
    });
    let mut peer = site.peer();
    peer.send("GET /large HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(peer.head().status, 200);
    let mut some = vec![0; 1 << 20];
    peer.stream.read_exact(&mut some).expect("some of it");
    while_held(&site.remote, || {
        peer.stream
            .read_exact(&mut some)
            .expect("what the kernel has of it")
    });
    let mut rest = vec![0; 30 << 20];
    peer.stream.read_exact(&mut rest).expect("the rest");
}

/// A POST request for `/`, up to its body.
fn post(stream: u32) -> Vec<u8> {
    // :method POST, :scheme http, :path /, and :authority as a literal (RFC 7541, 6).
    let block = [&[0x83, 0x86, 0x84, 0x01, 4][..], b"test"].concat();
    frame(1, 4, stream, &block)
}

/// The acknowledgement of the server's settings, which have a larger window.
const ACK: &[u8] = &[0, 0, 0, 4, 1, 0, 0, 0, 0];

/// Data of a stream that takes the server several turns to read.
fn many(stream: u32) -> Vec<u8> {
    frame(0, 0, stream, &[b'x'; 16 * 1024]).repeat(6)
}

/// The first byte of the head of a stream's answer.
fn status(mut bytes: &[u8], stream: u32) -> u8 {
    loop {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        let number = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]);
        if (bytes[3], number) == (1, stream) {
            return bytes[9];
        }
        bytes = &bytes[9 + length..];
    }
}

/// `:status: 200` (RFC 7541, appendix A).
const OK: u8 = 0x88;

/// What a peer has sent in time may be behind much that it sent on another stream, which one turn
/// does not read.
#[test]
fn the_rest_of_a_body_behind_that_of_another_stream_counts() {
    for rate in [0, 1_000_000] {
        let mut short = short();
        short.min_rate = rate;
        short.rate_grace = DEADLINE;
        let site = Site::with(short, |_| {
            Router::new().post("/", |mut request: Request| async move {
                Ok::<_, Error>(request.bytes().await?.len().to_string())
            })
        });
        let begun = [SETTINGS, ACK, &post(1), &post(3)].concat();
        let mut stream = say(&site, &[&begun, &frame(0, 0, 3, b"x")]);
        while site.ask(|server| server.requests()) < 2 {}
        while_held(&site.remote, || {
            stream.write_all(&many(1)).expect("the kernel takes it");
            let rest = frame(0, 1, 3, b"yz");
            stream.write_all(&rest).expect("the kernel takes it");
        });
        let mut reader = Reader(stream, Vec::new());
        reader.until(|frames, _| frames.contains(&(1, 3)));
        assert_eq!(status(&reader.1, 3), OK, "at least {rate} bytes/s");
    }
}

/// The windows that a peer has opened may be behind that as well.
#[test]
fn windows_that_were_opened_behind_the_data_of_another_stream_count() {
    const SIZE: usize = 100_000;
    let site = Site::with(short(), |_| {
        Router::new()
            .get("/large", || async { vec![b'x'; SIZE] })
            .post("/", |mut request: Request| async move {
                Ok::<_, Error>(request.bytes().await?.len().to_string())
            })
    });
    let begun = [SETTINGS, ACK, &post(1), &get(3, "/large")].concat();
    let mut reader = Reader(say(&site, &[&begun]), Vec::new());
    reader.until(|_, data| data == 65_535);
    while_held(&site.remote, || {
        let stream = &mut reader.0;
        stream.write_all(&many(1)).expect("the kernel takes it");
        for window in [0, 3] {
            let more = frame(8, 0, window, &(SIZE as u32).to_be_bytes());
            stream.write_all(&more).expect("the kernel takes it");
        }
    });
    reader.until(|frames, data| {
        assert!(!frames.contains(&(3, 3)), "the stream was reset");
        data >= SIZE
    });
}

/// The time for which a server reads what still comes had passed while nobody read, and the reset
/// overtook the answer.
#[test]
fn a_peer_that_uploads_to_a_host_that_held_the_thread_hears_the_answer() {
    const LENGTH: usize = 10 << 20;
    let site = site();
    let mut peer = site.peer();
    peer.send(format!(
        "POST /early HTTP/1.1\r\nhost: test\r\ncontent-length: {LENGTH}\r\n\r\n"
    ));
    let answered = peer.stream.get_ref().peek(&mut [0]);
    assert_eq!(answered.expect("an answer"), 1);
    while_held(&site.remote, || {});
    peer.send(vec![b'x'; LENGTH]);
    assert_eq!(peer.answer().text(), "early");
    assert!(peer.ends_in_order());
}

/// Waits until the kernel takes no more for a peer that does not read.
fn wait_until_full(stream: &TcpStream) {
    let (mut buffer, mut before) = (vec![0; 16 << 20], 0);
    loop {
        let now = stream.peek(&mut buffer).expect("bytes");
        if now == before {
            return;
        }
        before = now;
        thread::sleep(Duration::from_millis(100));
    }
}

/// A peer that reads, and that has sent so much that the task had no share left to write.
#[test]
fn a_peer_that_read_and_sent_while_the_host_held_the_thread_is_not_stuck() {
    const WINDOW: u32 = 1 << 30;
    const SIZE: usize = 32 << 20;
    let site = Site::with(short(), |_| {
        Router::new()
            .get("/large", || async { vec![b'x'; SIZE] })
            .post("/", |mut request: Request| async move {
                Ok::<_, Error>(request.bytes().await?.len().to_string())
            })
    });
    let settings = frame(4, 0, 0, &[&[0, 4][..], &WINDOW.to_be_bytes()].concat());
    let window = frame(8, 0, 0, &WINDOW.to_be_bytes());
    let begun = [&settings, ACK, &window, &post(1), &get(3, "/large")].concat();
    let mut reader = Reader(say(&site, &[&begun]), Vec::new());
    reader.until(|_, data| data >= 1 << 20);
    wait_until_full(&reader.0);
    while_held(&site.remote, || {
        reader.0.write_all(&many(1)).expect("the kernel takes it");
        let mut some = vec![0; 1 << 20];
        reader.0.read_exact(&mut some).expect("what it has of it");
        reader.1.extend_from_slice(&some);
    });
    let mut bytes = reader.1.len();
    let mut buffer = vec![0; 1 << 20];
    while bytes < SIZE {
        match reader.0.read(&mut buffer) {
            Ok(count @ 1..) => bytes += count,
            end => panic!("the connection is over after {bytes} bytes: {end:?}"),
        }
    }
}
