//! Ready-made layers.

use std::{
    cell::RefCell,
    io::{Read, Write as _},
    process::{Command, Stdio},
    rc::Rc,
    time::Duration,
};

use entwined_http::{
    Body, Error, HeaderValue, Html, Json, Method, Next, Path, Request, Response, Router, State,
    header::{CONTENT_TYPE, ETAG},
    layers::{self, RequestId, Session, SessionKey},
};

use crate::server::support::{Answer, Site};

fn ask(site: &Site, path: &str, headers: &[(&str, &str)]) -> Answer {
    site.peer().ask("GET", path, headers, b"")
}

#[test]
fn ids_are_given_or_taken_over_and_the_log_sees_what_layers_answer() {
    let site = Site::start(|_| {
        Router::new()
            .get("/", |State(id): State<RequestId>| id.to_string())
            .layer(layers::request_id())
            .layer(layers::access_log())
    });
    let first = site.get("/");
    assert_eq!(first.header("x-request-id"), Some(first.text()));
    assert_ne!(site.get("/").text(), first.text());
    assert_eq!(
        ask(&site, "/", &[("x-request-id", "from-a_proxy7")]).text(),
        "from-a_proxy7"
    );
    for wrong in ["", "a b", "x\u{e4}", &"x".repeat(65)] {
        assert_ne!(ask(&site, "/", &[("x-request-id", wrong)]).text(), wrong);
    }
}

#[test]
fn a_slow_handler_and_one_too_many_are_answered_by_503() {
    let site = Site::start(|_| {
        Router::new()
            .get("/never", std::future::pending::<()>)
            .get("/fast", || "fast")
            .layer(layers::timeout(Duration::from_millis(50)))
            .layer(layers::max_concurrent(1))
    });
    let mut slow = site.peer();
    slow.send("GET /never HTTP/1.1\r\nhost: test\r\n\r\n");
    site.wait_until(|server| server.requests() == 1);
    let second = site.get("/fast");
    assert_eq!(
        (second.status, second.header("retry-after")),
        (503, Some("1"))
    );
    let slow = slow.answer();
    assert_eq!(
        (slow.status, slow.text()),
        (503, "the answer took too long\n")
    );
    assert_eq!(site.get("/fast").status, 200);
}

#[test]
fn a_body_may_have_another_limit_below_a_layer() {
    let site = Site::start(|_| {
        Router::new()
            .post("/", |text: String| text.len().to_string())
            .nest(
                "/small",
                Router::new()
                    .post("/", |text: String| text)
                    .layer(layers::max_body_size(3)),
            )
    });
    assert_eq!(
        site.peer().post("/small", "text/plain", "abc").text(),
        "abc"
    );
    assert_eq!(site.peer().post("/small", "text/plain", "abcd").status, 413);
    assert_eq!(site.peer().post("/", "text/plain", "abcd").text(), "4");
}

#[test]
fn who_is_not_known_is_asked() {
    let site = Site::start(|_| {
        let basic = Router::new()
            .get("/", || "in")
            .layer(layers::basic_auth("the \"house\"", |name, password| {
                name == "ada" && layers::same_secret(password, "pass:word")
            }));
        let bearer = Router::new()
            .get("/", || "in")
            .layer(layers::bearer_auth(|token| {
                layers::same_secret(token, "secret")
            }));
        Router::new().nest("/basic", basic).nest("/bearer", bearer)
    });
    let curl = |arguments: &[&str], path: &str| {
        let url = format!("http://{}{path}", site.address);
        let output = Command::new("curl")
            .args(["-s", "-w", " %{http_code}"])
            .args(arguments)
            .arg(url)
            .output();
        String::from_utf8(output.expect("apt-get install curl").stdout).expect("a text")
    };
    assert_eq!(curl(&["-u", "ada:pass:word"], "/basic"), "in 200");
    assert_eq!(curl(&["-u", "ada:wrong"], "/basic"), "who are you?\n 401");
    let answer = site.get("/basic");
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Basic realm=\"the house\", charset=\"UTF-8\"")
    );
    for wrong in [
        "Basic",
        "Basic !!!",
        "Basic YWRh",
        "Bearer YWRhOnBhc3M6d29yZA==",
    ] {
        assert_eq!(
            ask(&site, "/basic", &[("authorization", wrong)]).status,
            401,
            "{wrong}"
        );
    }
    assert_eq!(
        ask(&site, "/bearer", &[("authorization", "bearer secret")]).text(),
        "in"
    );
    // RFC 6750, 3: a challenge has a parameter, and the wrong token its error.
    for (headers, challenge) in [
        (
            &[("authorization", "Bearer secrets")][..],
            "Bearer error=\"invalid_token\"",
        ),
        (
            &[("authorization", "Basic c2VjcmV0")],
            "Bearer realm=\"token\"",
        ),
        (&[], "Bearer realm=\"token\""),
    ] {
        let answer = ask(&site, "/bearer", headers);
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (401, Some(challenge))
        );
    }
    assert!(
        layers::same_secret("", "")
            && !layers::same_secret("a", "ab")
            && !layers::same_secret("b", "a")
    );
}

