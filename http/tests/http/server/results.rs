//! What handlers return, and what clients see of it.

use std::{
    cell::{Cell, RefCell},
    fmt, io,
    rc::Rc,
    sync::{Arc, Mutex},
};

use entwined_http::{
    Body, ETag, Error, HeaderMap, HeaderValue, Html, IntoResponse, Json, Next, Preconditions,
    Redirect, Request, Response, Router, State, StatusCode, header, layers,
};

use crate::server::support::Site;

/// What curl says of a response over HTTP/2: its status, its body and what is wrong with it.
fn by_http2(site: &Site, path: &str) -> String {
    let output = std::process::Command::new("curl")
        .args(["-s", "--http2-prior-knowledge", "-m", "20"])
        .args(["-w", "%{http_code} %{errormsg}"])
        .arg(format!("http://{}{path}", site.address))
        .output();
    String::from_utf8(output.expect("apt-get install curl").stdout).expect("a text")
}

#[test]
fn results_become_responses_as_axum_has_them() {
    let site = Site::start(|_| {
        Router::new()
            .get("/builder", || {
                Response::builder()
                    .status(StatusCode::IM_A_TEAPOT)
                    .header("x-a", "1")
                    .body("tea")
            })
            .get("/builder/wrong", || {
                Response::builder().header("x-a", "\n").body("tea")
            })
            .get("/status", || (StatusCode::CREATED, "made"))
            .get("/array", || async {
                (
                    [("x-a", "1"), ("x-a", "2"), ("content-type", "text/x")],
                    "a",
                )
            })
            .get("/map", || {
                let mut headers = HeaderMap::new();
                headers.insert("x-a", "1".parse().expect("a value"));
                (headers, Json([1, 2]))
            })
            .get("/all", || {
                (
                    StatusCode::CREATED,
                    [(header::LOCATION, "/there")],
                    Html("<p>"),
                )
            })
            .get("/array/wrong", || ([("x-a", "\n")], "a"))
            .get("/to", || Redirect::to("/there"))
            .get("/permanent", || async { Redirect::permanent("/there") })
            .get("/temporary", || Redirect::temporary("/there"))
            .get("/redirect/wrong", || Redirect::to("/\n"))
            .get("/bytes", || b"bytes")
    });
    for (path, status, name, value, body) in [
        ("/builder", 418, "x-a", Some("1"), "tea"),
        (
            "/builder/wrong",
            500,
            "x-a",
            None,
            "the server made a mistake\n",
        ),
        (
            "/status",
            201,
            "content-type",
            Some("text/plain; charset=utf-8"),
            "made",
        ),
        ("/array", 200, "content-type", Some("text/x"), "a"),
        (
            "/map",
            200,
            "content-type",
            Some("application/json"),
            "[1,2]",
        ),
        ("/map", 200, "x-a", Some("1"), "[1,2]"),
        ("/all", 201, "location", Some("/there"), "<p>"),
        (
            "/array/wrong",
            500,
            "x-a",
            None,
            "the server made a mistake\n",
        ),
        ("/to", 303, "location", Some("/there"), ""),
        ("/permanent", 308, "location", Some("/there"), ""),
        ("/temporary", 307, "location", Some("/there"), ""),
        (
            "/redirect/wrong",
            500,
            "location",
            None,
            "the server made a mistake\n",
        ),
        (
            "/bytes",
            200,
            "content-type",
            Some("application/octet-stream"),
            "bytes",
        ),
    ] {
        let answer = site.get(path);
        let seen = (answer.status, answer.header(name), answer.text());
        assert_eq!(seen, (status, value, body), "{path}");
    }
}

