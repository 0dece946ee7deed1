use std::{
    sync::mpsc,
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use bytes::Bytes;

use entwined_http::{Body, Config, Error, Json, Request, Router};
use serde::{Deserialize, Serialize};

use crate::{
    gate::{Gate, Gated},
    server::{
        streaming::Ticker,
        support::{Peer, Site, config},
    },
};

#[derive(Serialize, Deserialize)]
struct Point {
    x: i32,
    y: i32,
}

fn site(config: Config) -> Site {
    Site::with(config, |_| {
        Router::new()
            .get("/sum", |request: Request| async move {
                let point: Point = request.query()?;
                Ok::<_, Error>((point.x + point.y).to_string())
            })
            .post("/swap", |mut request: Request| async move {
                let Point { x, y } = request.json().await?;
                Ok::<_, Error>(Json(Point { x: y, y: x }))
            })
            .post("/text", |mut request: Request| async move {
                request.text().await
            })
            .post("/length", |mut request: Request| async move {
                request.bytes().await.map(|bytes| bytes.len().to_string())
            })
            .post("/ignore", || async { "not read" })
    })
}

const JSON: &str = "application/json";

#[test]
fn a_query_is_read_and_a_wrong_one_is_400() {
    let site = site(Config::default());
    let mut peer = site.peer();
    assert_eq!(peer.get("/sum?x=2&y=-3").text(), "-1");
    assert_eq!(peer.get("/sum?y=%32&x=1&other=0").text(), "3");
    for (path, said) in [
        ("/sum", "missing field"),
        ("/sum?x=1", "`y`"),
        ("/sum?x=1&y=one", "invalid digit"),
    ] {
        let answer = peer.get(path);
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.text().contains(said), "{path}: {}", answer.text());
    }
}