#[test]
fn pages_of_other_origins_may_what_is_allowed() {
    let site = Site::start(|_| {
        let page = || Router::new().get("/", || "seen").post("/", || "done");
        let some = layers::cors()
            .origin("https://example.org/")
            .credentials()
            .methods([Method::GET, Method::PUT]);
        Router::new()
            .nest("/some", page().layer(some.max_age(Duration::from_secs(5))))
            .nest(
                "/any",
                page().layer(layers::cors().any_origin().expose([ETAG])),
            )
            .nest("/none", page().layer(layers::cors()))
    });
    let origin = ("origin", "https://example.org");
    let answer = ask(&site, "/some", &[origin]);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://example.org")
    );
    assert_eq!(
        answer.header("access-control-allow-credentials"),
        Some("true")
    );
    assert_eq!(answer.header("vary"), Some("Origin"));
    let answer = ask(&site, "/some", &[("origin", "https://example.com")]);
    assert_eq!(
        (answer.text(), answer.header("access-control-allow-origin")),
        ("seen", None)
    );
    let answer = ask(&site, "/any", &[origin]);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-expose-headers"), Some("etag"));
    assert_eq!(
        ask(&site, "/none", &[origin]).header("access-control-allow-origin"),
        None
    );
    let preflight = [origin, ("access-control-request-method", "PUT")];
    let answer = site.peer().ask("OPTIONS", "/some", &preflight, b"");
    assert_eq!(
        (answer.status, answer.header("access-control-allow-methods")),
        (204, Some("GET, PUT"))
    );
    assert_eq!(answer.header("access-control-max-age"), Some("5"));
    let answer = site.peer().ask("OPTIONS", "/none", &preflight, b"");
    assert_eq!(
        (answer.status, answer.header("access-control-allow-methods")),
        (204, None)
    );
    // Not a preflight request, so the router gets it.
    assert_eq!(
        site.peer().ask("OPTIONS", "/some", &[origin], b"").status,
        405
    );
}

/// Browsers leave out the port that belongs to the scheme.
#[test]
fn an_origin_may_be_written_as_people_write_it() {
    let site = Site::start(|_| {
        let cors = layers::cors()
            .origin("HTTPS://Example.org:443/")
            .origin("http://[0::1]:80")
            .origin("http://dot.example.")
            // This allows none: see `any_origin`.
            .origin("*");
        Router::new().get("/", || "seen").layer(cors)
    });
    for origin in ["https://example.org", "http://[::1]", "http://dot.example"] {
        let allowed = ask(&site, "/", &[("origin", origin)]);
        let allowed = allowed.header("access-control-allow-origin");
        assert_eq!(allowed, Some(origin));
    }
    for origin in [
        "http://example.org",
        "https://example.org:444",
        "null",
        "https://",
    ] {
        let allowed = ask(&site, "/", &[("origin", origin)]);
        assert_eq!(
            allowed.header("access-control-allow-origin"),
            None,
            "{origin}"
        );
    }
}

