use std::{io::Read, time::Duration};

use entwined_http::{Config, Request, Router};

use crate::server::support::{Peer, Site, config};

fn site(config: Config) -> Site {
    Site::with(config, |_| {
        Router::new()
            .get("/", |request: Request| async move {
                request.headers().len().to_string()
            })
            .post("/", || async { "posted" })
    })
}

/// Sends a request in pieces without reading, and returns the status of the answer. The answer must
/// arrive, and the connection must end in order.
fn refusal(site: &Site, pieces: impl IntoIterator<Item = Vec<u8>>) -> u16 {
    let mut peer = site.peer();
    for piece in pieces {
        peer.send(piece);
    }
    let answer = peer.answer();
    assert!(peer.ends_in_order(), "a reset after {}", answer.status);
    answer.status
}

fn head(headers: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\n{headers}\r\n").into_bytes()
}

#[test]
fn a_ten_megabyte_header_is_431_and_the_peer_hears_it() {
    let site = site(Config::default());
    let start = b"GET / HTTP/1.1\r\nhost: test\r\nlarge: ".to_vec();
    let piece = vec![b'x'; 1 << 20];
    let pieces = std::iter::once(start)
        .chain(std::iter::repeat_n(piece, 10))
        .chain([b"\r\n\r\n".to_vec()]);
    assert_eq!(refusal(&site, pieces), 431);
    assert_eq!(site.get("/").status, 200);
}

#[test]
fn a_head_over_the_limit_is_431_and_one_below_it_is_not() {
    let site = site(config(|config| config.max_head_size = 16 * 1024));
    let below = "x".repeat(15 * 1024);
    let mut peer = site.peer();
    assert_eq!(peer.ask("GET", "/", &[("large", &below)], b"").status, 200);
    assert_eq!(
        peer.ask("GET", "/", &[("large", &below)], b"").status,
        200,
        "on the same connection"
    );
    let above = "x".repeat(17 * 1024);
    assert_eq!(
        refusal(&site, [head(&format!("host: test\r\nlarge: {above}\r\n"))]),
        431
    );
    let many: String = (0..90)
        .map(|number| format!("h{number}: {}\r\n", "x".repeat(200)))
        .collect();
    assert_eq!(
        refusal(&site, [head(&format!("host: test\r\n{many}"))]),
        431
    );
}

#[test]
fn too_many_headers_are_431() {
    let headers = |count: usize| {
        (1..count)
            .map(|number| format!("h{number}: x\r\n"))
            .collect::<String>()
    };
    for (limit, site) in [
        (100, site(Config::default())),
        (10, site(config(|config| config.max_headers = 10))),
    ] {
        let mut peer = site.peer();
        peer.send(head(&format!("host: test\r\n{}", headers(limit))));
        assert_eq!(peer.answer().text(), limit.to_string());
        assert_eq!(
            refusal(
                &site,
                [head(&format!("host: test\r\n{}", headers(limit + 1)))]
            ),
            431
        );
    }
}

#[test]
fn a_request_needs_one_host() {
    let site = site(Config::default());
    for headers in [
        "",
        "host: a\r\nhost: b\r\n",
        "host: a\r\nHost: a\r\n",
        "hosts: a\r\n",
    ] {
        let mut peer = site.peer();
        peer.send(head(headers));
        let answer = peer.answer();
        assert_eq!(answer.status, 400, "{headers:?}");
        assert!(
            answer.text().contains("one Host header"),
            "{}",
            answer.text()
        );
        assert!(answer.closes() && peer.ends_in_order(), "{headers:?}");
    }
    // Anything sent on the connection after it is not answered.
    let mut peer = site.peer();
    peer.send([head(""), head("host: test\r\n")].concat());
    assert_eq!(peer.answer().status, 400);
    assert!(peer.ends_in_order());
    // HTTP/1.0 does not have this header.
    let mut peer = site.peer();
    peer.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(peer.answer().status, 200);
}

/// hyper takes `cow, chunked` for chunked.
#[test]
fn a_transfer_coding_other_than_chunked_is_501() {
    let site = site(Config::default());
    for coding in ["cow, chunked", "gzip, chunked"] {
        let mut peer = site.peer();
        peer.send(format!(
            "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: {coding}\r\n\r\n\
             3\r\nabc\r\n0\r\n\r\n"
        ));
        let answer = peer.answer();
        assert_eq!(answer.status, 501, "{coding}");
        assert!(answer.closes() && peer.ends_in_order());
    }
    let mut peer = site.peer();
    peer.send(
        "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
    assert_eq!(peer.answer().text(), "posted");
}

#[test]
fn what_is_no_http_is_400_or_an_end_and_harms_nobody() {
    let site = site(Config {
        head_timeout: Duration::from_secs(2),
        ..Config::default()
    });
    for bytes in [
        "hello\r\n\r\n",
        "GET / HTTP/1.1\r\nbad header\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03",
        "GET / HTTP/9.9\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut peer = site.peer();
        peer.send(bytes);
        let mut said = Vec::new();
        peer.stream
            .read_to_end(&mut said)
            .unwrap_or_else(|error| panic!("{bytes:?}: {error}"));
        // A preface alone is answered with frames.
        let said = String::from_utf8_lossy(&said);
        let status = said.split(' ').nth(1).unwrap_or("");
        assert!(["400", "505", ""].contains(&status), "{bytes:?}: {said}");
    }
    assert_eq!(Peer::connect(site.address).get("/").status, 200);
}