/// Keeps the log's errors.
struct Log(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Cause<'a>(&'a mut Vec<String>);

        impl tracing::field::Visit for Cause<'_> {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                if field.name() == "cause" {
                    self.0.push(format!("{value:?}"));
                }
            }
        }
        event.record(&mut Cause(&mut self.0.lock().expect("a lock")));
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn what_went_wrong_inside_is_told_once_to_the_log_and_not_to_the_client() {
    const CAUSE: &str = "the password is sesame";
    let failed = || io::Error::other(CAUSE);
    let log = Arc::<Mutex<Vec<String>>>::default();
    let kept = log.clone();
    let site = Site::start(move |_| {
        // For the whole thread.
        std::mem::forget(tracing::subscriber::set_default(Log(kept)));
        Router::new()
            .get("/error", move || Error::internal(failed()))
            .get("/io", move || -> Result<(), io::Error> { Err(failed()) })
            .get("/question", move || async move {
                Err(failed())?;
                Ok::<_, Error>("fine")
            })
            .get(
                "/boxed",
                move || -> Result<(), Box<dyn std::error::Error>> { Err(failed().into()) },
            )
            .get("/state", |State(_): State<Rc<u8>>| "there is none")
            .get("/told", || Error::bad_request("no"))
    });
    let missing = "no layer gave the request a state of type alloc::rc::Rc<u8>";
    for (path, cause) in [
        ("/error", CAUSE),
        ("/io", CAUSE),
        ("/question", CAUSE),
        ("/boxed", CAUSE),
        ("/state", missing),
    ] {
        let answer = site.get(path);
        assert_eq!(
            (answer.status, answer.text()),
            (500, "the server made a mistake\n"),
            "{path}"
        );
        assert_eq!(log.lock().expect("a lock").split_off(0), [cause], "{path}");
    }
    assert_eq!(site.get("/told").status, 400);
    assert!(log.lock().expect("a lock").is_empty());
}

#[test]
fn errors_have_the_form_that_the_client_prefers() {
    let site = Site::start(|_| {
        Router::new()
            .get(
                "/number",
                |entwined_http::Path(_): entwined_http::Path<u8>| (),
            )
            .get("/told", || Error::bad_request("a \"quoted\" word"))
            .post("/json", |Json(number): Json<u8>| Json(number))
            .get("/page", || (StatusCode::NOT_FOUND, Html("<p>not here")))
    });
    let mut peer = site.peer();
    for (path, accept, kind, body) in [
        (
            "/told",
            "application/json",
            "application/json",
            "{\"error\":\"a \\\"quoted\\\" word\"}",
        ),
        (
            "/told",
            "*/*",
            "text/plain; charset=utf-8",
            "a \"quoted\" word\n",
        ),
        (
            "/nothing",
            "application/json, text/plain, */*",
            "application/json",
            "{\"error\":\"there is nothing here\"}",
        ),
        // A body of the handler's own stays as it is.
        (
            "/page",
            "application/json",
            "text/html; charset=utf-8",
            "<p>not here",
        ),
    ] {
        let answer = peer.ask("GET", path, &[("accept", accept)], b"");
        assert_eq!(
            (answer.header("content-type"), answer.text()),
            (Some(kind), body),
            "{path} for {accept}"
        );
    }
    let headers = [
        ("accept", "application/json"),
        ("content-type", "application/json"),
    ];
    let answer = peer.ask("POST", "/json", &headers, b"300");
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (422, Some("application/json")),
        "a refused argument"
    );
    assert!(answer.text().starts_with("{\"error\":\"the JSON is wrong"));
}

