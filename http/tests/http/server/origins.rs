//! Pages of other sites, and WebSockets.

use entwined_http::{
    Request, Router,
    websocket::{self, Config, WebSocket},
};

use crate::server::support::Site;

#[test]
fn only_pages_of_the_server_open_websockets_unless_others_are_allowed() {
    let talk = |_: WebSocket| async {};
    let site = Site::start(move |_| {
        let friends = move |request: Request| {
            let origins = vec!["https://friend.example/".to_owned()];
            websocket::upgrade_with(
                request,
                Config {
                    origins,
                    ..Config::default()
                },
                talk,
            )
        };
        let all = move |request: Request| {
            let origins = vec!["*".to_owned()];
            websocket::upgrade_with(
                request,
                Config {
                    origins,
                    ..Config::default()
                },
                talk,
            )
        };
        Router::new()
            .get("/", move |request: Request| {
                websocket::upgrade(request, talk)
            })
            .get("/friends", friends)
            .get("/all", all)
    });
    let open = |path: &str, host: &str, origins: &[&str]| {
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        );
        for origin in origins {
            request.push_str(&format!("origin: {origin}\r\n"));
        }
        let mut peer = site.peer();
        peer.send(request + "\r\n");
        peer.head().status
    };
    for (host, origin, status) in [
        ("localhost:8080", "http://localhost:8080", 101),
        ("LocalHost.:8080", "https://localhost:8080", 101),
        ("localhost", "http://localhost", 101),
        ("localhost", "http://localhost:80", 101),
        ("localhost:443", "https://localhost", 101),
        ("[::1]:1", "http://[0:0::1]:1", 101),
        ("localhost:8080", "http://localhost:8081", 403),
        ("localhost:8080", "http://localhost", 403),
        ("localhost", "https://evil.example", 403),
        ("localhost", "https://localhost.evil.example", 403),
        ("localhost", "https://evil.example@localhost", 403),
        ("localhost", "file://localhost", 403),
        ("localhost", "chrome-extension://localhost", 403),
        ("localhost", "null", 403),
        ("localhost", "", 403),
        ("localhost", "*", 403),
        ("localhost", "localhost", 403),
        ("", "http://", 403),
        ("", "", 403),
    ] {
        assert_eq!(open("/", host, &[origin]), status, "{origin} to {host}");
        assert_eq!(open("/all", host, &[origin]), 101, "{origin}");
    }
    assert_eq!(open("/", "localhost", &[]), 101);
    assert_eq!(
        open(
            "/",
            "localhost",
            &["http://localhost", "http://evil.example"]
        ),
        403
    );
    assert_eq!(
        open("/friends", "localhost", &["https://friend.example"]),
        101
    );
    assert_eq!(
        open("/friends", "localhost", &["https://FRIEND.example:443"]),
        101
    );
    assert_eq!(
        open("/friends", "localhost", &["http://friend.example"]),
        403
    );
    assert_eq!(
        open("/friends", "localhost", &["https://friend.example.evil"]),
        403
    );
    assert_eq!(open("/friends", "localhost", &["http://localhost"]), 101);
}

#[test]
fn a_426_says_what_to_upgrade_to() {
    let site = Site::start(|_| {
        Router::new().get("/", |request: Request| {
            websocket::upgrade(request, |_| async {})
        })
    });
    let plain = site.get("/");
    assert_eq!(
        (plain.status, plain.header("upgrade")),
        (426, Some("websocket"))
    );
    assert_eq!(plain.header("connection"), Some("upgrade"));
    let old = site.peer().ask(
        "GET",
        "/",
        &[
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "8"),
        ],
        b"",
    );
    assert_eq!(
        (old.status, old.header("upgrade")),
        (426, Some("websocket"))
    );
    assert_eq!(old.header("sec-websocket-version"), Some("13"));
}
