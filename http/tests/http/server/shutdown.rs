use std::{
    io::Read,
    net::TcpStream,
    time::{Duration, Instant},
};

use entwined_http::{Config, Request, Router, sse, websocket};
use futures_core::Stream;

use crate::{
    server::{
        http2::{Reader, SETTINGS, frame, get, say},
        support::{LIMIT, Peer, Site, config},
    },
    sys::is_turned_away,
};

const SOON: Duration = Duration::from_millis(300);

fn site(config: Config) -> Site {
    Site::with(config, |handle| {
        let handle = handle.clone();
        Router::new()
            .get("/", || async { "hello" })
            .get("/slow", |request: Request| async move {
                request.handle().sleep(SOON).await;
                "finished"
            })
            .get("/never", std::future::pending::<()>)
            .get("/events", move || {
                let response = sse::response(&handle, One(true));
                async { response }
            })
    })
}

/// One event, and then silence.
struct One(bool);

impl Stream for One {
    type Item = sse::Event;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<sse::Event>> {
        match std::mem::take(&mut self.0) {
            true => std::task::Poll::Ready(Some(sse::Event::data("one"))),
            false => std::task::Poll::Pending,
        }
    }
}

/// Sends a request and waits until the server is handling it.
fn begin(site: &Site, path: &str) -> Peer {
    let before = site.ask(|server| server.requests());
    let mut peer = site.peer();
    peer.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
    let start = Instant::now();
    while site.ask(|server| server.requests()) == before {
        assert!(start.elapsed() < LIMIT);
    }
    peer
}

#[test]
fn a_request_that_is_being_answered_finishes_and_its_connection_closes() {
    let site = site(Config::default());
    let mut peer = begin(&site, "/slow");
    site.stop();
    let answer = peer.answer();
    assert_eq!(answer.text(), "finished");
    assert!(answer.closes());
    assert!(peer.ends_in_order());
    drop(peer);
    site.wait_for_end();
}

#[test]
fn nobody_new_is_accepted_while_it_stops() {
    let site = site(Config::default());
    let mut peer = begin(&site, "/slow");
    site.stop();
    site.remote.call(|_| ()).expect("the reactor runs");
    let read = TcpStream::connect(site.address).and_then(|mut stream| stream.read(&mut [0]));
    assert!(is_turned_away(&read), "{read:?}");
    assert_eq!(peer.answer().text(), "finished");
}

/// The server lingered for two seconds on connections that had nothing left to send.
#[test]
fn idle_connections_do_not_hold_the_shutdown_up() {
    let site = site(Config::default());
    let mut used = site.peer();
    assert_eq!(used.get("/").status, 200);
    let mut fresh = site.peer();
    site.wait_until(|server| server.connections() == 2);
    let start = Instant::now();
    site.stop();
    site.wait_for_end();
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert!(used.ends_in_order());
    assert!(fresh.ends_in_order());
}

#[test]
fn a_half_sent_head_does_not_hold_the_shutdown_up_for_its_deadline() {
    let site = site(Config::default());
    let mut first = site.peer();
    first.send("GET / HTTP/1.1\r\nho");
    let mut later = site.peer();
    assert_eq!(later.get("/").status, 200);
    later.send("GET / HTTP/1.1\r\nho");
    site.wait_until(|server| server.connections() == 2);
    let start = Instant::now();
    site.stop();
    site.wait_for_end();
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn events_end_in_order() {
    let site = site(Config::default());
    let mut peer = begin(&site, "/events");
    assert_eq!(peer.head().status, 200);
    assert_eq!(peer.chunk().as_deref(), Some(b"data: one\n\n".as_slice()));
    let start = Instant::now();
    site.stop();
    assert_eq!(peer.chunk(), None, "the last chunk");
    assert!(peer.ends_in_order());
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    drop(peer);
    site.wait_for_end();
}

#[test]
fn what_takes_longer_than_the_grace_is_given_up() {
    let site = site(config(|config| config.shutdown_grace = SOON));
    let mut peer = begin(&site, "/never");
    let start = Instant::now();
    site.stop();
    site.wait_for_end();
    assert!(start.elapsed() >= SOON, "{:?}", start.elapsed());
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    peer.ends_in_order();
}

#[test]
fn a_request_of_a_server_that_was_dropped_finishes_too() {
    let site = site(Config::default());
    let mut slow = begin(&site, "/slow");
    let mut idle = begin(&site, "/");
    assert_eq!(idle.answer().text(), "hello");
    site.drop_server();
    site.stop();
    assert_eq!(slow.answer().text(), "finished");
    assert!(idle.ends_in_order());
    site.wait_for_end();
}

/// It holds nothing once its connections have ended.
#[test]
fn a_server_that_was_dropped_does_not_stay_for_the_end_of_the_run() {
    let site = site(Config::default());
    let slow = begin(&site, "/never");
    site.drop_server();
    drop(slow);
    let start = Instant::now();
    site.stop();
    site.wait_for_end();
    assert!(start.elapsed() < LIMIT);
}

/// As over HTTP/1.1: it ends with the tasks. The request beside it is finished before.
#[test]
fn a_websocket_over_http2_does_not_hold_the_shutdown_up() {
    let site = Site::with(Config::default(), |_| {
        Router::new()
            .get("/slow", |request: Request| async move {
                request.handle().sleep(SOON).await;
                "finished"
            })
            .any("/socket", |request: Request| {
                std::future::ready(websocket::upgrade(request, async |mut socket| {
                    let _ = socket.send("open").await;
                    std::future::pending().await
                }))
            })
    });
    // RFC 8441, 4, with literal headers (RFC 7541, 6.2.2).
    let mut connect = vec![0x02, 7];
    connect.extend_from_slice(b"CONNECT\x00\x09:protocol\x09websocket\x86\x01\x04test");
    connect.extend_from_slice(b"\x04\x07/socket\x00\x15sec-websocket-version\x0213");
    let frames = [SETTINGS, &frame(1, 4, 1, &connect), &get(3, "/slow")];
    let mut peer = Reader(say(&site, &frames), Vec::new());
    peer.until(|_, data| data == b"\x81\x04open".len());
    let start = Instant::now();
    site.stop();
    peer.until(|_, data| data == b"\x81\x04openfinished".len());
    site.wait_for_end();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
}
