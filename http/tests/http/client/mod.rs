//! Tests the HTTP client against Entwined's own server, other servers, and hostile ones.

mod gone;
mod hostile;
mod peers;
mod proxies;
mod rules;
mod states;
#[cfg(unix)]
mod unix;

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    net::Ipv4Addr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use crate::run::run;
use entwined::{
    Handle,
    tls::{Acceptor, Roots, development},
    transport::{ByteStream, Listen, tcp},
};
use entwined_http::{
    self as http, Body, Bytes, Config, Error, Form, Json, Request, Response, Router, Server,
    StatusCode, Version,
    client::{Builder, Client, ClientError},
    layers,
};
use serde::Deserialize;

fn listen(handle: &Handle) -> impl Listen + use<> {
    tcp::listen(handle, (Ipv4Addr::LOCALHOST, 0)).expect("a free port")
}

/// Starts a server and returns it with its URL.
fn serve(handle: &Handle, router: Router) -> (Server, String) {
    let server = http::serve(listen(handle), router);
    let address = format!("http://{}", server.local_address());
    (server, address)
}

/// Starts a server with TLS and returns it with its URL, and a client that trusts it.
fn serve_tls(handle: &Handle, router: Router, protocols: &[&str]) -> (Server, String, Builder) {
    let identity = development::identity(["localhost", "127.0.0.1"]).expect("names");
    let roots = Roots::only(identity.certificates());
    let acceptor = Acceptor::builder(identity)
        .protocols(protocols)
        .build()
        .expect("an acceptor");
    let server = http::serve(acceptor.listen(listen(handle)), router);
    let port = server.local_address().tcp().expect("TCP").port();
    (
        server,
        format!("https://localhost:{port}"),
        Client::builder(handle).roots(roots),
    )
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

fn router() -> Router {
    Router::new()
        .get("/hello", |request: Request| {
            format!(
                "{:?} {} {:?}",
                request.version(),
                request.host().unwrap_or("none"),
                request.uri().query()
            )
        })
        .post("/json", |Json(name): Json<serde_json::Value>| {
            Json(serde_json::json!({ "said": name }))
        })
        .post("/form", |Form(Name { name })| name)
        .get("/head", |request: Request| {
            let all = request.headers();
            let mut lines: Vec<_> = all
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?")))
                .collect();
            lines.sort();
            lines.join("\n")
        })
        .post("/echo", |mut request: Request| {
            let (sender, body) = channel();
            let handle = request.handle().clone();
            handle.spawn(async move {
                while let Ok(Some(chunk)) = request.chunk().await {
                    sender.send(chunk);
                }
            });
            Response::new(body)
        })
        .get("/large", || vec![b'x'; 3_000_000])
        .get("/never", std::future::pending::<()>)
        .get("/wrong", || {
            Err::<(), _>(Error::new(StatusCode::NOT_FOUND, "not here"))
        })
}

/// A sender and a body that streams what it sends. Tests never send more than fits into its queue.
fn channel() -> (Sender, Body) {
    let shared = Rc::new(RefCell::new((
        std::collections::VecDeque::new(),
        None,
        false,
    )));
    (Sender(shared.clone()), Body::stream(Receiver(shared)))
}

type Shared = Rc<
    RefCell<(
        std::collections::VecDeque<Bytes>,
        Option<std::task::Waker>,
        bool,
    )>,
>;

struct Sender(Shared);
struct Receiver(Shared);

impl Sender {
    fn send(&self, bytes: Bytes) {
        let mut shared = self.0.borrow_mut();
        shared.0.push_back(bytes);
        if let Some(waker) = shared.1.take() {
            waker.wake();
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        shared.2 = true;
        if let Some(waker) = shared.1.take() {
            waker.wake();
        }
    }
}

impl futures_core::Stream for Receiver {
    type Item = Result<Bytes, String>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut shared = self.0.borrow_mut();
        match shared.0.pop_front() {
            Some(bytes) => Poll::Ready(Some(Ok(bytes))),
            None if shared.2 => Poll::Ready(None),
            None => {
                shared.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[test]
fn what_is_asked_is_answered_over_each_version_and_connections_are_used_again() {
    run(|handle| async move {
        let (server, plain) = serve(&handle, router());
        let (_one, tls_one, client_one) = serve_tls(&handle, router(), &["http/1.1"]);
        let (_two, tls_two, client_two) = serve_tls(&handle, router(), &["h2", "http/1.1"]);
        let clients = [
            (&plain, Client::new(&handle), Version::HTTP_11),
            (
                &plain,
                Client::builder(&handle).http2_prior_knowledge().build(),
                Version::HTTP_2,
            ),
            (&tls_one, client_one.build(), Version::HTTP_11),
            (&tls_two, client_two.clone().build(), Version::HTTP_2),
            (&tls_two, client_two.http2(false).build(), Version::HTTP_11),
        ];
        for (address, client, version) in clients {
            let host = if address.starts_with("https") {
                "localhost"
            } else {
                "127.0.0.1"
            };
            for _ in 0..3 {
                let hello = client
                    .get(&format!("{address}/hello?a=b#c"))
                    .query(&[("ü", "&")]);
                let mut response = hello.send().await.expect("a response");
                assert_eq!(response.version(), version);
                let expected = format!("{version:?} {host} Some(\"a=b&%C3%BC=%26\")");
                assert_eq!(response.text().await.expect("a text"), expected);
                let mut response = client
                    .get(&format!("{address}/large"))
                    .send()
                    .await
                    .expect("a response");
                assert_eq!(response.header("content-length"), Some("3000000"));
                assert_eq!(response.bytes().await.expect("all of it").len(), 3_000_000);
            }
            let json = client
                .post(&format!("{address}/json"))
                .json(&["ü"])
                .send()
                .await;
            let said: serde_json::Value = json.expect("a response").json().await.expect("JSON");
            assert_eq!(said, serde_json::json!({ "said": ["ü"] }));
            let form = client
                .post(&format!("{address}/form"))
                .form(&[("name", "Ü & I")])
                .send()
                .await;
            assert_eq!(
                form.expect("a response").text().await.expect("a text"),
                "Ü & I"
            );
            let head = client
                .request(http::Method::HEAD, &format!("{address}/large"))
                .send()
                .await;
            assert_eq!(
                head.expect("a response").bytes().await.expect("nothing"),
                ""
            );
            let missing = client
                .get(&format!("{address}/wrong"))
                .send()
                .await
                .expect("a response");
            assert_eq!(missing.status(), StatusCode::NOT_FOUND);
            assert!(matches!(
                missing.error_for_status(),
                Err(ClientError::Status(StatusCode::NOT_FOUND))
            ));
            // The body was not read, which closes the connection in HTTP/1.1.
            let mut hello = client
                .get(&format!("{address}/hello"))
                .send()
                .await
                .expect("a response");
            hello.bytes().await.expect("all of it");
            assert_eq!(client.connections(), 1, "{version:?} {address}");
        }
        assert!(server.connections() <= 4);
    });
}

#[test]
fn bodies_stream_both_ways_at_once() {
    run(|handle| async move {
        let (_one, plain) = serve(&handle, router());
        let (_two, secure, client) = serve_tls(&handle, router(), &["h2"]);
        for (address, client) in [(plain, Client::new(&handle)), (secure, client.build())] {
            let (sender, body) = channel();
            sender.send("first".into());
            let sending = client
                .post(&format!("{address}/echo"))
                .body(body)
                .send()
                .await;
            let mut response =
                sending.expect("the head, long before the end of the body that is sent");
            assert_eq!(
                response
                    .chunk()
                    .await
                    .expect("a piece")
                    .expect("not the end"),
                "first"
            );
            for turn in 0..10 {
                sender.send(format!("{turn}").into());
                assert_eq!(
                    response
                        .chunk()
                        .await
                        .expect("a piece")
                        .expect("not the end"),
                    format!("{turn}")
                );
            }
            drop(sender);
            assert!(response.chunk().await.expect("an end").is_none());
            assert!(response.chunk().await.expect("an end").is_none());
        }
    });
}

#[test]
fn a_response_can_be_the_body_of_another_request() {
    run(|handle| async move {
        let (_server, address) = serve(&handle, router());
        let client = Client::new(&handle);
        let large = client
            .get(&format!("{address}/large"))
            .send()
            .await
            .expect("a response");
        let echo = client
            .post(&format!("{address}/echo"))
            .body(Body::stream(large))
            .send()
            .await;
        let mut echo = echo.expect("a response");
        assert_eq!(echo.bytes().await.expect("all of it").len(), 3_000_000);
    });
}

#[test]
fn redirects_are_followed_as_the_rfc_says_and_secrets_stay_where_they_belong() {
    fn to(status: u16, location: String) -> impl Fn() -> Response + 'static {
        move || {
            let mut response = Response::new(Body::from("elsewhere"));
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            response
                .headers_mut()
                .insert("location", location.parse().expect("a value"));
            response
        }
    }
    async fn said(mut request: Request) -> String {
        let method = request.method().clone();
        let secret = request.header("authorization").unwrap_or("none").to_owned();
        let kind = request.header("content-type").unwrap_or("none").to_owned();
        let body = request.text().await.expect("a body");
        format!("{method} {secret} {kind} {body:?}")
    }
    run(|handle| async move {
        let (_other, other) = serve(&handle, Router::new().any("/said", said));
        let mut router = Router::new()
            .any("/said", said)
            .get("/loop", to(302, "/loop".to_owned()))
            .get("/ftp", to(302, "ftp://localhost/".to_owned()))
            .get("/nowhere", to(302, "http://[".to_owned()));
        for status in [301, 302, 303, 307, 308] {
            router = router.any(&format!("/{status}"), to(status, "said".to_owned()));
            router = router.any(
                &format!("/{status}/other"),
                to(status, format!("{other}/said")),
            );
        }
        let (_server, address) = serve(&handle, router);
        let client = Client::new(&handle);
        for status in [301, 302, 303, 307, 308] {
            let kept = status >= 307;
            for (path, secret) in [
                (format!("/{status}"), "Bearer t"),
                (format!("/{status}/other"), "none"),
            ] {
                let request = client
                    .post(&format!("{address}{path}"))
                    .bearer_auth("t")
                    .json(&[1]);
                let mut response = request.send().await.expect("a response");
                let expected = if kept {
                    format!("POST {secret} application/json \"[1]\"")
                } else {
                    format!("GET {secret} none \"\"")
                };
                assert_eq!(response.text().await.expect("a text"), expected, "{path}");
                assert!(response.url().ends_with("/said"), "{}", response.url());
            }
            let (sender, body) = channel();
            sender.send("once".into());
            drop(sender);
            let streamed = client
                .post(&format!("{address}/{status}"))
                .body(body)
                .send()
                .await;
            match streamed {
                Ok(_) => assert!(!kept),
                Err(ClientError::Redirect(message)) => {
                    assert!(kept && message.contains("again"), "{message}")
                }
                Err(error) => panic!("{error}"),
            }
        }
        for (path, says) in [
            ("loop", "more than 10"),
            ("ftp", "ftp://localhost/"),
            ("nowhere", "http://["),
        ] {
            let error = client
                .get(&format!("{address}/{path}"))
                .send()
                .await
                .expect_err("no response");
            assert!(error.to_string().contains(says), "{error}");
        }
        let few = Client::builder(&handle).max_redirects(1).build();
        let error = few
            .get(&format!("{address}/loop"))
            .send()
            .await
            .expect_err("not followed");
        assert!(matches!(error, ClientError::Redirect(_)), "{error}");
    });
}

#[test]
fn cookies_are_kept_if_that_is_asked_for() {
    run(|handle| async move {
        let set = || {
            let mut response = Response::new(Body::empty());
            for cookie in [
                "a=1; Path=/deep",
                "b=2; HttpOnly",
                "c=3; Secure",
                "d=4; Domain=example.org",
                "e=5; Max-Age=0",
            ] {
                response
                    .headers_mut()
                    .append("set-cookie", cookie.parse().expect("a value"));
            }
            response
        };
        let told = |request: Request| request.header("cookie").unwrap_or("none").to_owned();
        let (_server, address) = serve(
            &handle,
            Router::new()
                .get("/set", set)
                .get("/told", told)
                .get("/deep/told", told),
        );
        let client = Client::builder(&handle).cookies().build();
        client
            .get(&format!("{address}/set"))
            .send()
            .await
            .expect("a response");
        // The loopback address counts as secure, as in browsers.
        for (path, expected) in [("/told", "b=2; c=3"), ("/deep/told", "a=1; b=2; c=3")] {
            let mut response = client
                .get(&format!("{address}{path}"))
                .send()
                .await
                .expect("a response");
            let text = response.text().await.expect("a text");
            let mut all: Vec<_> = text.split("; ").collect();
            all.sort_unstable();
            assert_eq!(all.join("; "), expected);
        }
        let client = Client::new(&handle);
        client
            .get(&format!("{address}/set"))
            .send()
            .await
            .expect("a response");
        let mut response = client
            .get(&format!("{address}/told"))
            .send()
            .await
            .expect("a response");
        assert_eq!(response.text().await.expect("a text"), "none");
    });
}

#[test]
fn compressed_bodies_are_unpacked_unless_that_is_not_wanted() {
    run(|handle| async move {
        let text = "all the same ".repeat(10_000);
        let shown = text.clone();
        let router = Router::new()
            .get("/", move || shown.clone())
            .layer(layers::compression());
        let (_server, address) = serve(&handle, router);
        for asked in [None, Some("gzip"), Some("br")] {
            let mut request = Client::new(&handle).get(&address);
            if let Some(asked) = asked {
                request = request.header("accept-encoding", asked);
            }
            let mut response = request.send().await.expect("a response");
            assert_eq!(
                (response.header("content-encoding"), response.header("vary")),
                (None, Some("Accept-Encoding"))
            );
            assert_eq!(response.text().await.expect("a text"), text);
        }
        let client = Client::builder(&handle).decompress(false).build();
        let mut response = client.get(&address).send().await.expect("a response");
        assert_eq!(response.text().await.expect("a text"), text);
        let mut response = client
            .get(&address)
            .header("accept-encoding", "gzip")
            .send()
            .await
            .expect("a response");
        assert_eq!(response.header("content-encoding"), Some("gzip"));
        assert!(response.bytes().await.expect("all of it").len() < text.len() / 10);
    });
}

#[test]
fn no_more_requests_than_allowed_are_under_way_and_no_more_connections_kept() {
    run(|handle| async move {
        let (now, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let seen = most.clone();
        let slow = move |request: Request| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                now.set(now.get() + 1);
                most.set(most.get().max(now.get()));
                request.handle().sleep(Duration::from_millis(5)).await;
                now.set(now.get() - 1);
            }
        };
        let (server, address) = serve(&handle, Router::new().get("/", slow));
        let client = Client::builder(&handle)
            .max_concurrent(5)
            .max_idle_per_host(2)
            .idle_timeout(Duration::from_millis(50))
            .build();
        let all: Vec<_> = (0..40)
            .map(|_| {
                let sending = client.get(&address).send();
                handle.spawn(async move {
                    sending
                        .await
                        .expect("a response")
                        .bytes()
                        .await
                        .expect("all of it");
                })
            })
            .collect();
        for task in all {
            task.await.expect("a response");
        }
        assert_eq!(seen.get(), 5);
        assert!(
            client.connections() <= 2,
            "{} are kept",
            client.connections()
        );
        while client.connections() > 0 || server.connections() > 0 {
            handle.sleep(Duration::from_millis(1)).await;
        }
    });
}

/// A piece each 10 ms, for ever.
struct Dripping(Handle, Option<entwined::task::Sleep>);

impl futures_core::Stream for Dripping {
    type Item = Result<Bytes, io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let sleep = this
            .1
            .get_or_insert_with(|| this.0.sleep(Duration::from_millis(10)));
        std::task::ready!(Future::poll(Pin::new(sleep), cx));
        this.1 = None;
        Poll::Ready(Some(Ok(Bytes::from_static(b"x"))))
    }
}

#[test]
fn the_time_of_a_request_is_that_of_its_body_too() {
    run(|handle| async move {
        let drip = |request: Request| {
            Response::new(Body::stream(Dripping(request.handle().clone(), None)))
        };
        let (_server, address) = serve(&handle, Router::new().get("/", drip));
        let asking = Client::new(&handle).get(&address);
        let mut response = asking
            .timeout(Duration::from_millis(200))
            .send()
            .await
            .expect("a head");
        let late = response.bytes().await.expect_err("it has no end");
        assert!(matches!(late, ClientError::TimedOut(_)), "{late}");
    });
}

/// A body of some text with trailers behind it.
struct Trailed(u8);

impl http_body::Body for Trailed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0 += 1;
        Poll::Ready(match self.0 {
            1 | 2 => Some(Ok(http_body::Frame::data("some text ".repeat(500).into()))),
            3 => {
                let mut trailers = entwined_http::HeaderMap::new();
                trailers.insert("x-sum", "42".parse().expect("a value"));
                Some(Ok(http_body::Frame::trailers(trailers)))
            }
            _ => None,
        })
    }
}