#[test]
fn json_comes_in_and_goes_out() {
    let site = site(Config::default());
    let mut peer = site.peer();
    for content_type in [
        JSON,
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/geo+json",
    ] {
        let answer = peer.post("/swap", content_type, r#"{"x": 1, "y": 2}"#);
        assert_eq!(
            (answer.status, answer.text()),
            (200, r#"{"x":2,"y":1}"#),
            "{content_type}"
        );
        assert_eq!(answer.header("content-type"), Some(JSON));
    }
}

#[test]
fn wrong_json_is_400_415_or_422_and_the_connection_goes_on() {
    let site = site(Config::default());
    let mut peer = site.peer();
    for (content_type, body, status, said) in [
        (JSON, r#"{"x": 1,"#, 400, "line 1 column 8"),
        (JSON, "", 400, "EOF"),
        (JSON, r#"{"x": 1, "y": 2} more"#, 400, "trailing"),
        (JSON, r#"{"x": 1}"#, 422, "missing field `y`"),
        (JSON, r#"{"x": 1, "y": "two"}"#, 422, "invalid type"),
        ("text/plain", r#"{"x": 1, "y": 2}"#, 415, JSON),
        ("application/jsonx", r#"{"x": 1, "y": 2}"#, 415, JSON),
    ] {
        let answer = peer.post("/swap", content_type, body);
        assert_eq!(answer.status, status, "{content_type} {body}");
        assert!(answer.text().contains(said), "{body}: {}", answer.text());
        assert!(!answer.closes(), "{content_type} {body}");
    }
    assert_eq!(
        peer.ask("POST", "/swap", &[], b"{}").status,
        415,
        "no content type"
    );
    assert_eq!(peer.ask("POST", "/text", &[], b"\xff").status, 400);
    assert_eq!(peer.post("/swap", JSON, r#"{"x": 1, "y": 2}"#).status, 200);
}

fn chunked(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n")
}

#[test]
fn a_chunked_body_is_put_together() {
    let site = site(Config::default());
    let mut peer = site.peer();
    peer.send(chunked("/text"));
    peer.send("3\r\nabc\r\n");
    peer.send("A;name=value\r\n0123456789\r\n0\r\nsome: trailer\r\n\r\n");
    assert_eq!(peer.answer().text(), "abc0123456789");
    assert_eq!(peer.post("/text", "text/plain", "next").text(), "next");
}

#[test]
fn a_body_over_the_limit_is_413_with_either_framing() {
    let site = site(config(|config| config.max_body_size = 1000));
    let body = "x".repeat(1000);
    let mut peer = site.peer();
    assert_eq!(peer.post("/length", "text/plain", &body).text(), "1000");
    peer.send(chunked("/length") + &format!("3E8\r\n{body}\r\n0\r\n\r\n"));
    assert_eq!(peer.answer().text(), "1000");

    let answer = peer.post("/length", "text/plain", &(body.clone() + "x"));
    assert_eq!(answer.status, 413);
    assert!(
        answer.text().contains("at most 1000 bytes"),
        "{}",
        answer.text()
    );

    let mut peer = site.peer();
    peer.send(chunked("/length") + &format!("3E9\r\n{body}x\r\n0\r\n\r\n"));
    assert_eq!(peer.answer().status, 413);
}

/// A peer that reads only after it has sent everything must get the answer, not a reset that
/// overtakes it.
#[test]
fn a_peer_that_sends_ten_megabytes_too_many_hears_the_413() {
    let site = site(config(|config| config.max_body_size = 1000));
    let body = vec![b'x'; 10 << 20];
    let mut peer = site.peer();
    peer.send(format!(
        "POST /length HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ));
    peer.send(&body);
    assert_eq!(peer.answer().status, 413);
    assert!(peer.ends_in_order());

    let mut peer = site.peer();
    peer.send(chunked("/length"));
    for piece in body.chunks(64 * 1024) {
        peer.send([b"10000\r\n", piece, b"\r\n"].concat());
    }
    peer.send("0\r\n\r\n");
    assert_eq!(peer.answer().status, 413);
    assert!(peer.ends_in_order());
}

#[test]
fn a_body_that_nobody_reads_does_not_become_the_next_request() {
    let site = site(Config::default());
    let trap = "GET /sum?x=1&y=1 HTTP/1.1\r\nhost: test\r\n\r\n".repeat(2000);
    let mut peer = site.peer();
    let answer = peer.post("/ignore", "text/plain", &trap);
    assert_eq!(answer.text(), "not read");
    assert!(peer.ends_in_order());
}

#[test]
fn expect_100_continue_is_answered_when_the_body_is_wanted() {
    let site = site(config(|config| config.max_body_size = 5));
    let ask = |length: usize| {
        format!(
            "POST /text HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\n\
             content-length: {length}\r\n\r\n"
        )
    };
    let mut peer = site.peer();
    peer.send(ask(5));
    assert_eq!(peer.head().status, 100);
    peer.send("hello");
    assert_eq!(peer.answer().text(), "hello");

    let mut peer = site.peer();
    peer.send(ask(6));
    assert_eq!(peer.answer().status, 413);
}

const SOON: Duration = Duration::from_millis(300);

#[test]
fn a_body_that_does_not_come_in_time_is_408() {
    let site = site(config(|config| config.body_timeout = SOON));
    for start in [
        "POST /text HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\nabc".to_owned(),
        chunked("/text") + "3\r\nabc\r\n",
    ] {
        let mut peer = site.peer();
        let begin = Instant::now();
        peer.send(&start);
        let answer = peer.answer();
        assert_eq!(answer.status, 408, "{start}");
        assert!(begin.elapsed() >= SOON, "after {:?}", begin.elapsed());
        assert!(answer.text().contains("too long"), "{}", answer.text());
        assert!(peer.ends_in_order());
    }
}

#[test]
fn a_body_that_breaks_off_or_is_malformed_harms_nobody_else() {
    let site = site(Config::default());
    for start in [
        "5\r\nab",
        "5\r\nhelloXX3\r\n",
        "zz\r\n",
        "-1\r\n",
        "ffffffffffffffffff\r\n",
    ] {
        let mut peer = site.peer();
        peer.send(chunked("/text") + start);
        peer.stream
            .get_ref()
            .shutdown(std::net::Shutdown::Write)
            .expect("it is open");
        // With an answer or without one, the connection ends.
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut peer.stream, &mut rest);
        let said = String::from_utf8_lossy(&rest);
        assert!(
            rest.is_empty() || said.starts_with("HTTP/1.1 400"),
            "{start}: {said}"
        );
    }
    assert_eq!(Peer::connect(site.address).get("/sum?x=1&y=1").text(), "2");
}

/// The response was cut where the peer had not taken it yet, and the connection ended in order.
#[test]
fn a_large_response_to_an_upload_that_nobody_reads_comes_whole() {
    const LARGE: usize = 16 << 20;
    let site = Site::start(|_| {
        let pieces = || async {
            let mut left = LARGE / 4096;
            Body::stream(Ticker::endless(move || {
                left = left.checked_sub(1)?;
                Some(Bytes::from(vec![b'x'; 4096]))
            }))
        };
        Router::new()
            .post("/bytes", || vec![b'x'; LARGE])
            .post("/stream", pieces)
    });
    for path in ["/bytes", "/stream"] {
        for (framing, begin) in [
            ("content-length: 1000000", "part"),
            ("transfer-encoding: chunked", "4\r\npart\r\n"),
        ] {
            let mut peer = site.peer();
            peer.send(format!(
                "POST {path} HTTP/1.1\r\nhost: test\r\n{framing}\r\n\r\n{begin}"
            ));
            assert_eq!(peer.answer().body.len(), LARGE, "{path}, {framing}");
        }
    }
}

/// The next call returned the rest as the whole body.
#[test]
fn a_body_that_was_given_up_half_way_is_not_cut_off() {
    let (tell, told) = mpsc::channel();
    let site = Site::start(|_| {
        Router::new().post("/{how}", move |mut request: Request| {
            let tell = tell.clone();
            async move {
                let handle = request.handle().clone();
                let given_up = handle.timeout(Duration::from_millis(50), request.bytes());
                assert!(given_up.await.is_err(), "half of it is missing");
                let _ = tell.send(());
                if request.param("how") == Some("whole") {
                    return request.text().await;
                }
                let mut all = Vec::new();
                while let Some(chunk) = request.chunk().await? {
                    all.extend(chunk);
                }
                Ok(String::from_utf8_lossy(&all).into_owned())
            }
        })
    });
    for path in ["/whole", "/pieces"] {
        let mut peer = site.peer();
        peer.send(format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nfirst"
        ));
        told.recv().expect("it was given up");
        peer.send(" half");
        assert_eq!(peer.answer().text(), "first half", "{path}");
    }
}

#[test]
fn a_body_that_has_failed_does_not_end_well_the_next_time() {
    let site = Site::start(|_| {
        Router::new().post("/", async |mut request: Request| {
            let first = request.bytes().await.is_err();
            let next = request.bytes().await.is_err();
            format!("{first} {next}")
        })
    });
    let mut peer = site.peer();
    peer.send(chunked("/") + "5\r\nhello\r\nzz\r\n");
    assert_eq!(peer.answer().text(), "true true");
}

/// Values of many parts take long to drop: 31 ms for a `serde_json::Value` of 2 MiB.
#[test]
fn a_value_that_nobody_waits_for_any_more_is_dropped_on_a_thread() {
    static GATE: Gate = Gate::new();
    /// The handler's future, which says on which thread it is dropped.
    struct Asked(mpsc::Sender<ThreadId>);
    impl Drop for Asked {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }
    #[derive(Deserialize)]
    struct Value(
        #[serde(deserialize_with = "read")]
        #[expect(dead_code)]
        Gated,
    );
    fn read<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Gated, D::Error> {
        GATE.read(from)
    }
    let (asked, gone) = mpsc::channel();
    let site = Site::start(move |_| {
        Router::new().post("/", move |mut request: Request| {
            let asked = Asked(asked.clone());
            async move {
                let value = request.json::<Value>().await.map(drop);
                drop(asked);
                value
            }
        })
    });
    let keys = GATE.keys();
    let mut peer = site.peer();
    let body = format!("{:?}", "x".repeat(100_000));
    peer.send(format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    keys.until_begun();
    drop(peer);
    let reactor = gone
        .recv_timeout(Duration::from_secs(10))
        .expect("it is dropped");
    assert_ne!(keys.dropped(), reactor);
}
