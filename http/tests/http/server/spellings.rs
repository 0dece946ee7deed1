//! However a client spells a path or a host, it does not come past a guard.

use std::{fs, io::Read, io::Write};

use entwined_http::{
    Error, Files, Next, Path, Request, Response, Router,
    layers::{self, same_secret},
};

use crate::server::support::{Answer, Peer, Site};

const SECRET: &str = "the secret";

/// Asks with exactly this target and host.
fn ask(site: &Site, target: &[u8], host: &str) -> Answer {
    let mut peer = site.peer();
    peer.send(
        [
            b"GET ",
            target,
            b" HTTP/1.1\r\nhost: ",
            host.as_bytes(),
            b"\r\n\r\n",
        ]
        .concat(),
    );
    peer.answer()
}

/// A small generator (xorshift), so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % count as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// Spells a path in another way; some of these are other paths, and some none at all.
    fn spell(&mut self, path: &str) -> Vec<u8> {
        let mut spelled = Vec::new();
        for byte in path.bytes() {
            match (byte, self.below(6)) {
                (b'/', 0) => spelled.extend(
                    self.one(&[
                        "//",
                        "/./",
                        "/x/../",
                        "/%2e/",
                        "/x/%2E./",
                        "%2F",
                        "%2f",
                        "\\",
                        "%5c",
                        "/;a/..;/",
                        "/%00",
                        "/..;/",
                        "%c0%af",
                        "%e0%80%af",
                        "/.//",
                        "///",
                        "/%20/../",
                        ";/",
                        "/;/",
                        "%252f",
                        "/../",
                    ])
                    .bytes(),
                ),
                (_, 0 | 1) if byte != b'/' => spelled.extend(format!("%{byte:02x}").bytes()),
                (_, 2) if byte != b'/' => spelled.extend(format!("%{byte:02X}").bytes()),
                (_, 3) if self.below(20) == 0 => spelled.extend(format!("%25{byte:02X}").bytes()),
                _ => spelled.push(byte),
            }
        }
        if self.below(8) == 0 {
            spelled.extend(
                self.one(&["/", "//", "/.", "/x/..", "?", ";", "%00", "#", "."])
                    .bytes(),
            );
        }
        if self.below(16) == 0 {
            spelled.splice(0..0, *b"http://other");
        }
        if spelled[0] != b'/' && !spelled.starts_with(b"http") {
            spelled.insert(0, b'/');
        }
        spelled
    }
}

async fn guard(_: Request, _: Next) -> Result<Response, Error> {
    Err(Error::new(entwined_http::StatusCode::FORBIDDEN, "guarded"))
}