#[test]
fn trailers_pass_compression_and_decompression_both_ways() {
    run(|handle| async move {
        let answer = |mut request: Request| async move {
            let mut read = 0;
            while let Some(chunk) = request.chunk().await? {
                read += chunk.len();
            }
            let sum = request
                .trailers()
                .and_then(|trailers| trailers.get("x-sum"));
            assert_eq!(sum.map(|sum| sum.as_bytes()), Some(&b"42"[..]));
            assert_eq!(read, 10_000);
            let headers = [("content-type", "text/plain"), ("trailer", "x-sum")];
            Ok::<_, Error>((headers, Response::new(Body::frames(Trailed(0)))))
        };
        let router = Router::new().post("/", answer).layer(layers::compression());
        let (_server, address) = serve(&handle, router);
        let one = Client::new(&handle);
        let two = Client::builder(&handle).http2_prior_knowledge().build();
        for client in [one, two] {
            let mut response = client
                .post(&address)
                .header("te", "trailers")
                .header("trailer", "x-sum")
                .body(Body::frames(Trailed(0)))
                .send()
                .await
                .expect("a response");
            assert_eq!(response.status(), 200, "{:?}", response.version());
            assert!(response.trailers().is_none());
            // It came compressed: its length is gone with its coding.
            assert_eq!(response.header("vary"), Some("Accept-Encoding"));
            assert_eq!(response.bytes().await.expect("all of it").len(), 10_000);
            let sum = response
                .trailers()
                .and_then(|trailers| trailers.get("x-sum"));
            assert_eq!(sum.map(|sum| sum.as_bytes()), Some(&b"42"[..]));
        }
    });
}