/// Browsers drop a cookie whose name promises more than its attributes keep, without a word.
#[test]
fn a_session_keeps_what_its_name_promises() {
    let site = Site::start(|_| {
        let set = || Router::new().get("/", |State(session): State<Session>| session.set("a", &1));
        let sessions = |name: &str| layers::sessions(SessionKey::generate()).name(name);
        Router::new()
            .nest("/host", set().layer(sessions("__Host-session")))
            .nest("/secure", set().layer(sessions("__secure-session")))
            .nest("/ever", set().layer(sessions("s").max_age(Duration::MAX)))
    });
    for path in ["/host", "/secure"] {
        let answer = site.get(path);
        let cookie = answer.header("set-cookie").expect("a cookie");
        assert!(cookie.contains("; Secure"), "{cookie}");
        assert!(
            cookie.contains("; Path=/") && !cookie.contains("Domain"),
            "{cookie}"
        );
    }
    let answer = site.get("/ever");
    let cookie = answer.header("set-cookie").expect("a cookie");
    // Without it, it is gone when the browser is closed.
    assert!(cookie.contains("; Max-Age="), "{cookie}");
}

#[test]
fn a_session_comes_back_and_one_that_was_changed_does_not() {
    let key = SessionKey::generate();
    let same = SessionKey::from_bytes(key.as_bytes()).expect("its bytes");
    assert!(SessionKey::from_bytes(b"short").is_none());
    let site = Site::start(move |_| {
        let visits = |State(session): State<Session>| {
            let visits = session.get::<u32>("visits").unwrap_or(0) + 1;
            session.set("visits", &visits)?;
            Ok::<_, Error>(visits.to_string())
        };
        let large = |State(session): State<Session>| session.set("large", &"x".repeat(4_000));
        Router::new()
            .get("/", visits)
            .get("/large", large)
            .get("/clear", |State(session): State<Session>| session.clear())
            .get("/look", |State(session): State<Session>| {
                format!("{:?}", session.get::<u32>("visits"))
            })
            .layer(
                layers::sessions(same)
                    .name("visitor")
                    .secure()
                    .max_age(Duration::from_secs(60)),
            )
    });
    let cookie = |answer: &Answer| answer.header("set-cookie").map(str::to_owned);
    let first = site.get("/");
    let set = cookie(&first).expect("a cookie");
    for attribute in [
        "visitor=",
        "HttpOnly",
        "SameSite=Lax",
        "Secure",
        "Path=/",
        "Max-Age=60",
    ] {
        assert!(set.contains(attribute), "{attribute} is not in {set}");
    }
    let kept = set.split(';').next().expect("a pair").to_owned();
    let second = ask(&site, "/", &[("cookie", &format!("other=1; {kept}"))]);
    assert_eq!((first.text(), second.text()), ("1", "2"));
    let look = ask(&site, "/look", &[("cookie", &kept)]);
    assert_eq!((look.text(), cookie(&look)), ("Some(1)", None));
    let place = kept.len() - 4;
    let other = if kept.ends_with("AAAA") {
        "BBBB"
    } else {
        "AAAA"
    };
    let forged = format!("{}{other}", &kept[..place]);
    assert_eq!(ask(&site, "/look", &[("cookie", &forged)]).text(), "None");
    assert_eq!(
        ask(&site, "/look", &[("cookie", "visitor=nonsense")]).text(),
        "None"
    );
    assert!(cookie(&ask(&site, "/clear", &[("cookie", &kept)])).is_some());
    let large = site.get("/large");
    assert_eq!((large.status, cookie(&large)), (500, None));
}

