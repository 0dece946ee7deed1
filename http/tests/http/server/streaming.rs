use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use entwined_http::{Body, Response, Router, header::CONTENT_TYPE, layers, sse};
use futures_core::Stream;

use super::{
    http2::{Reader, SETTINGS, get, say},
    support::{LIMIT, Peer, Site, config},
};

/// A stream that calls `next` each time the body wants an item.
pub struct Ticker<F>(F);

impl<F: FnMut() -> Option<Bytes> + Unpin> Ticker<F> {
    /// Ends only if `next` says so.
    pub fn endless(next: F) -> Self {
        Ticker(next)
    }
}

impl<F: FnMut() -> Option<Bytes> + Unpin> Stream for Ticker<F> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready((self.0)().map(Ok))
    }
}

const PIECE: usize = 16 * 1024;
const WHOLE: usize = 96 << 20;
/// A generous bound for what kernels and hyper may buffer between a stream and a peer that does not
/// read.
const BUFFERS: usize = 24 << 20;

/// Waits until a counter has stopped changing, and returns its value.
fn settled(counter: &AtomicUsize) -> usize {
    let begin = Instant::now();
    let mut seen = (counter.load(Ordering::SeqCst), begin);
    while seen.1.elapsed() < Duration::from_millis(300) {
        assert!(begin.elapsed() < LIMIT, "it never settles");
        let now = counter.load(Ordering::SeqCst);
        if now != seen.0 {
            seen = (now, Instant::now());
        }
        std::thread::yield_now();
    }
    seen.0
}

#[test]
fn a_stream_is_sent_whole_and_in_order() {
    let site = Site::start(|_| {
        Router::new().get("/", || async {
            let mut numbers = 0..2000_u32;
            Body::stream(Ticker::endless(move || {
                numbers
                    .next()
                    .map(|number| Bytes::from(format!("{number}\n").repeat(50)))
            }))
        })
    });
    let mut peer = site.peer();
    for _ in 0..2 {
        let answer = peer.get("/");
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        let expected: String = (0..2000)
            .map(|number| format!("{number}\n").repeat(50))
            .collect();
        assert!(answer.text() == expected);
    }
    // HTTP/1.0 has no chunks: the end of the connection is the end of the body.
    peer.send("GET / HTTP/1.0\r\n\r\n");
    let answer = peer.answer();
    assert_eq!(answer.header("transfer-encoding"), None);
    assert!(answer.text().ends_with("1999\n"));
}

#[test]
fn a_stream_is_not_polled_ahead_of_a_slow_reader() {
    let polled = Arc::new(AtomicUsize::new(0));
    let site = Site::start({
        let polled = polled.clone();
        move |_| {
            Router::new().get("/", move || {
                let polled = polled.clone();
                let mut left = WHOLE / PIECE;
                async move {
                    Body::stream(Ticker::endless(move || {
                        left = left.checked_sub(1)?;
                        polled.fetch_add(PIECE, Ordering::SeqCst);
                        Some(Bytes::from(vec![b'x'; PIECE]))
                    }))
                }
            })
        }
    });
    let mut peer = site.peer();
    peer.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(peer.head().status, 200);
    let ahead = settled(&polled);
    assert!(
        ahead < BUFFERS,
        "{ahead} bytes ahead of a peer that reads none"
    );
    // Other peers are not held up. When the peer reads, the stream continues, and is no further
    // ahead than before.
    let mut read = 0;
    while let Some(chunk) = peer.chunk() {
        read += chunk.len();
        let polled = polled.load(Ordering::SeqCst);
        assert!(polled < read + BUFFERS, "{} bytes ahead", polled - read);
    }
    assert_eq!(read, WHOLE);
}

#[test]
fn a_stream_that_fails_or_panics_ends_its_connection_so_that_the_peer_notices() {
    let site = Site::start(|_| {
        Router::new()
            .get("/fails", || async {
                let mut items = vec![Err("broken"), Ok(Bytes::from("part"))];
                Body::stream(Items(move || items.pop()))
            })
            .get("/panics", || async {
                let mut first = true;
                Body::stream(Ticker::endless(move || {
                    assert!(std::mem::take(&mut first), "a stream breaks");
                    Some(Bytes::from("part"))
                }))
            })
            .get("/fine", || async { "fine" })
    });
    let mut bystander = site.peer();
    assert_eq!(bystander.get("/fine").text(), "fine");
    for path in ["/fails", "/panics"] {
        let mut peer = site.peer();
        peer.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        let mut said = Vec::new();
        let _ = std::io::Read::read_to_end(&mut peer.stream, &mut said);
        assert!(
            !said.ends_with(b"0\r\n\r\n"),
            "{path}: it looks whole: {}",
            String::from_utf8_lossy(&said)
        );
    }
    assert_eq!(bystander.get("/fine").text(), "fine");
    site.wait_until(|server| server.connections() == 1);
}

/// Like [`Ticker`], with errors.
struct Items<F>(F);

impl<F: FnMut() -> Option<Result<Bytes, &'static str>> + Unpin> Stream for Items<F> {
    type Item = Result<Bytes, &'static str>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready((self.0)())
    }
}

/// For an HTTP/1.0 peer the end of the connection is the end of the body, so after an error it must
/// not end in order.
#[test]
fn a_stream_that_fails_resets_a_connection_whose_end_would_be_the_end_of_the_body() {
    let site = Site::start(|_| {
        Router::new()
            .get("/fails", || async {
                let mut items = vec![Err("broken"), Ok(Bytes::from("part"))];
                Body::stream(Items(move || items.pop()))
            })
            .get("/panics", || async {
                // Too much to wait for the end of the turn.
                let mut items = vec![Ok(Bytes::from(vec![b'x'; 50_000]))];
                Body::stream(Items(move || Some(items.pop().expect("there is more"))))
            })
    });
    for path in ["/fails", "/panics"] {
        let mut peer = site.peer();
        peer.send(format!("GET {path} HTTP/1.0\r\n\r\n"));
        let mut said = Vec::new();
        let result = std::io::Read::read_to_end(&mut peer.stream, &mut said);
        assert!(
            result.is_err(),
            "it looks whole: {}",
            String::from_utf8_lossy(&said)
        );
    }
}