/// Requests that wait for their answers.
type Waiting = Vec<entwined::deferred::Resolver<(), String>>;

/// A handler that answers when it is told to.
fn gate() -> (Rc<RefCell<Waiting>>, Router) {
    let waiting = Rc::new(RefCell::new(Vec::new()));
    let all = waiting.clone();
    let handler = move || {
        let (resolver, deferred) = entwined::deferred::Deferred::new();
        all.borrow_mut().push(resolver);
        async move { deferred.await.map_err(Error::internal) }
    };
    (waiting, Router::new().get("/", handler))
}

#[test]
fn connections_that_were_all_in_use_at_once_are_not_all_kept() {
    run(|handle| async move {
        let (waiting, site) = gate();
        let (server, address) = serve(&handle, site);
        let client = Client::builder(&handle).max_idle_per_host(3).build();
        let all: Vec<_> = (0..20)
            .map(|_| handle.spawn(client.get(&address).send()))
            .collect();
        while waiting.borrow().len() < 20 {
            handle.sleep(Duration::from_millis(1)).await;
        }
        for resolver in waiting.take() {
            resolver.resolve(());
        }
        for task in all {
            let mut response = task.await.expect("a task").expect("a response");
            response.bytes().await.expect("all of it");
        }
        while client.connections() > 3 || server.connections() > 3 {
            handle.sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(client.connections(), 3);
    });
}

#[test]
fn idle_connections_to_all_hosts_are_bounded_together() {
    run(|handle| async move {
        let servers: Vec<_> = (0..12)
            .map(|_| serve(&handle, Router::new().get("/", || "hello")))
            .collect();
        let client = Client::builder(&handle).max_idle(5).build();
        for (_, address) in &servers {
            let mut response = client.get(address).send().await.expect("a response");
            assert_eq!(response.text().await.expect("a text"), "hello");
        }
        let open = || servers.iter().map(|(server, _)| server.connections());
        while client.connections() > 5 || open().sum::<usize>() > 5 {
            handle.sleep(Duration::from_millis(1)).await;
        }
        // Those that were used last are kept.
        assert_eq!(open().collect::<Vec<_>>()[7..], [1; 5]);
    });
}

#[test]
fn an_idle_connection_is_closed_when_its_time_is_over() {
    let simulation = entwined::simulation::Simulation::new();
    let handle = simulation.handle();
    let time = Duration::from_secs(30);
    let (near, far) = entwined::transport::memory::pair(&handle);
    let near = RefCell::new(Some(near));
    let client = Client::builder(&handle)
        .connector(move |_| {
            let near = near.borrow_mut().take();
            async move { Ok(Box::new(near.expect("one connection")) as Box<dyn ByteStream>) }
        })
        .build();
    http::serve(
        entwined::transport::listen_once(&handle, far),
        Router::new().get("/", || "hello"),
    )
    .keep();
    let ask = |client: &Client| {
        let asking = client.get("http://localhost/").send();
        let task = async move {
            asking
                .await
                .expect("a response")
                .bytes()
                .await
                .expect("all")
        };
        let body = simulation.run_until(handle.spawn(task)).expect("an answer");
        assert_eq!(body, "hello");
    };
    ask(&client);
    simulation.advance(Duration::from_secs(20));
    ask(&client);
    simulation.advance(time - Duration::from_millis(10));
    assert_eq!(client.connections(), 1);
    simulation.advance(Duration::from_millis(20));
    assert_eq!(client.connections(), 0);
}

#[test]
fn requests_that_wait_for_a_host_are_bounded_and_those_given_up_make_room() {
    run(|handle| async move {
        let (waiting, site) = gate();
        let (_server, address) = serve(&handle, site);
        let client = Client::builder(&handle)
            .max_concurrent(1)
            .max_waiting(3)
            .build();
        let first = handle.spawn(client.get(&address).send());
        while waiting.borrow().is_empty() {
            handle.sleep(Duration::from_millis(1)).await;
        }
        let mut waiters: Vec<_> = (0..3)
            .map(|_| handle.spawn(client.get(&address).send()))
            .collect();
        let is_refused = || async {
            // Those before it get as far as they can.
            handle.sleep(Duration::from_millis(1)).await;
            let refused = client.get(&address).send().await;
            matches!(refused, Err(ClientError::TooManyWaiting))
        };
        assert!(is_refused().await);
        // One is given up, and another one may wait.
        waiters.pop().expect("a task").cancel();
        waiters.push(handle.spawn(client.get(&address).send()));
        assert!(is_refused().await);
        waiters.insert(0, first);
        for task in waiters {
            let mut task = std::pin::pin!(task);
            let response = loop {
                for resolver in waiting.take() {
                    resolver.resolve(());
                }
                if let Ok(answered) = handle.timeout(Duration::from_millis(1), &mut task).await {
                    break answered;
                }
            };
            let response = response.expect("a task").expect("a response");
            assert!(response.status().is_success());
        }
    });
}

#[test]
fn what_takes_too_long_ends_with_a_word_of_what() {
    run(|handle| async move {
        let stalls = || Response::new(channel_that_stalls());
        let (_server, address) = serve(&handle, router().get("/stalls", stalls));
        let limit = Duration::from_millis(50);
        let client = Client::builder(&handle)
            .response_timeout(limit)
            .body_timeout(limit)
            .build();
        let error = client
            .get(&format!("{address}/never"))
            .send()
            .await
            .expect_err("no response");
        assert_eq!(error.to_string(), "the response took too long");
        let mut response = client
            .get(&format!("{address}/stalls"))
            .send()
            .await
            .expect("a head");
        assert_eq!(
            response
                .chunk()
                .await
                .expect("a piece")
                .expect("not the end"),
            "begin"
        );
        let error = response.chunk().await.expect_err("no more comes");
        assert_eq!(error.to_string(), "the body of the response took too long");
        assert!(response.chunk().await.expect("it is over").is_none());
        let client = Client::new(&handle);
        let error = client
            .get(&format!("{address}/never"))
            .timeout(limit)
            .send()
            .await
            .expect_err("no response");
        assert_eq!(error.to_string(), "the response took too long");
        // A listener that never accepts: the kernel accepts connections, but nobody speaks TLS.
        let silent = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let url = format!("https://{}/", silent.local_addr().expect("an address"));
        let client = Client::builder(&handle).connect_timeout(limit).build();
        let error = client.get(&url).send().await.expect_err("no connection");
        assert_eq!(error.to_string(), "connecting to the server took too long");
    });
}

fn channel_that_stalls() -> Body {
    let (sender, body) = channel();
    sender.send("begin".into());
    std::mem::forget(sender);
    body
}

#[test]
fn what_cannot_be_asked_says_why() {
    run(|handle| async move {
        let (server, address) = serve(&handle, router());
        let (_tls, secure, _) = serve_tls(&handle, router(), &[]);
        let client = Client::new(&handle);
        let closed = {
            let listener =
                std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            format!("http://{}/", listener.local_addr().expect("an address"))
        };
        for (url, says) in [
            ("nonsense", "\"nonsense\" is not a valid URL"),
            ("ftp://localhost/", "the scheme \"ftp\", not http or https"),
            ("http://", "is not a valid URL"),
            (&closed, "nobody listens on"),
            (&secure, "certificate"),
            ("http://name.invalid/", "name.invalid"),
        ] {
            let error = client.get(url).send().await.expect_err("no response");
            assert!(error.to_string().contains(says), "{url}: {error}");
        }
        let error = client
            .get(&address)
            .header("a b", "c")
            .send()
            .await
            .expect_err("no header");
        assert_eq!(error.to_string(), "\"a b\" is not a valid header name");
        let error = client
            .get(&address)
            .header("a", "b\r\nc: d")
            .send()
            .await
            .expect_err("no header");
        assert!(
            error.to_string() == "the value of the header a is not valid",
            "{error}"
        );
        let mut large = client
            .get(&format!("{address}/large"))
            .send()
            .await
            .expect("a response");
        let error = large.bytes_up_to(1_000_000).await.expect_err("too much");
        assert_eq!(error.to_string(), "the body has more than 1000000 bytes");
        let mut text = client
            .get(&format!("{address}/hello"))
            .send()
            .await
            .expect("a response");
        let error = text.json::<i32>().await.expect_err("no JSON");
        assert!(matches!(error, ClientError::Decode(_)), "{error}");
        drop(server);
    });
}

/// Each response is the last one on its connection, or the connection ends while the next request
/// is being sent.
#[test]
fn servers_that_close_connections_are_asked_again_by_others() {
    run(|handle| async move {
        let mut config = Config::default();
        (config.max_requests, config.idle_timeout) = (3, Duration::from_millis(1));
        let server = http::serve_with(listen(&handle), router(), config);
        let client = Client::new(&handle);
        for number in 0..200 {
            let mut response = client
                .get(&format!("http://{}/hello", server.local_address()))
                .send()
                .await
                .expect("a response");
            response.text().await.expect("a text");
            // The next request may come before, during or after the moment when the server closes.
            handle.sleep(Duration::from_micros(number * 20)).await;
        }
        assert_eq!(server.requests(), 200);
    });
}

/// "For ever" is a usual thing to say, and no clock reaches that far.
#[test]
fn no_time_of_a_client_is_too_long() {
    run(|handle| async move {
        let (_server, address) = serve(&handle, Router::new().get("/", || "hello"));
        let client = Client::builder(&handle)
            .connect_timeout(Duration::MAX)
            .response_timeout(Duration::MAX)
            .body_timeout(Duration::MAX)
            .idle_timeout(Duration::MAX)
            .build();
        for _ in 0..2 {
            let asking = client.get(&address).timeout(Duration::MAX);
            let mut response = asking.send().await.expect("a response");
            assert_eq!(response.text().await.expect("a text"), "hello");
        }
        let config = Config {
            body_timeout: Duration::MAX,
            write_timeout: Duration::MAX,
            ..Config::default()
        };
        let slow = |handle: Handle| async move {
            handle.sleep(Duration::from_millis(20)).await;
            vec![b'x'; 1 << 20]
        };
        let server = http::serve_with(listen(&handle), Router::new().get("/", slow), config);
        let two = Client::builder(&handle).http2_prior_knowledge();
        let two = two.body_timeout(Duration::MAX).build();
        let asking = two.get(&format!("http://{}", server.local_address()));
        let mut response = asking.send().await.expect("a response");
        // It has to wait for more than one piece.
        assert_eq!(response.bytes().await.expect("bytes").len(), 1 << 20);
    });
}

/// No time at all is how one says that connections are not kept.
#[test]
fn a_limit_of_no_time_does_not_keep_the_thread_busy() {
    run(|handle| async move {
        let slow = |handle: Handle| async move {
            handle.sleep(Duration::from_millis(300)).await;
            "late"
        };
        let config = Config {
            idle_timeout: Duration::ZERO,
            ..Config::default()
        };
        let server = http::serve_with(listen(&handle), Router::new().get("/", slow), config);
        let address = format!("http://{}", server.local_address());
        for client in [
            Client::builder(&handle).idle_timeout(Duration::ZERO),
            Client::builder(&handle)
                .idle_timeout(Duration::ZERO)
                .http2_prior_knowledge(),
        ] {
            let before = handle.metrics().turns;
            let mut response = client
                .build()
                .get(&address)
                .send()
                .await
                .expect("a response");
            assert_eq!(response.text().await.expect("a text"), "late");
            let turns = handle.metrics().turns - before;
            assert!(turns < 300, "{turns} turns");
        }
    });
}

/// RFC 7617, 2: what comes behind the first colon is the password.
#[test]
fn a_user_name_with_a_colon_is_not_sent() {
    run(|handle| async move {
        let (_server, address) = serve(&handle, Router::new().get("/", || "hello"));
        let client = Client::new(&handle);
        let asking = client.get(&address).basic_auth("Ada:secret", "word");
        let error = asking
            .send()
            .await
            .map(|_| ())
            .expect_err("no name")
            .to_string();
        assert!(
            error.contains("colon") && !error.contains("secret"),
            "{error}"
        );
        for (name, password) in [
            ("Ada", "secret\n"),
            ("Ada\0secret", ""),
            ("secret\u{7f}", ""),
        ] {
            let sent = client.get(&address).basic_auth(name, password).send().await;
            let error = sent.map(|_| ()).expect_err("no name").to_string();
            assert!(
                error.contains("control") && !error.contains("secret"),
                "{error}"
            );
        }
        let url = address.replace("//", "//Ada:secret%0A@");
        let error = client.get(&url).send().await.map(|_| ());
        let error = error.expect_err("no name").to_string();
        assert!(error.contains("control"), "{error}");
        let url = address.replace("//", "//Ada%3Asecret:word@");
        let error = client.get(&url).send().await.map(|_| ());
        let error = error.expect_err("no name").to_string();
        assert!(
            error.contains("colon") && !error.contains("secret"),
            "{error}"
        );
    });
}

/// Servers refuse two, or take the one that was meant to be replaced (RFC 9110, 5.3).
#[test]
fn the_last_credentials_are_those_that_are_sent() {
    run(|handle| async move {
        let all = |request: Request| {
            let all = request.headers().get_all("authorization").iter();
            let all: Vec<_> = all.map(|it| it.to_str().unwrap_or("").to_owned()).collect();
            all.join(", ")
        };
        let (_server, address) = serve(&handle, Router::new().get("/", all));
        let asking = Client::new(&handle).get(&address);
        let asking = asking.basic_auth("Ada", "word").bearer_auth("one");
        let mut answer = asking.bearer_auth("two").send().await.expect("a response");
        assert_eq!(answer.text().await.expect("a text"), "Bearer two");
    });
}