#[test]
fn handlers_share_a_state_that_is_not_send() {
    async fn count(State(visits): State<Rc<Cell<u32>>>) -> String {
        visits.set(visits.get() + 1);
        visits.get().to_string()
    }
    let site = Site::start(|_| {
        let inner = Router::new()
            .get("/", |State(text): State<&'static str>| text)
            .layer(layers::state("the inner one"));
        Router::new()
            .get("/", count)
            .nest("/inner", inner)
            .layer(layers::state(Rc::new(Cell::new(0_u32))))
            .layer(layers::state("the outer one"))
    });
    assert_eq!(site.get("/").text(), "1");
    assert_eq!(site.get("/").text(), "2");
    assert_eq!(site.get("/inner").text(), "the inner one");
}

#[test]
fn handlers_answer_conditional_requests_by_their_own_tag() {
    type Note = Rc<RefCell<(u32, String)>>;

    async fn read(State(note): State<Note>, asked: Preconditions) -> Result<Response, Response> {
        let (version, text) = note.borrow().clone();
        let tag = ETag::strong(&version.to_string());
        asked.check(tag.clone())?;
        Ok(([(header::ETAG, tag)], text).into_response())
    }
    async fn write(
        State(note): State<Note>,
        asked: Preconditions,
        text: String,
    ) -> Result<(), Response> {
        let version = note.borrow().0;
        asked.check(ETag::strong(&version.to_string()))?;
        note.replace((version + 1, text));
        Ok(())
    }
    let site = Site::start(|_| {
        Router::new()
            .get("/", read)
            .put("/", write)
            .layer(layers::state(Note::default()))
    });
    let mut peer = site.peer();
    let mut ask = |method: &str, headers: &[(&str, &str)], body: &[u8]| {
        let answer = peer.ask(method, "/", headers, body);
        let tag = answer.header("etag").map(str::to_owned);
        (answer.status, tag, answer.text().to_owned())
    };
    let tag = |text: &str| Some(text.to_owned());
    assert_eq!(ask("PUT", &[("if-match", "\"0\"")], b"first").0, 204);
    assert_eq!(ask("PUT", &[("if-match", "\"0\"")], b"late").0, 412);
    assert_eq!(ask("PUT", &[("if-none-match", "*")], b"new").0, 412);
    assert_eq!(
        ask("GET", &[], b""),
        (200, tag("\"1\""), "first".to_owned())
    );
    assert_eq!(
        ask("GET", &[("if-none-match", "\"0\", W/\"1\"")], b""),
        (304, tag("\"1\""), String::new())
    );
}

#[test]
fn a_router_that_is_cloned_is_two() {
    let site = Site::start(|_| {
        let parts = Router::new()
            .get("/part", || "a part")
            .layer(layers::request_id());
        let nested = Router::new().nest("/below", parts.clone());
        Router::new()
            .merge(nested.clone())
            .nest("/again", nested.get("/more", || "more"))
            .merge(parts)
    });
    for (path, text) in [
        ("/part", "a part"),
        ("/below/part", "a part"),
        ("/again/below/part", "a part"),
        ("/again/more", "more"),
    ] {
        let answer = site.get(path);
        assert_eq!((answer.status, answer.text()), (200, text), "{path}");
    }
}

/// hyper trusts a length that a handler sets. The peer would take the rest for another response.
#[test]
fn a_length_that_is_wrong_does_not_come_out() {
    let site = Site::start(|_| {
        let told = |length: &'static str| [(header::CONTENT_LENGTH, length)];
        Router::new()
            .get("/short", move || (told("5"), "hello, HTTP/1.1 200 OK"))
            .get("/long", move || (told("500"), "hello"))
            .get("/no", move || (told("five"), "hello"))
            .get("/right", move || (told("5"), "hello"))
            .get("/empty", move || (told("5"), ""))
            .get("/nothing", move || (StatusCode::NO_CONTENT, told("5"), ""))
            .route(entwined_http::Method::HEAD, "/head", move || {
                (told("500"), "")
            })
    });
    for version in 0..2 {
        let mut peer = site.peer();
        for (path, body) in [
            ("/short", "hello, HTTP/1.1 200 OK"),
            ("/long", "hello"),
            ("/no", "hello"),
            ("/right", "hello"),
            ("/empty", ""),
            ("/nothing", ""),
        ] {
            let answer = peer.get(path);
            assert_eq!(answer.text(), body, "{path} {version}");
        }
        // What HEAD would have is the handler's to say.
        let answer = peer.ask("HEAD", "/head", &[], b"");
        assert_eq!(answer.header("content-length"), Some("500"));
    }
}

/// Over HTTP/2, hyper sends the content of a 204, which clients take for an error of the protocol.
#[test]
fn a_response_whose_status_forbids_content_has_none() {
    let site = Site::start(|_| {
        Router::new()
            .get("/204", || (StatusCode::NO_CONTENT, "content"))
            .get("/205", || (StatusCode::RESET_CONTENT, "content"))
            .get("/304", || (StatusCode::NOT_MODIFIED, "content"))
    });
    let mut peer = site.peer();
    for (path, length) in [("/204", None), ("/205", Some("0")), ("/304", None)] {
        let answer = peer.get(path);
        assert_eq!(answer.text(), "", "{path}");
        if path != "/304" {
            assert_eq!(answer.header("content-length"), length, "{path}");
        }
        assert_eq!(by_http2(&site, path), format!("{} ", &path[1..]));
    }
}

/// A peer that waits for the real response after these waits for ever.
#[test]
fn a_status_that_is_not_final_is_a_mistake_of_the_handler() {
    let site = Site::start(|_| {
        Router::new()
            .get("/100", || StatusCode::CONTINUE)
            .get("/101", || StatusCode::SWITCHING_PROTOCOLS)
            .get("/103", || (StatusCode::EARLY_HINTS, "content"))
    });
    for path in ["/100", "/101", "/103"] {
        let answer = site.get(path);
        let text = "the server made a mistake\n";
        assert_eq!((answer.status, answer.text()), (500, text), "{path}");
        assert_eq!(by_http2(&site, path), format!("{text}500 "), "{path}");
    }
}

/// hyper ends the connection without an answer.
#[test]
fn headers_about_the_length_are_not_the_handlers() {
    let site = Site::start(|_| {
        let lengths = || [(header::CONTENT_LENGTH, "5"), (header::CONTENT_LENGTH, "5")];
        let stream = || Body::stream(Once(Some("hello")));
        Router::new()
            .get("/twice", move || (lengths(), "hello"))
            .get("/stream", move || (lengths(), stream()))
            .get("/word", move || {
                ([(header::CONTENT_LENGTH, "five")], stream())
            })
            .get("/both", || {
                let headers = [
                    (header::CONTENT_LENGTH, "5"),
                    (header::TRANSFER_ENCODING, "chunked"),
                ];
                (headers, "hello")
            })
            .get("/coded", || {
                ([(header::TRANSFER_ENCODING, "gzip")], "hello")
            })
    });
    for path in ["/twice", "/stream", "/word", "/both", "/coded"] {
        let answer = site.get(path);
        assert_eq!((answer.status, answer.text()), (200, "hello"), "{path}");
        assert_ne!(answer.header("transfer-encoding"), Some("gzip, chunked"));
        assert_eq!(by_http2(&site, path), "hello200 ", "{path}");
    }
}

struct Once(Option<&'static str>);

impl futures_core::Stream for Once {
    type Item = Result<entwined_http::Bytes, String>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.take().map(|text| Ok(text.into())))
    }
}

