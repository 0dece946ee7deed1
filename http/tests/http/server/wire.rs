//! Answers that are sent to a peer that does not read: over memory, in simulated time.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use entwined::{
    Handle, forward_stream,
    simulation::Simulation,
    task::Sleep,
    transport::{
        ByteStream, listen_once,
        memory::{self, Link, MemoryStream},
    },
};
use entwined_http::{self as http, Body, Bytes, Config, Request, Router};
use futures_core::Stream;
use futures_io::{AsyncRead, AsyncWrite};

/// A server whose answers have bodies of `bytes` bytes, and the stream of its only peer.
fn serve(simulation: &Simulation, bytes: usize, link: Link) -> (http::Server, MemoryStream) {
    let handle = simulation.handle();
    let (near, far) = memory::pair_over(&handle, link);
    let count = Cell::new(0);
    let router = Router::new().get("/", move || {
        count.set(count.get() + 1);
        format!("{:0bytes$}", count.get())
    });
    (http::serve(listen_once(&handle, near), router), far)
}

async fn send(stream: &mut MemoryStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let count = poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, bytes))
            .await
            .expect("the server is there");
        bytes = &bytes[count..];
    }
}

async fn read_all(stream: &mut MemoryStream) -> String {
    let (mut all, mut buffer) = (Vec::new(), [0; 512]);
    loop {
        match poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buffer))
            .await
            .expect("an end in order")
        {
            0 => return String::from_utf8(all).expect("text"),
            count => all.extend_from_slice(&buffer[..count]),
        }
    }
}

/// The numbers in the answers.
fn numbers(answers: &str) -> Vec<usize> {
    let bodies = answers
        .split("HTTP/1.1 200 OK\r\n")
        .skip(1)
        .map(|answer| answer.split_once("\r\n\r\n"));
    bodies
        .map(|answer| answer.expect("a head").1.parse().expect("a number"))
        .collect()
}

const COUNT: usize = 60;

/// `COUNT` requests at once. The last one closes the connection.
fn requests() -> Vec<u8> {
    let mut requests = "GET / HTTP/1.1\r\nhost: test\r\n\r\n".repeat(COUNT - 1);
    requests.push_str("GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    requests.into_bytes()
}

#[test]
fn answers_wait_for_a_peer_that_does_not_read_and_come_in_order() {
    // Smaller than what is collected in a turn, and larger.
    for bytes in [10, 1_000, 6_000] {
        let simulation = Simulation::new();
        let mut link = Link::default();
        (link.fragment, link.capacity) = (700, 5_000);
        let (server, mut far) = serve(&simulation, bytes, link);
        let sending = simulation.handle().spawn(async move {
            send(&mut far, &requests()).await;
            far
        });
        let mut far = simulation.run_until(sending).expect("no panic");
        simulation.drive();
        // Each answer is on the wire, or waits for it in a buffer of one piece, or in hyper.
        let most = (5_000 + 2 * 4_096) / bytes + 3;
        assert!(
            server.requests() <= most as u64,
            "{} answers of {bytes} bytes wait",
            server.requests()
        );
        let reading = simulation
            .handle()
            .spawn(async move { read_all(&mut far).await });
        let answers = simulation.run_until(reading).expect("no panic");
        assert_eq!(numbers(&answers), (1..=COUNT).collect::<Vec<_>>());
    }
}

#[test]
fn answers_of_a_turn_are_sent_when_it_ends_also_where_the_run_ends_with_it() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (_server, mut far) = serve(&simulation, 10, Link::default());
    let sending = handle.clone().spawn(async move {
        send(&mut far, b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
        far
    });
    let mut far = simulation.run_until(sending).expect("no panic");
    handle.stop();
    let answers = Rc::new(RefCell::new(String::new()));
    handle.spawn({
        let answers = answers.clone();
        async move { answers.replace(read_all(&mut far).await) }
    });
    simulation.drive();
    assert_eq!(numbers(&answers.borrow()), [1]);
}

/// "For ever" is a usual thing to say, and no clock reaches that far.
#[test]
fn no_limit_in_time_is_too_long() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let link = Link {
        capacity: 10,
        ..Link::default()
    };
    let (near, mut far) = memory::pair_over(&handle, link);
    let config = Config {
        head_timeout: Duration::MAX,
        idle_timeout: Duration::MAX,
        body_timeout: Duration::MAX,
        write_timeout: Duration::MAX,
        rate_grace: Duration::MAX,
        shutdown_grace: Duration::MAX,
        ..Config::default()
    };
    let router = Router::new().post("/", |text: String| async { text });
    let server = http::serve_with(listen_once(&handle, near), router, config);
    let clock = handle.clone();
    let asked = handle.spawn(async move {
        let day = Duration::from_secs(86_400);
        for piece in [
            "POST / HTTP/1.1\r\nhost: test\r\n",
            "content-length: 5\r\n\r\n12",
            "345",
        ] {
            send(&mut far, piece.as_bytes()).await;
            clock.sleep(day).await;
        }
        send(
            &mut far,
            b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n",
        )
        .await;
        clock.sleep(day).await;
        read_all(&mut far).await
    });
    let answers = simulation.run_until(asked).expect("answers");
    assert!(answers.contains("\r\n\r\n12345HTTP/1.1 405 "), "{answers}");
    drop(server);
}