/// A number that grows, like a window's state changes.
struct State {
    number: AtomicUsize,
    readers: Mutex<Vec<Waker>>,
}

impl State {
    fn new() -> Arc<Self> {
        Arc::new(State {
            number: AtomicUsize::new(1),
            readers: Mutex::default(),
        })
    }

    fn grow(&self) {
        self.number.fetch_add(1, Ordering::SeqCst);
        self.readers
            .lock()
            .expect("nobody panicked")
            .drain(..)
            .for_each(Waker::wake);
    }
}

/// Returns the state each time that it has changed, and always the newest one.
struct Newest(Arc<State>, usize);

impl Stream for Newest {
    type Item = sse::Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<sse::Event>> {
        // Registered first, so that no change is missed.
        self.0
            .readers
            .lock()
            .expect("nobody panicked")
            .push(cx.waker().clone());
        let newest = self.0.number.load(Ordering::SeqCst);
        if newest == self.1 {
            return Poll::Pending;
        }
        self.1 = newest;
        // Padding fills the kernel's buffers quickly.
        Poll::Ready(Some(sse::Event::data(&format!(
            "{newest} {}",
            "x".repeat(PIECE)
        ))))
    }
}

fn events(state: &Arc<State>) -> Site {
    let state = state.clone();
    Site::with(
        config(|config| config.write_timeout = LIMIT * 10),
        move |handle| {
            let handle = handle.clone();
            Router::new().get("/events", move || {
                let response: Response = sse::response(&handle, Newest(state.clone(), 0));
                async { response }
            })
        },
    )
}

fn subscribe(site: &Site) -> Peer {
    let mut peer = site.peer();
    peer.send("GET /events HTTP/1.1\r\nhost: test\r\n\r\n");
    let head = peer.head();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(head.header("cache-control"), Some("no-store"));
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    peer
}

/// Returns the number of the next event.
fn event(peer: &mut Peer) -> usize {
    let chunk = peer.chunk().expect("an event");
    let text = String::from_utf8(chunk).expect("a text");
    let data = text
        .strip_prefix("data: ")
        .and_then(|rest| rest.strip_suffix("\n\n"));
    let data = data.unwrap_or_else(|| panic!("no event: {text:?}"));
    data.split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

#[test]
fn each_event_is_sent_as_it_comes() {
    let state = State::new();
    let site = events(&state);
    let mut peer = subscribe(&site);
    for number in 1..20 {
        assert_eq!(event(&mut peer), number);
        state.grow();
    }
}

#[test]
fn a_slow_reader_of_events_skips_states_and_gets_the_newest() {
    let state = State::new();
    let site = events(&state);
    let mut slow = subscribe(&site);
    let mut quick = subscribe(&site);
    // The fast peer sees many states in order; the slow one reads none of them.
    const LAST: usize = 1200;
    for number in 1..=LAST {
        assert_eq!(event(&mut quick), number);
        if number < LAST {
            state.grow();
        }
    }
    let mut seen = vec![event(&mut slow)];
    while *seen.last().expect("one") != LAST {
        seen.push(event(&mut slow));
    }
    assert!(seen.is_sorted(), "never back in time");
    assert!(
        seen.len() < LAST / 2,
        "{} states were kept for it",
        seen.len()
    );
}

/// They held the thread for ever.
#[test]
fn a_stream_of_empty_pieces_gives_way() {
    let site = Site::start(|_| {
        let empty = || {
            let mut response = Response::new(Body::stream(Ticker(|| Some(Bytes::new()))));
            let kind = "text/plain".parse().expect("a value");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        };
        let compressed = Router::new()
            .get("/compressed", empty)
            .layer(layers::compression());
        Router::new()
            .get("/", || "there")
            .get("/empty", empty)
            .merge(compressed)
    });
    let mut two = Reader(say(&site, &[SETTINGS, &get(1, "/empty")]), Vec::new());
    two.until(|frames, _| frames.contains(&(1, 1)));
    let mut one = site.peer();
    one.send("GET /empty HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(one.head().status, 200);
    let mut packed = site.peer();
    packed.send("GET /compressed HTTP/1.1\r\nhost: test\r\naccept-encoding: gzip\r\n\r\n");
    assert_eq!(packed.head().header("content-encoding"), Some("gzip"));
    assert_eq!(site.get("/").text(), "there");
}

/// A stream of one piece, whose end panics.
struct Ends(bool);

impl Stream for Ends {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let last = std::mem::replace(&mut self.0, true);
        Poll::Ready((!last).then(|| Ok("whole".into())))
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        panic!("at the end of a stream");
    }
}

/// The whole response was lost, and the next request of the connection.
#[test]
fn a_stream_whose_drop_panics_is_sent_whole() {
    let site = Site::start(|_| {
        Router::new()
            .get("/", || Body::stream(Ends(false)))
            .get("/next", || "next")
    });
    let mut peer = site.peer();
    let get = |path| format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
    peer.send(get("/") + &get("/next"));
    assert_eq!(peer.answer().text(), "whole");
    assert_eq!(peer.answer().text(), "next");
    let mut two = Reader(
        say(&site, &[SETTINGS, &crate::server::http2::get(1, "/")]),
        Vec::new(),
    );
    two.until(|_, data| data == "whole".len());
}
