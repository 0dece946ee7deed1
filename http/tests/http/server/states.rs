//! The server in states that are neither the beginning nor the end.

use std::{collections::BTreeMap, io::Read};

use entwined_http::{Bytes, Error, Form, Json, Multipart, Request, Router, websocket};
use serde_json::Value;

use super::{
    http2::{Reader, SETTINGS, get, say},
    support::{Site, config},
};

const UPGRADE: &[(&str, &str)] = &[
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

#[test]
fn the_last_request_of_a_connection_may_open_a_websocket() {
    let router = |_: &_| {
        Router::new().any("/", |request: Request| {
            std::future::ready(websocket::upgrade(request, async |mut socket| {
                let _ = socket.send("hello").await;
                let _ = socket.close(1000, "").await;
            }))
        })
    };
    let site = Site::with(config(|config| config.max_requests = 1), router);
    let mut peer = site.peer();
    let mut request = "GET / HTTP/1.1\r\nhost: test\r\n".to_owned();
    for (name, value) in UPGRADE {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    peer.send(request);
    let answer = peer.head();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("connection"), Some("upgrade"));
    let mut hello = [0; 7];
    peer.stream.read_exact(&mut hello).expect("a message");
    assert_eq!(&hello, b"\x81\x05hello");
}

/// `Upgrade` is listed in `Connection` (RFC 9110, 7.8).
#[test]
fn the_last_answer_of_a_connection_may_name_a_protocol() {
    let router = |_: &_| {
        Router::new().any("/", |request: Request| {
            std::future::ready(websocket::upgrade(request, async |_| {}))
        })
    };
    let site = Site::with(config(|config| config.max_requests = 1), router);
    let answer = site.get("/");
    assert_eq!(answer.status, 426);
    let options = answer.headers("connection").flat_map(|it| it.split(','));
    let options: Vec<_> = options.map(str::trim).collect();
    assert!(
        options.contains(&"close") && options.contains(&"upgrade"),
        "{}",
        answer.head
    );
}

#[test]
fn the_monitor_may_be_below_any_name() {
    let site = Site::start(|handle| {
        Router::new()
            .nest("/at:noon", entwined_http::monitor(handle))
            .nest("/a/b", entwined_http::monitor(handle))
    });
    for (path, target) in [("/at:noon?x=1", "./at:noon/?x=1"), ("/a/b", "./b/")] {
        let answer = site.get(path);
        assert_eq!(answer.status, 308);
        assert_eq!(answer.header("location"), Some(target));
    }
}

#[test]
fn what_nobody_decodes_is_not_taken_for_the_content() {
    let site = Site::start(|_| {
        Router::new()
            .post("/text", |text: String| text)
            .post("/json", |Json(value): Json<Value>| value.to_string())
            .post("/form", |Form(all): Form<BTreeMap<String, String>>| {
                all.len().to_string()
            })
            .post("/files", async |mut form: Multipart| {
                let mut count = 0;
                while form.next().await?.is_some() {
                    count += 1;
                }
                Ok::<_, Error>(count.to_string())
            })
            .post("/bytes", |bytes: Bytes| bytes)
    });
    for (path, kind, body, expected) in [
        ("/text", "text/plain", "abc", "abc"),
        ("/json", "application/json", "1", "1"),
        ("/form", "application/x-www-form-urlencoded", "a=b", "1"),
        (
            "/files",
            "multipart/form-data; boundary=b",
            "--b--\r\n",
            "0",
        ),
    ] {
        let ask = |codings: &[&str]| {
            let mut headers = vec![("content-type", kind)];
            headers.extend(codings.iter().map(|coding| ("content-encoding", *coding)));
            site.peer().ask("POST", path, &headers, body.as_bytes())
        };
        for plain in [&[][..], &["identity"], &["", "Identity,"]] {
            assert_eq!(ask(plain).text(), expected, "{path} {plain:?}");
        }
        for coded in [&["gzip"][..], &["identity, br"], &["identity", "x"]] {
            let answer = ask(coded);
            assert_eq!(answer.status, 415, "{path} {coded:?}");
            assert_eq!(answer.header("accept-encoding"), Some("identity"));
        }
    }
    // Bytes are the program's to decode.
    let answer = site
        .peer()
        .ask("POST", "/bytes", &[("content-encoding", "gzip")], b"abc");
    assert_eq!(answer.text(), "abc");
}

/// A connection of HTTP/2 ended without an answer.
#[test]
fn limits_of_zero_count_as_one() {
    let config = config(|config| (config.max_requests, config.max_streams) = (0, 0));
    let site = Site::with(config, |_| Router::new().get("/", || "hello"));
    let answer = site.get("/");
    assert!(answer.closes());
    assert_eq!(answer.text(), "hello");
    let mut two = Reader(say(&site, &[SETTINGS, &get(1, "/")]), Vec::new());
    two.until(|_, data| data == b"hello".len());
}