/// Somebody whose upgrade was refused would still be given to the handler that had accepted it.
#[test]
fn an_upgrade_that_was_refused_on_the_way_out_is_none() {
    let called = Arc::new(Mutex::new(0));
    let count = called.clone();
    let site = Site::start(move |_| {
        let upgrade = move |request: Request| {
            let count = count.clone();
            request.upgrade("x", move |_| *count.lock().expect("a lock") += 1)
        };
        Router::new()
            .get("/", upgrade)
            .get("/hello", || "hello")
            .layer(|request: Request, next: Next| async move {
                let refuses = request.path() == "/";
                let mut response = next.run(request).await;
                if refuses {
                    *response.status_mut() = StatusCode::FORBIDDEN;
                }
                response
            })
    });
    let mut peer = site.peer();
    let upgrade = [("connection", "upgrade"), ("upgrade", "x")];
    assert_eq!(peer.ask("GET", "/", &upgrade, b"").status, 403);
    assert_eq!(peer.get("/hello").text(), "hello");
    drop(peer);
    site.wait_until(|server| server.connections() == 0);
    assert_eq!(*called.lock().expect("a lock"), 0);
}

/// A URL has ASCII characters only (RFC 3986, 2): clients guess what others mean.
#[test]
fn a_redirect_to_a_name_that_is_not_ascii_is_encoded() {
    let site = Site::start(|_| {
        Router::new().get("/", || Redirect::to("/caf\u{e9} au lait?a=%20\u{fc}#b"))
    });
    let answer = site.get("/");
    assert_eq!(
        answer.header("location"),
        Some("/caf%C3%A9%20au%20lait?a=%20%C3%BC#b")
    );
}

/// RFC 9110, 5.3: a header that is no list is there once.
#[test]
fn an_error_has_one_content_type() {
    let site = Site::start(|_| {
        Router::new().get("/", || {
            let kind = HeaderValue::from_static("application/problem+json");
            let error = Error::bad_request("{}").with_header(header::CONTENT_TYPE, kind);
            let link = |text| (header::LINK, HeaderValue::from_static(text));
            let ((name, one), (_, other)) = (link("<a>"), link("<b>"));
            Err::<(), _>(
                error
                    .with_header(name.clone(), one)
                    .with_header(name, other),
            )
        })
    });
    let answer = site.get("/");
    let kinds: Vec<_> = answer.headers("content-type").collect();
    assert_eq!(kinds, ["application/problem+json"]);
    assert_eq!(answer.headers("link").count(), 2);
}