#[test]
fn a_session_is_bound_to_its_name_and_its_time() {
    let key = || SessionKey::from_bytes(&[1; 64]).expect("long enough");
    let old = || SessionKey::from_bytes(&[2; 64]).expect("long enough");
    let site = Site::start(move |_| {
        let site = |sessions: layers::Sessions| {
            Router::new()
                .get("/set", |State(session): State<Session>| {
                    session.set("a", "secret")
                })
                .get("/look", |State(session): State<Session>| {
                    assert!(!format!("{session:?}").contains("secret"));
                    format!("{:?}", session.get::<String>("a"))
                })
                .layer(sessions)
        };
        let hour = Duration::from_secs(3_600);
        Router::new()
            .nest("/one", site(layers::sessions(key()).name("one")))
            .nest("/two", site(layers::sessions(key()).name("two")))
            .nest(
                "/brief",
                site(layers::sessions(key()).name("one").max_age(Duration::ZERO)),
            )
            .nest(
                "/long",
                site(layers::sessions(key()).name("one").max_age(100_000 * hour)),
            )
            .nest("/old", site(layers::sessions(old()).name("one")))
            .nest(
                "/new",
                site(layers::sessions(key()).name("one").previous_key(old())),
            )
    });
    let kept = |path: &str| {
        let answer = site.get(path);
        let cookie = answer.header("set-cookie").expect("a cookie");
        let pair = cookie.split(';').next().expect("a pair");
        pair.split_once('=').expect("a value").1.to_owned()
    };
    let look = |path: &str, cookie: String| {
        let answer = ask(&site, path, &[("cookie", &cookie)]);
        (
            answer.text() == "Some(\"secret\")",
            answer.header("set-cookie").is_some(),
        )
    };
    let one = kept("/one/set");
    assert_eq!(look("/one/look", format!("one={one}")), (true, false));
    assert_eq!(look("/two/look", format!("two={one}")), (false, false));
    // It ends at the server as well, whatever the browser does.
    assert_eq!(
        look("/one/look", format!("one={}", kept("/brief/set"))),
        (false, false)
    );
    // The clock may have been set back, or the program gives less time than before.
    assert_eq!(
        look("/one/look", format!("one={}", kept("/long/set"))),
        (false, false)
    );
    // When half of its time is over, it is sent again.
    assert_eq!(look("/long/look", format!("one={one}")), (true, true));
    // A session of the key before is signed anew.
    let before = kept("/old/set");
    assert_eq!(look("/one/look", format!("one={before}")), (false, false));
    assert_eq!(look("/new/look", format!("one={before}")), (true, true));
    // The first four of that name are tried.
    let many = format!("{}one={one}", "one=x; ".repeat(3));
    assert_eq!(look("/one/look", many), (true, false));
    let more = format!("{}one={one}", "one=x; ".repeat(4));
    assert_eq!(look("/one/look", more), (false, false));
}

#[test]
fn a_session_fits_into_a_cookie_or_the_program_hears_of_it() {
    let site = Site::start(|_| {
        let fill = |State(session): State<Session>, Path(piece): Path<usize>| {
            let mut count = 0;
            // Characters that other encodings would make longer.
            while session
                .set(&count.to_string(), &"\"é;".repeat(piece))
                .is_ok()
            {
                count += 1;
            }
            count.to_string()
        };
        Router::new().get("/{piece}", fill).layer(
            layers::sessions(SessionKey::generate())
                .secure()
                .max_age(Duration::from_secs(1)),
        )
    });
    for piece in ["0", "1", "7", "100", "400"] {
        let answer = site.get(&format!("/{piece}"));
        let cookie = answer.header("set-cookie").expect("a cookie");
        assert!(answer.text().parse::<usize>().expect("a number") > 0);
        assert!(
            (2_500..=4_096).contains(&cookie.len()),
            "{piece}: {}",
            cookie.len()
        );
    }
}