#[test]
fn no_spelling_of_a_guarded_path_passes_the_guard() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().to_owned();
    for name in ["private", "pr;v", "é x", "a+b"] {
        fs::create_dir(root.join(name)).expect("a folder");
        fs::write(root.join(name).join("x"), SECRET).expect("a file");
    }
    let site = Site::start(move |_| {
        let shut = || Router::new().any("/{*rest}", || "never").layer(guard);
        let read = {
            let root = root.clone();
            move |Path(name): Path<String>| {
                fs::read_to_string(root.join(name)).map_err(Error::internal)
            }
        };
        let below = {
            let root = root.clone();
            move |request: Request| {
                let decoded = decode(request.path_below());
                fs::read(root.join(decoded.trim_start_matches('/'))).map_err(Error::internal)
            }
        };
        let files = Files::new(&root);
        let nested = Router::new()
            .nest("/private", shut())
            .nest("/pr;v", shut())
            .nest("/é x", shut())
            .nest("/%61+b", shut());
        Router::new()
            .nest("/files/private", shut())
            .nest("/files/pr;v", shut())
            .nest("/files/%c3%a9%20x", shut())
            .nest("/files/a+b", shut())
            .mount("/files", files.clone())
            .nest("/nested", nested.clone().fallback(files.clone()))
            .merge(
                Router::new()
                    .get("/merged/private/{*rest}", || "never")
                    .get("/merged/pr;v/{*rest}", || "never")
                    .get("/merged/é x/{*rest}", || "never")
                    .get("/merged/a+b/{*rest}", || "never")
                    .layer(guard),
            )
            .get("/merged/{*path}", read.clone())
            .nest("/one/private", shut())
            .nest("/one/pr;v", shut())
            .nest("/one/é x", shut())
            .nest("/one/a+b", shut())
            .get("/one/{name}", read)
            .nest("/own/private", shut())
            .nest("/own/pr;v", shut())
            .nest("/own/é x", shut())
            .nest("/own/a+b", shut())
            .mount("/own", below)
            .nest("/private", shut())
            .nest("/pr;v", shut())
            .nest("/é x", shut())
            .nest("/a+b", shut())
            .fallback(files)
    });
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut reached = 0;
    for round in 0..6_000 {
        let name = dice.one(&["private", "pr;v", "é x", "a+b"]);
        let prefix = dice.one(&["/files", "/nested", "/merged", "/one", "/own", ""]);
        let path = format!("{prefix}/{name}/x");
        let target = if round < 24 {
            path.replace(' ', "%20").into()
        } else {
            dice.spell(&path)
        };
        if target.contains(&b' ') {
            continue;
        }
        let answer = ask(&site, &target, "test");
        let shown = String::from_utf8_lossy(&target).into_owned();
        assert!(
            !answer
                .body
                .windows(SECRET.len())
                .any(|part| part == SECRET.as_bytes()),
            "{shown} gives the secret"
        );
        reached += usize::from(answer.status == 403);
        assert!(
            matches!(answer.status, 400 | 403 | 404 | 308 | 500),
            "{shown}: {}",
            answer.status
        );
    }
    assert!(
        reached > 1_000,
        "only {reached} spellings have met the guard"
    );
}

/// What a handler does that takes names from a path.
fn decode(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits: String = rest.by_ref().take(2).map(char::from).collect();
            bytes.push(u8::from_str_radix(&digits, 16).expect("digits"));
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn a_path_without_a_canonical_form_is_refused_before_any_layer() {
    let site = Site::start(|_| {
        Router::new().fallback(|request: Request| format!("{} {}", request.path(), request.uri()))
    });
    for target in [
        "/a%2Fb",
        "/a%2fb",
        "/a%5Cb",
        "/a\\b",
        "/%00",
        "/%c0%af",
        "/%c0%ae%c0%ae/",
        "/%",
        "/%4",
        "/%zz",
        "/%ff",
        "/%u002e",
    ] {
        assert_eq!(ask(&site, target.as_bytes(), "a").status, 400, "{target}");
    }
    for (target, path) in [
        (
            "/%61//b/./c/../d;x=%31?q=%61//..",
            "/a/b/d;x=1 /a/b/d;x=1?q=%61//..",
        ),
        ("http://A.:080//%61", "/a http://a:80/a"),
        ("/../../%7e/", "/~/ /~/"),
        ("/%e2%82%ac", "/%E2%82%AC /%E2%82%AC"),
    ] {
        assert_eq!(ask(&site, target.as_bytes(), "a").text(), path, "{target}");
    }
}

#[test]
fn no_spelling_of_a_host_passes_its_guard() {
    let site = Site::start(|_| {
        let inside = |name: &'static str| {
            Router::new()
                .fallback(move |request: Request| format!("{name} {:?}", request.authority()))
        };
        inside("open")
            .host("*.local", inside("below"))
            .host("*.inner.local", inside("inner"))
            .host("Admin.local.", inside("admin"))
            .host("::1", inside("six"))
            .host("127.0.0.1", inside("four"))
    });
    for (host, found) in [
        ("admin.local", "admin Some(\"admin.local\")"),
        ("ADMIN.Local", "admin Some(\"admin.local\")"),
        ("admin.local.", "admin Some(\"admin.local\")"),
        ("admin.local.:80", "admin Some(\"admin.local:80\")"),
        ("admin.local:", "admin Some(\"admin.local\")"),
        ("admin.local:00080", "admin Some(\"admin.local:80\")"),
        ("%61dmin.loc%41l%2e", "admin Some(\"admin.local\")"),
        ("x.INNER.local.", "inner Some(\"x.inner.local\")"),
        ("inner.local", "below Some(\"inner.local\")"),
        ("[::1]", "six Some(\"[::1]\")"),
        ("[0:0:0:0:0:0:0:1]:80", "six Some(\"[::1]:80\")"),
        ("[::0.0.0.1]", "six Some(\"[::1]\")"),
        ("127.0.0.1.", "four Some(\"127.0.0.1\")"),
    ] {
        assert_eq!(ask(&site, b"/", host).text(), found, "{host}");
        if host.contains('%') {
            continue;
        }
        let target = format!("http://{host}/");
        assert_eq!(
            ask(&site, target.as_bytes(), "other").text(),
            found,
            "{host}"
        );
    }
    for host in [
        "u@admin.local",
        "admin.local..",
        "admin..local",
        "admin.local:80:80",
        "admin.local:x",
        "admin.local:99999",
        "[::1",
        "::1",
        "[::1]x",
        "[::1%25lo]",
        "admin.local%00",
        "admin.local%2f",
        "admin local",
        "admin.local,other",
        "admin.local\\",
        "admin.local/",
    ] {
        let status = ask(&site, b"/", host).status;
        let other = host == "admin.local,other";
        assert_eq!(status, if other { 200 } else { 400 }, "{host}");
    }
    for target in [
        "http://u@admin.local/",
        "http://u:p@admin.local/",
        "http://admin.local../",
    ] {
        assert_eq!(ask(&site, target.as_bytes(), "a").status, 400, "{target}");
    }
}

