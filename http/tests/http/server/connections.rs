use std::{
    io::Read,
    net::{Shutdown, TcpStream},
    time::Duration,
};

use bytes::Bytes;

use entwined_http::{Body, Config, Error, Request, Router};

use crate::{
    server::{
        streaming::Ticker,
        support::{Peer, Site, config},
    },
    sys::is_turned_away,
};

fn site(config: Config) -> Site {
    Site::with(config, |_| {
        Router::new()
            .get("/{name}", |request: Request| async move {
                request.param("name").unwrap_or("").to_owned()
            })
            .post("/body", |mut request: Request| async move {
                Ok::<_, Error>(request.bytes().await?.len().to_string())
            })
    })
}

#[test]
fn a_connection_is_kept_alive_unless_the_peer_wants_it_closed() {
    let site = site(Config::default());
    let mut peer = site.peer();
    for number in 0..100 {
        assert_eq!(peer.get(&format!("/{number}")).text(), number.to_string());
    }
    assert_eq!(site.ask(|server| server.connections()), 1);
    let answer = peer.ask("GET", "/last", &[("connection", "close")], b"");
    assert!(answer.closes());
    assert!(peer.ends_in_order());

    let mut peer = site.peer();
    peer.send("GET /old HTTP/1.0\r\n\r\n");
    assert_eq!(peer.answer().text(), "old");
    assert!(peer.ends_in_order());

    let mut peer = site.peer();
    for _ in 0..2 {
        peer.send("GET /old HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
        let answer = peer.answer();
        assert_eq!(
            (answer.text(), answer.header("connection")),
            ("old", Some("keep-alive"))
        );
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let site = site(Config::default());
    let mut peer = site.peer();
    let mut requests = String::new();
    for number in 0..500 {
        requests += &format!("GET /{number} HTTP/1.1\r\nhost: test\r\n\r\n");
        requests += "POST /body HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\n\r\nabc";
    }
    peer.send(requests);
    for number in 0..500 {
        assert_eq!(peer.answer().text(), number.to_string());
        assert_eq!(peer.answer().text(), "3");
    }
}

fn ends_its_direction(peer: &Peer) {
    peer.stream
        .get_ref()
        .shutdown(Shutdown::Write)
        .expect("it is open");
}

/// hyper reads ahead for the end of the peer's input and then drops the response that it is working
/// on. So a peer that sent a request and shut down its sending side (`printf ... | nc -N`) got an
/// answer or none, depending on chance.
#[test]
fn a_peer_that_ends_its_direction_still_gets_its_answers() {
    let site = site(Config::default());
    for _ in 0..20 {
        let mut peer = site.peer();
        peer.send("GET /one HTTP/1.1\r\nhost: test\r\n\r\n");
        ends_its_direction(&peer);
        assert_eq!(peer.answer().text(), "one");
        assert!(peer.ends_in_order());

        let mut peer = site.peer();
        peer.send(
            "POST /body HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\n\r\nabc\
             GET /two HTTP/1.1\r\nhost: test\r\n\r\n",
        );
        ends_its_direction(&peer);
        assert_eq!(peer.answer().text(), "3");
        assert_eq!(peer.answer().text(), "two");
        assert!(peer.ends_in_order());
    }
}

#[test]
fn a_peer_that_ends_its_direction_still_gets_a_download() {
    const LARGE: usize = 32 << 20;
    let site = Site::start(|_| {
        Router::new()
            .get("/bytes", || async { vec![b'x'; LARGE] })
            .get("/stream", || async {
                let mut left = LARGE / 4096;
                Body::stream(Ticker::endless(move || {
                    left = left.checked_sub(1)?;
                    Some(Bytes::from(vec![b'x'; 4096]))
                }))
            })
    });
    for path in ["/bytes", "/stream"] {
        let mut peer = site.peer();
        peer.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        ends_its_direction(&peer);
        assert_eq!(peer.answer().body.len(), LARGE);
        assert!(peer.ends_in_order());
    }
    site.wait_until(|server| server.connections() == 0);
}

#[test]
fn requests_in_single_bytes_are_understood() {
    let site = site(Config::default());
    let mut peer = site.peer();
    for byte in b"POST /body HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n\
                  3\r\nabc\r\n0\r\n\r\n"
    {
        peer.send([*byte]);
    }
    assert_eq!(peer.answer().text(), "3");
}

#[test]
fn beyond_the_limit_the_next_peer_waits_until_one_ends() {
    let site = site(config(|config| config.max_connections = 2));
    let (mut one, mut two) = (site.peer(), site.peer());
    assert_eq!(one.get("/one").text(), "one");
    assert_eq!(two.get("/two").text(), "two");
    let mut three = site.peer();
    three.send("GET /three HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(three.hears_nothing_for(Duration::from_millis(200)));
    assert_eq!(site.ask(|server| server.connections()), 2);
    assert_eq!(one.get("/one").text(), "one", "those that are there go on");
    drop(one);
    assert_eq!(three.answer().text(), "three");
    assert_eq!(site.ask(|server| server.connections()), 2);
}

#[test]
fn a_thousand_connections_leave_nothing_behind() {
    let site = site(Config::default());
    assert_eq!(site.get("/warm").text(), "warm");
    site.wait_until(|server| server.connections() == 0);
    let before = site
        .remote
        .call(|handle| handle.metrics())
        .expect("it runs");
    for round in 0..1000 {
        let mut peer = site.peer();
        match round % 4 {
            0 => assert_eq!(peer.get("/a").text(), "a"),
            1 => peer.send("GET /half HTTP/1.1\r\n"),
            2 => peer.send("POST /body HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nabc"),
            _ => {}
        }
    }
    site.wait_until(|server| server.connections() == 0);
    let after = site
        .remote
        .call(|handle| handle.metrics())
        .expect("it runs");
    assert_eq!(
        (after.sources, after.timers, after.tasks),
        (before.sources, before.timers, before.tasks)
    );
}

#[test]
fn dropping_the_server_stops_accepting_and_leaves_the_others_alone() {
    let site = site(Config::default());
    let mut peer = site.peer();
    assert_eq!(peer.get("/before").text(), "before");
    site.drop_server();
    // The listener is dropped in the next turn.
    site.remote.call(|_| ()).expect("the reactor runs");
    let read = TcpStream::connect(site.address).and_then(|mut stream| stream.read(&mut [0]));
    assert!(is_turned_away(&read), "{read:?}");
    assert_eq!(peer.get("/after").text(), "after");
}

/// The largest number is how one says that there is no limit.
#[test]
fn no_limit_is_too_large() {
    let unlimited = Config {
        max_connections: usize::MAX,
        http2: true,
        max_streams: u32::MAX,
        max_head_size: usize::MAX,
        max_headers: usize::MAX,
        max_body_size: usize::MAX,
        min_rate: u32::MAX,
        max_requests: u64::MAX,
        ..Config::default()
    };
    for max_head_size in [usize::MAX, 1 << 32, 1 << 16] {
        let config = Config {
            max_head_size,
            ..unlimited
        };
        let site = Site::with(config, |_| {
            Router::new().post("/", |text: String| async { text })
        });
        let mut peer = site.peer();
        let answer = peer.post("/", "text/plain", "hello");
        assert_eq!((answer.status, answer.text()), (200, "hello"));
        // More than a map of headers can have.
        let head = format!(
            "POST / HTTP/1.1\r\nhost: test\r\n{}\r\n",
            "a:\r\n".repeat(30_000)
        );
        if peer.try_send(head) {
            assert_eq!(peer.answer().status, 431);
        }
        let mut curl = std::process::Command::new("curl");
        let url = format!("http://{}/", site.address);
        let output = curl
            .args(["-s", "--http2-prior-knowledge", "-d", "hello", &url])
            .output()
            .expect("apt-get install curl");
        assert_eq!(output.stdout, b"hello", "{max_head_size}");
    }
}