#[test]
fn other_pages_and_other_people_are_kept_away_from_a_local_server() {
    let layer = layers::local_only().name("my-machine").token();
    let secret = layer.secret().expect("it has one").to_owned();
    let site = Site::start(move |_| {
        Router::new()
            .get("/", || "in")
            .post("/", || "done")
            .layer(layer)
    });
    let port = site.address.port();
    let ask = |method: &str, target: &str, host: &str, headers: &[(&str, &str)]| {
        let mut peer = site.peer();
        let mut head =
            format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        peer.send(head + "\r\n");
        peer.answer()
    };
    let bearer = format!("Bearer {secret}");
    let token = [("authorization", bearer.as_str())];
    // The name of a scheme has no case (RFC 9110, 11.1).
    for scheme in ["bearer", "BEARER", "Bearer "] {
        let other = format!("{scheme} {secret}");
        let answer = ask("GET", "/", "localhost", &[("authorization", &other)]);
        assert_eq!(answer.text(), "in", "{other}");
    }
    for host in [
        "localhost",
        "127.0.0.1:80",
        "[::1]:8080",
        "app.localhost",
        "My-Machine:1",
    ] {
        assert_eq!(ask("GET", "/", host, &token).text(), "in", "{host}");
    }
    // A foreign name that resolves to this server: DNS rebinding.
    for host in [
        "example.org",
        "127.0.0.1.example.org",
        "localhost.example.org",
        "192.168.1.1",
    ] {
        assert_eq!(ask("GET", "/", host, &token).status, 421, "{host}");
    }
    let own = format!("localhost:{port}");
    for (origin, status) in [
        (format!("http://{own}"), 200),
        ("http://localhost:1".to_owned(), 403),
        ("https://example.org".to_owned(), 403),
        ("null".to_owned(), 403),
    ] {
        assert_eq!(
            ask("POST", "/", &own, &[token[0], ("origin", &origin)]).status,
            status,
            "{origin}"
        );
        assert_eq!(
            ask("GET", "/", &own, &[token[0], ("origin", &origin)]).status,
            status,
            "{origin}"
        );
        let upgrade = [
            token[0],
            ("origin", origin.as_str()),
            ("upgrade", "websocket"),
        ];
        assert_eq!(ask("GET", "/", &own, &upgrade).status, status, "{origin}");
    }
    assert_eq!(ask("GET", "/", &own, &[]).status, 401);
    assert_eq!(ask("GET", "/?token=wrong", &own, &[]).status, 401);
    // The first URL contains the token; after that, the browser has it as a cookie.
    let first = ask(
        "GET",
        &format!("//evil.example/?a=1&token={secret}"),
        &own,
        &[],
    );
    assert_eq!(
        (first.status, first.header("location")),
        (303, Some("/evil.example/?a=1"))
    );
    let cookie = first.header("set-cookie").expect("a cookie").to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let pair = cookie.split(';').next().expect("a pair");
    assert_eq!(ask("GET", "/", &own, &[("cookie", pair)]).text(), "in");
}

#[test]
fn a_token_may_outlive_a_start() {
    let first = layers::local_only().token();
    let kept = first.secret().expect("it has one");
    let again = layers::local_only().with_token(kept);
    let site = Site::start(move |_| Router::new().get("/", || "in").layer(again));
    for (token, status) in [(kept, 200), ("0123456789abcdef", 401)] {
        let mut peer = site.peer();
        peer.send(format!(
            "GET / HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"
        ));
        assert_eq!(peer.answer().status, status, "{token}");
    }
    for weak in [
        "",
        "0123456789abcde",
        "0123456789 abcdef",
        "0123456789;abcdef",
    ] {
        let weak = || drop(layers::local_only().with_token(weak));
        assert!(std::panic::catch_unwind(weak).is_err());
    }
}