/// Pieces of these lengths, the last one first, a millisecond apart.
struct Pieces {
    lengths: Vec<usize>,
    sleep: Sleep,
    handle: Handle,
}

impl Stream for Pieces {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        ready!(Pin::new(&mut self.sleep).poll(cx));
        let next = self.handle.now() + Duration::from_millis(1);
        self.sleep.reset(next);
        let length = self.lengths.pop();
        Poll::Ready(length.map(|length| Ok(Bytes::from(vec![b'x'; length]))))
    }
}

/// What was corked was on its way when the end of the peer's input was seen, and hyper dropped what
/// it had not sent yet.
#[test]
fn a_peer_that_ends_its_direction_gets_what_waits_behind_the_cork() {
    for (first, second) in [
        (9_000, 9_000),
        (9_000, 60_000),
        (15_000, 20_000),
        (3_000, 1_000_000),
    ] {
        let simulation = Simulation::new();
        let handle = simulation.handle();
        let link = Link {
            capacity: 8_000,
            ..Link::default()
        };
        let (near, mut far) = memory::pair_over(&handle, link);
        let router = Router::new().get("/", move |request: Request| {
            let sleep = request.handle().sleep(Duration::ZERO);
            // The first is corked, and does not fit into the stream.
            let pieces = Pieces {
                lengths: vec![second, first],
                sleep,
                handle: request.handle().clone(),
            };
            Body::stream(pieces)
        });
        let server = http::serve(listen_once(&handle, near), router);
        let clock = handle.clone();
        let asked = handle.spawn(async move {
            send(&mut far, b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
            let ended = poll_fn(|cx| Pin::new(&mut far).poll_close(cx)).await;
            ended.expect("the server is there");
            clock.sleep(Duration::from_millis(10)).await;
            read_all(&mut far).await
        });
        let answer = simulation.run_until(asked).expect("no panic");
        assert!(
            answer.ends_with("\r\n0\r\n\r\n"),
            "{first} and {second} bytes"
        );
        drop(server);
    }
}

/// The new owner of a connection got it, and the peer never heard of that.
#[test]
fn an_answer_that_hands_a_connection_over_is_sent_first() {
    for bytes in [100, 7_900, 9_000, 15_000, 40_000] {
        let simulation = Simulation::new();
        let handle = simulation.handle();
        let link = Link {
            capacity: 8_000,
            ..Link::default()
        };
        let (near, mut far) = memory::pair_over(&handle, link);
        let router =
            Router::new()
                .get("/", move || "x".repeat(bytes))
                .get("/switch", |request: Request| {
                    request.upgrade("x", |mut stream| {
                        let last = poll_fn(move |cx| {
                            ready!(Pin::new(&mut stream).poll_write(cx, b"new"))?;
                            Pin::new(&mut stream).poll_close(cx)
                        });
                        drop(pin!(last).poll(&mut Context::from_waker(Waker::noop())));
                    })
                });
        let server = http::serve(listen_once(&handle, near), router);
        let clock = handle.clone();
        let asked = handle.spawn(async move {
            let head = "host: test\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
            let both = format!("GET / HTTP/1.1\r\n{head}GET /switch HTTP/1.1\r\n{head}");
            send(&mut far, both.as_bytes()).await;
            clock.sleep(Duration::from_millis(10)).await;
            read_all(&mut far).await
        });
        let answer = simulation.run_until(asked).expect("no panic");
        let (_, after) = answer.split_once("HTTP/1.1 101 ").unwrap_or_default();
        assert!(after.ends_with("\r\n\r\nnew"), "{bytes} bytes: {after}");
        drop(server);
    }
}

/// A stream of the program's own, whose first write does something else first.
struct Own<F> {
    below: MemoryStream,
    first: Option<F>,
    late: bool,
}

impl<F: Unpin> AsyncRead for Own<F> {
    forward_stream!(below: poll_read);
}

impl<F: FnOnce() + Unpin> AsyncWrite for Own<F> {
    forward_stream!(below: poll_flush, poll_close);

    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = self.first.take() {
            first();
            // Its peer takes a little of the first answer.
            return Pin::new(&mut self.below).poll_write(cx, &buffer[..buffer.len().min(10)]);
        }
        if buffer.len() > 10 && !std::mem::replace(&mut self.late, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.below).poll_write(cx, buffer)
    }
}

