use std::{
    io::Read,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use entwined_http::{Body, Config, Router};

use crate::server::{
    streaming::Ticker,
    support::{LIMIT, Peer, Site, config},
};

const SOON: Duration = Duration::from_millis(300);
/// How much later than a deadline its effect may be seen on a busy machine.
const LATE: Duration = Duration::from_secs(3);

fn site(config: Config) -> Site {
    Site::with(config, |handle| {
        let handle = handle.clone();
        Router::new()
            .get("/", || async { "hello" })
            .get("/large", || async { vec![b'x'; LARGE] })
            .get("/large-stream", || async {
                let piece = Bytes::from(vec![b'x'; 64 * 1024]);
                Body::stream(Ticker::endless(move || Some(piece.clone())))
            })
            .get("/slow", move || {
                let handle = handle.clone();
                async move {
                    handle.sleep(SOON * 3).await;
                    "late"
                }
            })
    })
}

/// More than any pair of sockets buffers.
const LARGE: usize = 64 << 20;

fn took_about(begin: Instant, time: Duration) {
    let took = begin.elapsed();
    assert!(took >= time.mul_f64(0.9), "only {took:?}");
    assert!(took < time + LATE, "{took:?}");
}

#[test]
fn a_peer_that_says_nothing_is_told_408() {
    let site = site(config(|config| config.head_timeout = SOON));
    let begin = Instant::now();
    let mut peer = site.peer();
    let answer = peer.answer();
    assert_eq!(answer.status, 408);
    // RFC 9110, 6.6.1.
    assert!(answer.header("date").is_some(), "{}", answer.head);
    took_about(begin, SOON);
    assert!(peer.ends_in_order());
}

/// A head that arrives byte by byte, each byte well within the deadline. The head as a whole must
/// meet the deadline, too.
#[test]
fn a_head_that_trickles_in_is_408() {
    let site = site(config(|config| config.head_timeout = SOON));
    let begin = Instant::now();
    let mut peer = site.peer();
    let mut trickling = peer.stream.get_ref().try_clone().expect("an fd");
    let writer = thread::spawn(move || {
        let head = b"GET / HTTP/1.1\r\nhost: test\r\nnever: "
            .iter()
            .chain(std::iter::repeat(&b'x'));
        for byte in head {
            if std::io::Write::write_all(&mut trickling, &[*byte]).is_err()
                || begin.elapsed() > LIMIT
            {
                return;
            }
            // The pace of the attack, not a wait for something.
            thread::sleep(Duration::from_millis(10));
        }
    });
    let answer = peer.answer();
    assert_eq!(answer.status, 408);
    assert!(answer.closes());
    took_about(begin, SOON);
    assert!(peer.ends_in_order(), "a reset may overtake the answer");
    drop(peer);
    writer.join().expect("it stops when the connection ends");
}

#[test]
fn the_head_of_a_later_request_has_its_own_deadline() {
    let site = site(config(|config| config.head_timeout = SOON));
    let mut peer = site.peer();
    // Idle for longer than a head may take, but shorter than a connection may be idle.
    assert_eq!(peer.get("/").status, 200);
    assert!(peer.hears_nothing_for(SOON * 2));
    assert_eq!(peer.get("/").status, 200);
    let begin = Instant::now();
    peer.send("GET / HTTP/1.1\r\nhost:");
    assert_eq!(peer.answer().status, 408);
    took_about(begin, SOON);
}

#[test]
fn an_idle_connection_is_closed_in_order_and_without_a_word() {
    let site = site(config(|config| config.idle_timeout = SOON));
    let mut peer = site.peer();
    assert_eq!(peer.get("/").status, 200);
    let begin = Instant::now();
    assert!(peer.ends_in_order());
    took_about(begin, SOON);
    site.wait_until(|server| server.connections() == 0);
}

#[test]
fn an_idle_connection_that_is_over_gives_its_place_up_at_once() {
    let site = site(config(|config| {
        config.idle_timeout = SOON;
        config.max_connections = 1;
    }));
    // This peer does not close its end, which must not affect the next one.
    let mut idle = site.peer();
    assert_eq!(idle.get("/").status, 200);
    let begin = Instant::now();
    assert_eq!(site.get("/").status, 200);
    assert!(
        begin.elapsed() < SOON + Duration::from_secs(1),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn no_deadline_ends_a_request_that_is_being_answered() {
    let site = site(config(|config| {
        config.head_timeout = SOON;
        config.idle_timeout = SOON;
        config.write_timeout = SOON;
    }));
    let mut peer = site.peer();
    assert_eq!(peer.get("/slow").text(), "late");
    assert_eq!(peer.get("/").status, 200);
}

#[test]
fn a_peer_that_does_not_read_is_ended() {
    for path in ["/large", "/large-stream"] {
        let site = site(config(|config| config.write_timeout = SOON));
        let mut peer = site.peer();
        let begin = Instant::now();
        peer.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        assert_eq!(peer.head().status, 200);
        site.wait_until(|server| server.connections() == 0);
        took_about(begin, SOON);
        // The body is incomplete, so the peer must not take it for the whole.
        let mut rest = Vec::new();
        let result = peer.stream.read_to_end(&mut rest);
        assert!(
            result.is_err()
                || path == "/large" && rest.len() < LARGE
                || !rest.ends_with(b"\r\n0\r\n\r\n")
        );
    }
}

/// Reads `total` bytes in pieces, with pauses. The whole takes longer than any deadline, but no
/// single pause does.
fn read_slowly(peer: &mut Peer, total: usize) -> usize {
    let mut buffer = vec![0; total / 8];
    let mut read = 0;
    while read < total {
        // The pace of the peer, not a wait for something.
        thread::sleep(SOON / 2);
        let room = buffer.len().min(total - read);
        match peer.stream.read_exact(&mut buffer[..room]) {
            Ok(()) => read += room,
            Err(error) => panic!("it ended after {read} of {total} bytes: {error}"),
        }
    }
    read
}

/// The idle time of a connection started when the server had written the last bytes of a response
/// into its own buffers, so a slow download was cut off.
#[test]
fn a_slow_download_is_not_taken_for_an_idle_connection() {
    let site = site(config(|config| {
        config.idle_timeout = SOON;
        config.write_timeout = LIMIT;
    }));
    let mut peer = site.peer();
    peer.send("GET /large HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(peer.head().status, 200);
    assert_eq!(read_slowly(&mut peer, LARGE), LARGE);
    assert!(peer.ends_in_order(), "idle in the end");
}

/// A peer that sent a part of its next request while it still read the last response got a 408 in
/// the middle of that response.
#[test]
fn a_slow_next_head_does_not_break_into_a_response() {
    let site = site(config(|config| {
        config.head_timeout = SOON;
        config.write_timeout = LIMIT;
    }));
    let mut peer = site.peer();
    peer.send("GET /large HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(peer.head().status, 200);
    peer.send("GET / HTTP/1.1\r\n");
    assert_eq!(read_slowly(&mut peer, LARGE), LARGE);
    // It does not matter here whether there was time left for the next head.
    peer.send("host: test\r\n\r\n");
    assert!([200, 408].contains(&peer.answer().status));
}

/// A byte now and then is not silence, but it is too slow.
#[test]
fn senders_and_readers_have_a_least_rate() {
    use entwined_http::Request;

    let slow = config(|config: &mut Config| {
        (config.min_rate, config.rate_grace) = (1_000, Duration::from_millis(200));
    });
    let site = Site::with(slow, |_| {
        Router::new().post("/pieces", |mut request: Request| async move {
            let mut length = 0;
            while let Some(piece) = request.chunk().await? {
                length += piece.len();
            }
            Ok::<_, entwined_http::Error>(length.to_string())
        })
    });
    let begin = "POST /pieces HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\n";
    let mut slow = site.peer();
    slow.send(begin);
    let start = Instant::now();
    // 100 bytes a second.
    while start.elapsed() < Duration::from_secs(10)
        && slow.hears_nothing_for(Duration::from_millis(10))
    {
        slow.send("x");
    }
    assert_eq!(slow.answer().status, 408);
    assert!(
        start.elapsed() >= Duration::from_millis(200),
        "{:?}",
        start.elapsed()
    );
    let mut fast = site.peer();
    fast.send(begin);
    for _ in 0..100 {
        fast.send("x".repeat(1_000));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(fast.answer().text(), "100000");
    // The server sees only what the system's buffers take, which is several megabytes at first. So
    // the minimum rate for a reader is much higher here.
    let config = config(|config: &mut Config| {
        (config.min_rate, config.rate_grace) = (20_000_000, Duration::from_millis(200));
        (config.head_timeout, config.write_timeout) =
            (Duration::from_millis(300), Duration::from_secs(60));
    });
    let site = Site::with(config, |_| {
        Router::new().get("/large", || vec![b'x'; 64 << 20])
    });
    // Uses memory that is already allocated: on some machines, allocating so much takes longer than
    // the grace period.
    let mut fast = site.peer();
    fast.send("GET /large HTTP/1.1\r\nhost: test\r\n\r\n");
    fast.head();
    let mut piece = vec![0; 1 << 20];
    for _ in 0..64 {
        fast.stream
            .read_exact(&mut piece)
            .expect("a fast reader gets all of it");
    }
    drop(fast);
    let mut reader = site.peer();
    reader.send("GET /large HTTP/1.1\r\nhost: test\r\n\r\n");
    reader.head();
    let start = Instant::now();
    let mut little = [0; 10];
    let mut dribbles = 0_u64;
    while site.ask(|server| server.connections()) > 0 && start.elapsed() < Duration::from_secs(15) {
        let _ = reader.stream.read_exact(&mut little);
        dribbles += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{dribbles} times ten bytes were enough"
    );
}

#[test]
fn a_connection_has_so_many_requests() {
    let site = Site::with(
        config(|config: &mut Config| config.max_requests = 3),
        |_| Router::new().get("/", || "hello"),
    );
    let mut peer = site.peer();
    assert!(!peer.get("/").closes() && !peer.get("/").closes());
    assert!(peer.get("/").closes());
    assert!(peer.ends_in_order());
}