#[test]
fn secrets_are_not_in_debug_output() {
    let site = Site::start(|_| {
        Router::new()
            .get("/", |request: Request| {
                format!("{request:?} {:?}", request.headers())
            })
            .get("/set", |request: Request| {
                format!("{:?}", request.extensions().len())
            })
            .post(
                "/thread",
                entwined_http::offload(|request| format!("{request:?}")),
            )
    });
    for (method, path) in [("GET", "/?token=sesame"), ("POST", "/thread?token=sesame")] {
        let answer = site.peer().ask(
            method,
            path,
            &[
                ("authorization", "Basic sesame"),
                ("cookie", "a=sesame"),
                ("proxy-authorization", "sesame"),
            ],
            if method == "POST" { b"sesame" } else { b"" },
        );
        assert_eq!(answer.status, 200);
        assert!(!answer.text().contains("sesame"), "{}", answer.text());
    }
    let local = layers::local_only().token();
    let secret = local.secret().expect("a token").to_owned();
    assert!(!format!("{local:?}").contains(&secret));
    assert!(same_secret(&secret, local.secret().expect("a token")));
}

/// Sends the bytes of an HTTP/2 request, whose fields are literals, and returns its status.
fn ask_two(site: &Site, fields: &[(&str, &str)]) -> String {
    let mut block = Vec::new();
    for (name, value) in fields {
        // RFC 7541, 6.2.2: a literal that is not indexed.
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("a short text"));
            block.extend(text.bytes());
        }
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes.extend([
        0,
        0,
        u8::try_from(block.len()).expect("a short block"),
        1,
        5,
        0,
        0,
        0,
        1,
    ]);
    bytes.extend(block);
    let mut peer = Peer::connect(site.address);
    peer.send(bytes);
    loop {
        let mut head = [0; 9];
        peer.stream.read_exact(&mut head).expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        peer.stream.read_exact(&mut payload).expect("a frame");
        match head[3] {
            // The status comes first: RFC 7541, Appendix A has the usual ones.
            1 => match payload.iter().find(|byte| **byte & 0xe0 != 0x20) {
                Some(0x88) => return "200".to_owned(),
                Some(0x8c) => return "400".to_owned(),
                Some(0x8d) => return "404".to_owned(),
                _ => return format!("{payload:?}"),
            },
            3 => return "reset".to_owned(),
            7 => return "goaway".to_owned(),
            4 if head[4] == 0 => {
                let stream = peer.stream.get_mut();
                stream
                    .write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0])
                    .expect("it reads");
            }
            _ => {}
        }
    }
}