#[test]
fn a_local_server_is_not_for_other_pages() {
    let site = Site::start(|_| {
        Router::new()
            .any("/", || "in")
            .layer(layers::local_only().origin("https://friend.example"))
    });
    let ask = |method: &str, headers: &[(&str, &str)]| {
        let port = site.address.port();
        let mut request = format!("{method} / HTTP/1.1\r\nhost: localhost:{port}\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut peer = site.peer();
        peer.send(request + "\r\n");
        peer.answer_to(method).status
    };
    let (mode, dest) = ("sec-fetch-mode", "sec-fetch-dest");
    for from in ["cross-site", "same-site", "what?"] {
        let from = ("sec-fetch-site", from);
        let link = [from, (mode, "navigate"), (dest, "document")];
        assert_eq!(ask("GET", &link), 200, "{from:?}");
        assert_eq!(ask("POST", &link), 403, "{from:?}");
        assert_eq!(
            ask("GET", &[from, (mode, "navigate"), (dest, "iframe")]),
            403
        );
        assert_eq!(ask("GET", &[from, (mode, "no-cors"), (dest, "image")]), 403);
        assert_eq!(ask("HEAD", &[from, (mode, "cors"), (dest, "empty")]), 403);
        assert_eq!(
            ask(
                "GET",
                &[from, (mode, "websocket"), ("upgrade", "websocket")]
            ),
            403
        );
        assert_eq!(ask("GET", &[from]), 403);
        assert_eq!(ask("GET", &[("sec-fetch-site", "none"), from]), 403);
        let friend = ("origin", "https://friend.example");
        assert_eq!(ask("POST", &[from, (mode, "cors"), friend]), 200);
        assert_eq!(
            ask("POST", &[from, friend, ("origin", "https://other.example")]),
            403
        );
    }
    for from in ["same-origin", "none"] {
        assert_eq!(
            ask("POST", &[("sec-fetch-site", from), (mode, "cors")]),
            200
        );
    }
    for (origin, status) in [
        ("https://friend.example:443", 200),
        ("http://friend.example", 403),
        ("https://friend.example.evil", 403),
        ("https://friend.example:1", 403),
        ("null", 403),
        ("", 403),
    ] {
        assert_eq!(ask("GET", &[("origin", origin)]), status, "{origin}");
    }
    // HTTP/1.0 names no host.
    let mut peer = site.peer();
    peer.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(peer.answer().status, 421);
    let mut peer = site.peer();
    peer.send("GET / HTTP/1.1\r\nhost:\r\n\r\n");
    assert_eq!(peer.answer().status, 421);
}

fn large() -> String {
    (0..20_000)
        .map(|number| format!("line {number}\n"))
        .collect()
}

fn run(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it is there");
    let (mut stdin, input) = (child.stdin.take().expect("a pipe"), input.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let mut output = Vec::new();
    child
        .stdout
        .take()
        .expect("a pipe")
        .read_to_end(&mut output)
        .expect("its output");
    writer.join().expect("no panic").expect("written");
    assert!(child.wait().expect("an end").success());
    output
}

#[test]
fn bodies_are_compressed_for_those_who_want_it() {
    let site = Site::start(|_| {
        let tagged = || {
            let mut response = Response::new(Body::from(large()));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            response
                .headers_mut()
                .insert(ETAG, HeaderValue::from_static("\"abc\""));
            response
        };
        let stream = || {
            let pieces = large()
                .as_bytes()
                .chunks(1_000)
                .map(|piece| Ok::<_, String>(piece.to_vec().into()))
                .collect::<Vec<_>>();
            let mut response = Response::new(Body::stream(Pieces(pieces.into_iter())));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("image/svg+xml"));
            response
        };
        Router::new()
            .get("/text", tagged)
            .get("/stream", stream)
            .get("/small", || Html("<p>small"))
            .get("/json", || Json(vec![1_000_000; 1_000]))
            .get("/bytes", || vec![b'x'; 10_000])
            .layer(layers::compression())
    });
    for (path, coding) in [
        ("/text", "br"),
        ("/text", "gzip"),
        ("/stream", "br"),
        ("/stream", "gzip"),
    ] {
        let answer = ask(&site, path, &[("accept-encoding", coding)]);
        assert_eq!(
            (answer.header("content-encoding"), answer.header("vary")),
            (Some(coding), Some("Accept-Encoding"))
        );
        assert!(
            answer.body.len() < large().len() / 3,
            "{} bytes",
            answer.body.len()
        );
        let plain = match coding {
            "gzip" => run("gzip", &["-dc"], &answer.body),
            _ => unbrotli(&answer.body),
        };
        assert!(
            plain == large().as_bytes(),
            "{path} by {coding}: {} bytes",
            plain.len()
        );
        if path == "/text" {
            assert_eq!(answer.header("etag"), Some("W/\"abc\""));
        }
    }
    let plain = site.get("/text");
    assert_eq!(
        (plain.header("content-encoding"), plain.header("vary")),
        (None, Some("Accept-Encoding"))
    );
    assert_eq!(
        (plain.header("etag"), plain.text()),
        (Some("\"abc\""), large().as_str())
    );
    let wanted = [("accept-encoding", "gzip")];
    assert_eq!(
        ask(&site, "/json", &wanted).header("content-encoding"),
        Some("gzip")
    );
    assert_eq!(
        ask(&site, "/small", &wanted).header("content-encoding"),
        None
    );
    assert_eq!(
        ask(&site, "/bytes", &wanted).header("content-encoding"),
        None
    );
    // Browsers and curl ask for compression in the same way.
    let url = format!("http://{}/text", site.address);
    assert!(run("curl", &["-s", "--compressed", &url], b"") == large().as_bytes());
}

/// A decoder by others.
fn unbrotli(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    brotli::Decompressor::new(bytes, 4096)
        .read_to_end(&mut plain)
        .expect("brotli");
    plain
}

struct Pieces<I>(I);

impl<I: Iterator + Unpin> futures_core::Stream for Pieces<I> {
    type Item = I::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<I::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}

#[test]
fn a_large_body_is_compressed_in_steps_between_which_others_have_their_turn() {
    let site = Site::start(|_| {
        Router::new()
            .get("/large", || {
                Html("some text that is long, and again ".repeat(400_000))
            })
            .get("/longest", |request: Request| {
                let longest = request.handle().metrics().longest_callback;
                longest.map_or(0, |(time, _)| time.as_millis()).to_string()
            })
            .layer(layers::compression())
    });
    let answer = ask(&site, "/large", &[("accept-encoding", "br")]);
    assert_eq!(answer.header("content-encoding"), Some("br"));
    let longest: u64 = site.get("/longest").text().parse().expect("a number");
    // In one go it would take hundreds of milliseconds without optimization. Time in which the
    // thread waited for a processor does not count.
    assert!(longest < 150, "nobody had a turn for {longest} ms");
}

/// A browser sends the cookies of all servers of a machine in one header, whatever their ports. The
/// name of a person in one of them must not end the sessions of the others.
#[test]
fn cookies_of_others_hide_none() {
    let site = Site::start(|_| {
        Router::new()
            .get("/set", |State(session): State<Session>| {
                session.set("a", &7)
            })
            .get("/look", |State(session): State<Session>| {
                format!("{:?}", session.get::<u32>("a"))
            })
            .layer(layers::sessions(SessionKey::generate()))
            .layer(layers::local_only().with_token("0123456789abcdef"))
    });
    let host = site.address.to_string();
    let token = format!("entwined-token-{}=0123456789abcdef", site.address.port());
    let ask = |path: &str, cookies: &[u8]| {
        let mut peer = site.peer();
        let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\ncookie: ");
        peer.send([head.as_bytes(), cookies, b"\r\n\r\n"].concat());
        peer.answer()
    };
    let set = ask("/set", token.as_bytes());
    let session = set.header("set-cookie").expect("a session");
    let session = session.split(';').next().expect("a pair");
    for other in ["name=J\u{fc}rgen".as_bytes(), b"name=J\xfcrgen", b"\xff"] {
        for pairs in [
            [other, token.as_bytes(), session.as_bytes()],
            [session.as_bytes(), token.as_bytes(), other],
        ] {
            let answer = ask("/look", &pairs.join(&b"; "[..]));
            assert_eq!((answer.status, answer.text()), (200, "Some(7)"));
        }
    }
}

/// RFC 9111, 4.1: without it, a cache gives the page of one visitor to another.
#[test]
fn a_response_that_depends_on_the_session_says_so() {
    let site = Site::start(|_| {
        Router::new()
            .get("/plain", || "the same for all")
            .get("/got", |State(session): State<Session>| {
                format!("{:?}", session.get::<u32>("a"))
            })
            .get("/set", |State(session): State<Session>| {
                session.set("a", &1)
            })
            .get("/removed", |State(session): State<Session>| {
                session.remove("a")
            })
            .layer(layers::sessions(SessionKey::generate()))
    });
    assert_eq!(site.get("/plain").header("vary"), None);
    for path in ["/got", "/set", "/removed"] {
        assert_eq!(site.get(path).header("vary"), Some("Cookie"), "{path}");
    }
}

/// A WebSocket has the session of its request, and outlives its response.
#[test]
fn what_is_set_in_a_session_after_its_response_is_an_error() {
    let site = Site::start(|_| {
        let kept = Rc::new(RefCell::new(None::<Session>));
        let late = kept.clone();
        Router::new()
            .get("/keep", move |State(session): State<Session>| {
                let done = session.set("a", &1);
                *kept.borrow_mut() = Some(session);
                done
            })
            .get("/late", move || {
                let session = late.take().expect("it was kept");
                session.remove("a");
                session.clear();
                format!("{:?} {:?}", session.get::<u8>("a"), session.set("a", &2))
            })
            .layer(layers::sessions(SessionKey::generate()).max_age(Duration::from_millis(1)))
    });
    let cookie = site.get("/keep");
    // Zero would be "at once".
    let cookie = cookie.header("set-cookie").expect("a cookie");
    assert!(cookie.contains("; Max-Age=1"), "{cookie}");
    assert_eq!(site.get("/late").text(), "Some(1) Err(Sent)");
}

/// A cache that may keep a response gives it to others, with the cookie in it.
#[test]
fn a_response_that_renews_a_session_is_for_its_visitor() {
    let key = || SessionKey::from_bytes(&[3; 64]).expect("long enough");
    let site = Site::start(move |_| {
        let part = |seconds| {
            let sessions = layers::sessions(key()).max_age(Duration::from_secs(seconds));
            Router::new()
                .get("/set", |State(session): State<Session>| {
                    session.set("a", &1)
                })
                .get("/clear", |State(session): State<Session>| session.clear())
                .get("/style", || {
                    ([("cache-control", "public")], "the same for all")
                })
                .layer(sessions)
        };
        Router::new()
            .nest("/short", part(60))
            .nest("/long", part(200))
    });
    let set = site.get("/short/set");
    let cookie = set.header("set-cookie").expect("a session");
    let cookie = cookie.split(';').next().expect("a pair");
    for path in ["/long/style", "/short/clear"] {
        let answer = ask(&site, path, &[("cookie", cookie)]);
        assert!(answer.header("set-cookie").is_some(), "{path}");
        assert_eq!(answer.header("vary"), Some("Cookie"), "{path}");
    }
}

#[test]
fn a_name_of_a_local_server_may_be_an_address_in_any_form() {
    for (name, host) in [
        ("[2001:db8::1]", "[2001:db8::1]:8080"),
        ("2001:DB8:0::1", "[2001:db8::1]"),
        ("192.0.2.7", "192.0.2.7:8080"),
        ("My-Machine.:8080", "my-machine"),
        ("my%2Dmachine", "my-machine"),
    ] {
        let site = Site::start(move |_| {
            Router::new()
                .get("/", || "in")
                .layer(layers::local_only().name(name))
        });
        let mut peer = site.peer();
        peer.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        assert_eq!(peer.answer().status, 200, "{name} and {host}");
    }
}

/// Whoever preferred JSON got the message that the layer had taken away.
#[test]
fn an_error_whose_body_a_layer_has_replaced_stays_so() {
    let site = Site::start(|_| {
        let hide = async |request: Request, next: Next| {
            let hides = request.path() == "/hidden";
            let mut response = next.run(request).await;
            if hides {
                *response.body_mut() = "something is wrong".into();
            }
            response
        };
        let wrong = || Err::<(), _>(Error::bad_request("too much is said"));
        Router::new()
            .get("/hidden", wrong)
            .get("/shown", wrong)
            .layer(hide)
    });
    let json = [("accept", "application/json")];
    let answer = site.peer().ask("GET", "/hidden", &json, b"");
    assert_eq!(answer.text(), "something is wrong");
    let answer = site.peer().ask("GET", "/shown", &json, b"");
    assert_eq!(answer.text(), "{\"error\":\"too much is said\"}");
}

/// RFC 9110, 15.5.2: a 401 says how to authenticate.
#[test]
fn a_missing_token_has_a_challenge() {
    let site = Site::start(|_| Router::new().layer(layers::local_only().token()));
    let mut peer = site.peer();
    peer.send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let answer = peer.answer();
    assert_eq!(answer.status, 401);
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    assert!(challenge.starts_with("Bearer"), "{}", answer.head);
}