impl<F: FnOnce() + Unpin + 'static> ByteStream for Own<F> {
    forward_stream!(below: local_address, peer_address, abort, below);
}

/// Waits for a turn in which this is true.
async fn turns(mut done: impl FnMut() -> bool) {
    poll_fn(|cx| match done() {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// What the peer of such a stream hears after two requests in a row.
fn heard(first: impl FnOnce(Handle) + Unpin + 'static) -> String {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, mut far) = memory::pair(&handle);
    let begun = Rc::new(Cell::new(false));
    let near = Own {
        below: near,
        first: Some({
            let handle = handle.clone();
            let begun = begun.clone();
            move || {
                begun.set(true);
                first(handle);
            }
        }),
        late: false,
    };
    let second = move || {
        let begun = begun.clone();
        async move {
            turns(|| begun.get()).await;
            "2".repeat(100)
        }
    };
    let router = Router::new().get("/1", || "1".repeat(100));
    let router = router.get("/2", second);
    let _server = http::serve(listen_once(&handle, near), router);
    let all = "GET /1 HTTP/1.1\r\nhost: a\r\n\r\n\
        GET /2 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let asked = handle.spawn(async move {
        send(&mut far, all.as_bytes()).await;
        read_all(&mut far).await
    });
    simulation.run_until(asked).expect("it ends")
}

/// A dialog in a stream, say.
#[test]
fn answers_come_in_order_though_the_stream_makes_turns_while_it_sends() {
    let heard = heard(|handle| {
        let mut left = 10;
        let pause = turns(move || {
            left -= 1;
            left == 0
        });
        handle.wait(pause).expect("the reactor runs");
    });
    let bodies: Vec<_> = heard.split("\r\n\r\n").skip(1).collect();
    assert!(
        bodies.len() == 2
            && bodies[0].starts_with(&"1".repeat(100))
            && bodies[1] == "2".repeat(100),
        "{heard}"
    );
}

/// The peer took the next answer for the one that was lost.
#[test]
fn a_stream_that_panics_while_it_sends_ends_its_connection() {
    let heard = heard(|_| panic!("in a stream"));
    assert_eq!(heard, "");
}