#[test]
fn the_host_of_http2_is_clear_or_the_request_is_refused() {
    let site = Site::start(|_| {
        Router::new()
            .get("/a", || "open")
            .host("admin.local", Router::new().get("/admin", || "admin"))
    });
    let with = |rest: &[(&'static str, &'static str)]| {
        let mut fields = vec![(":method", "GET"), (":scheme", "http")];
        fields.extend(rest);
        ask_two(&site, &fields)
    };
    assert_eq!(with(&[(":authority", "x"), (":path", "/a")]), "200");
    assert_eq!(
        with(&[(":authority", "ADMIN.local.:80"), (":path", "/%61dmin")]),
        "200"
    );
    assert_eq!(
        with(&[(":authority", "x"), (":path", "/a"), ("host", "X.:80")]),
        "200"
    );
    assert_eq!(with(&[(":path", "/a"), ("host", "x")]), "200");
    for wrong in [
        &[(":authority", "u@x"), (":path", "/a")][..],
        &[(":authority", "u:p@x"), (":path", "/a")],
        &[(":authority", "x"), (":path", "/a"), ("host", "y")],
        &[(":authority", "x"), (":path", "/a"), ("host", "u@x")],
        &[
            (":authority", "x"),
            (":path", "/a"),
            ("host", "x"),
            ("host", "x"),
        ],
        &[(":path", "/a"), ("host", "x"), ("host", "x")],
        &[(":path", "/a"), ("host", "u@x")],
        &[(":path", "/a")],
        &[(":authority", "x.."), (":path", "/a")],
        &[(":authority", "x"), (":path", "/a%2Fb")],
        &[(":authority", "x"), (":path", "/a\\b")],
        &[(":authority", "x"), (":path", "*")],
        &[(":authority", "x"), (":path", "a")],
    ] {
        let answer = with(wrong);
        assert!(
            matches!(answer.as_str(), "400" | "reset"),
            "{wrong:?}: {answer}"
        );
    }
}

/// A client that hears of success takes the connection, or the stream, for a tunnel or for the
/// protocol that it has named (RFC 9110, 9.3.6; RFC 8441, 4).
#[test]
fn nobody_opens_a_tunnel_by_accident() {
    let site = Site::start(|_| {
        Router::new()
            .any("/", || "hello")
            .any("/empty", || ())
            .fallback(|| "a page for every path")
    });
    let mut peer = site.peer();
    peer.send("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n");
    let answer = peer.answer();
    assert_eq!(answer.status, 501);
    let plain = [(":method", "CONNECT"), (":authority", "a:80")];
    assert_ne!(ask_two(&site, &plain), "200");
    for path in ["/", "/empty", "/none"] {
        let extended = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", path),
        ];
        let answer = ask_two(&site, &extended);
        assert!(!["200", "204"].contains(&&*answer), "{path}: {answer}");
    }
}

/// HTTP/2 splits them for its compression. For everything behind it they are one (RFC 9113, 8.2.3).
#[test]
fn the_cookies_of_http2_are_one_header() {
    let site = Site::start(|_| {
        Router::new().get("/", |request: Request| {
            let all = request.headers().get_all("cookie").iter().count();
            match (request.header("cookie"), all) {
                (Some("a=1; b=2; c=3"), 1) => Ok("all"),
                (found, _) => Err(Error::not_found(format!("{found:?}"))),
            }
        })
    });
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/"),
        ("cookie", "a=1"),
        ("cookie", "b=2; c=3"),
    ];
    assert_eq!(ask_two(&site, &fields), "200");
}
