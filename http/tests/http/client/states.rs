//! The client in states that are neither the beginning nor the end.

use std::{
    cell::Cell,
    future::poll_fn,
    io::{Read, Write},
    net::TcpStream,
    pin::{Pin, pin},
    sync::{Arc, Mutex, mpsc},
    task::{Context, Poll},
    thread,
    time::Duration,
};

use entwined_http::{
    Body, Bytes, Config, HeaderMap, HeaderValue, Json, Method, Request, Response, Router,
    StatusCode,
    client::{Client, ClientError},
    header,
};
use http_body::Frame;

use super::{
    listen,
    rules::{answering, begin, by_hand, frame, head, next_request, ok},
    serve,
};
use crate::{
    gate::{Gate, Gated},
    run::run,
};

/// What would go on if it waited for something that never comes.
const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn a_response_without_content_does_not_keep_its_place() {
    run(|handle| async move {
        let router = Router::new()
            .get("/", || "content")
            .post("/", || StatusCode::NO_CONTENT)
            .put("/", || StatusCode::NOT_MODIFIED)
            .delete("/", || "");
        let (_server, url) = serve(&handle, router);
        for two in [false, true] {
            let client = Client::builder(&handle).max_concurrent(1);
            let client = match two {
                true => client.http2_prior_knowledge(),
                false => client,
            };
            let client = client.build();
            let mut all = Vec::new();
            for method in [Method::HEAD, Method::POST, Method::PUT, Method::DELETE] {
                let asked = client.request(method.clone(), &url).timeout(LIMIT).send();
                let answer = asked.await;
                all.push(answer.unwrap_or_else(|error| panic!("{two} {method}: {error}")));
            }
            let mut last = client
                .get(&url)
                .timeout(LIMIT)
                .send()
                .await
                .expect("a place");
            assert_eq!(last.text().await.expect("a text"), "content");
            if !two {
                assert_eq!(client.connections(), 1);
            }
        }
    });
}

/// Each waited behind the ones before, and the wait counted as the server's.
#[test]
fn a_server_that_takes_one_stream_at_a_time_is_asked_over_more_connections() {
    run(|handle| async move {
        let router = Router::new().get("/", |request: Request| async move {
            request.handle().sleep(Duration::from_millis(400)).await;
            "content"
        });
        let config = Config {
            max_streams: 1,
            ..Config::default()
        };
        let server = entwined_http::serve_with(listen(&handle), router, config);
        let url = format!("http://{}/", server.local_address());
        let client = Client::builder(&handle)
            .http2_prior_knowledge()
            .response_timeout(Duration::from_secs(1))
            .build();
        let first = client.get(&url).send().await.expect("a response");
        assert_eq!(first.version(), entwined_http::Version::HTTP_2);
        drop(first);
        let asked: Vec<_> = (0..4)
            .map(|_| handle.spawn(client.get(&url).send()))
            .collect();
        for sent in asked {
            let mut response = sent.await.expect("it ends").expect("a response");
            assert_eq!(response.text().await.expect("a text"), "content");
        }
        assert!(client.connections() <= 4);
    });
}

/// Longer than the whole exchange may take.
const HOLD: Duration = Duration::from_millis(1_500);
const TIME: Duration = Duration::from_secs(1);

/// As with an answer that comes in time for the other limits.
#[test]
fn what_had_come_in_time_counts_for_the_limit_of_the_whole_exchange() {
    let (tell, told) = mpsc::channel();
    let (go, goes) = mpsc::channel::<()>();
    let url = by_hand(vec![Box::new(move |mut stream: TcpStream| {
        head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwh");
        goes.recv().expect("the client waits");
        let _ = stream.write_all(b"ole");
        let _ = tell.send(());
        let _ = stream.read_to_end(&mut Vec::new());
    })]);
    run(|handle| async move {
        let client = Client::new(&handle);
        let sent = client.get(&url).timeout(TIME).send();
        let mut response = sent.await.expect("a response");
        let first = response.chunk().await.expect("a piece");
        assert_eq!(first.as_deref(), Some(&b"wh"[..]));
        let rest = handle.spawn(async move { response.text().await });
        // Afterwards it waits.
        handle.sleep(Duration::ZERO).await;
        go.send(()).expect("the server waits");
        told.recv().expect("it was sent");
        thread::sleep(HOLD);
        assert_eq!(rest.await.expect("it ends").expect("it came in time"), "ol");
    });
}

#[test]
fn a_head_that_had_come_in_time_counts_for_the_limit_of_the_whole_exchange() {
    let (tell, told) = mpsc::channel();
    let (go, goes) = mpsc::channel::<()>();
    let url = by_hand(vec![Box::new(move |mut stream: TcpStream| {
        head(&mut stream);
        let _ = tell.send(());
        goes.recv().expect("the client waits");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let _ = tell.send(());
        let _ = stream.read_to_end(&mut Vec::new());
    })]);
    run(|handle| async move {
        let client = Client::new(&handle);
        let sent = handle.spawn(client.get(&url).timeout(TIME).send());
        // The answer comes while the thread is held.
        let looking = handle.call_every(Duration::from_millis(1), move |_| {
            if told.try_recv().is_ok() {
                go.send(()).expect("the server waits");
                told.recv().expect("it was sent");
                thread::sleep(HOLD);
            }
        });
        let response = sent.await.expect("it ends").expect("it came in time");
        assert_eq!(response.status(), StatusCode::OK);
        looking.cancel();
    });
}

#[test]
fn a_switch_of_protocols_that_nobody_asked_for_is_an_error() {
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
        upgrade: x\r\n\r\nbytes of x";
    let (url, _) = answering(1, answer);
    run(|handle| async move {
        let sent = Client::new(&handle).get(&url).timeout(LIMIT).send().await;
        let error = sent.map(|it| it.status()).expect_err("no response");
        assert!(matches!(error, ClientError::Establish(_)), "{error:?}");
    });
}

#[test]
fn a_client_opens_no_tunnels() {
    run(|handle| async move {
        let (_server, url) = serve(&handle, Router::new());
        for client in [
            Client::new(&handle),
            Client::builder(&handle).http2_prior_knowledge().build(),
        ] {
            let sent = client.request(Method::CONNECT, &url).timeout(LIMIT).send();
            let error = sent.await.map(|it| it.status()).expect_err("no response");
            assert!(matches!(error, ClientError::Request(_)), "{error:?}");
        }
    });
}

#[test]
fn a_request_that_was_processed_before_the_server_went_away_is_not_sent_again() {
    let (count, counted) = mpsc::channel();
    let talks = (0..2).map(|_| {
        let count = count.clone();
        Box::new(move |mut stream: TcpStream| {
            begin(&mut stream);
            let first = next_request(&mut stream);
            stream.write_all(&ok(first)).expect("written");
            let second = next_request(&mut stream);
            let _ = count.send(second);
            // The second is among those that are processed.
            let away = [second.to_be_bytes(), 2_u32.to_be_bytes()].concat();
            stream.write_all(&frame(7, 0, 0, &away)).expect("written");
        }) as Box<dyn FnOnce(TcpStream) + Send>
    });
    let url = by_hand(talks.collect());
    run(|handle| async move {
        let client = Client::builder(&handle).http2_prior_knowledge().build();
        let post = || client.post(&url).body("x").timeout(LIMIT).send();
        assert_eq!(post().await.expect("a response").status(), StatusCode::OK);
        let error = post()
            .await
            .map(|it| it.status())
            .expect_err("it may be processed");
        assert!(matches!(error, ClientError::Http(_)), "{error}");
    });
    assert_eq!(counted.try_iter().count(), 1);
}

/// The largest head of HTTP/1.
#[test]
fn a_head_may_be_as_large_in_each_version() {
    run(|handle| async move {
        let router = Router::new()
            .get("/large", || {
                let value = HeaderValue::try_from("x".repeat(40 * 1024)).expect("a value");
                ([("x-large", value)], "content")
            })
            .get("/many", || {
                let mut headers = HeaderMap::new();
                for number in 0..500 {
                    let value = HeaderValue::try_from(format!("name{number}=1")).expect("a value");
                    headers.append(header::SET_COOKIE, value);
                }
                (headers, "content")
            });
        let (_server, url) = serve(&handle, router);
        for (version, client) in [
            (1, Client::new(&handle)),
            (2, Client::builder(&handle).http2_prior_knowledge().build()),
        ] {
            for path in ["large", "many"] {
                let asked = client.get(&format!("{url}/{path}")).timeout(LIMIT);
                let response = asked.send().await;
                let mut response =
                    response.unwrap_or_else(|error| panic!("{version} {path}: {error:?}"));
                assert_eq!(response.text().await.expect("a text"), "content");
            }
        }
    });
}

#[test]
fn cookies_go_in_the_order_in_which_they_were_made() {
    run(|handle| async move {
        let router = Router::new()
            .get("/", |request: entwined_http::Request| {
                request.header("cookie").unwrap_or("").to_owned()
            })
            .post("/", |request: entwined_http::Request| {
                let mut response = Response::new(Body::empty());
                let set = request.header("x-set").unwrap_or("");
                response
                    .headers_mut()
                    .insert(header::SET_COOKIE, set.parse().expect("a value"));
                response
            });
        let (_server, url) = serve(&handle, router);
        let client = Client::builder(&handle).cookies().build();
        for set in [
            "a=1; Path=/",
            "b=1; Path=/",
            "a=2; Path=/",
            "c=1; Max-Age=99999999999999999999; Path=/",
        ] {
            client
                .post(&url)
                .header("x-set", set)
                .send()
                .await
                .expect("a response");
        }
        let mut got = client.get(&url).send().await.expect("a response");
        assert_eq!(got.text().await.expect("a text"), "a=2; b=1; c=1");
    });
}

/// Over HTTP/2 they share a window. What nobody reads takes none of it away from others.
#[test]
fn responses_that_are_kept_unread_do_not_hold_up_another() {
    run(|handle| async move {
        let router = Router::new()
            .get("/large", || vec![b'x'; 3_000_000])
            .get("/small", || "small".repeat(10_000));
        let (_server, url) = serve(&handle, router);
        let client = Client::builder(&handle).http2_prior_knowledge();
        let client = client.body_timeout(TIME).build();
        let mut kept = Vec::new();
        for _ in 0..8 {
            let sent = client.get(&format!("{url}/large")).send().await;
            kept.push(sent.expect("a response"));
        }
        let sent = client.get(&format!("{url}/small")).send().await;
        let text = sent.expect("a response").text().await;
        assert_eq!(text.expect("all of it").len(), 50_000);
        assert_eq!(client.connections(), 1);
    });
}

/// As above, in the other direction: the peer could not send, and was too slow.
#[test]
fn uploads_that_wait_for_their_handlers_do_not_hold_up_another() {
    run(|handle| async move {
        let router = Router::new()
            .post("/waits", |request: Request| async move {
                std::future::pending::<()>().await;
                drop(request);
            })
            .post("/reads", |body: Bytes| body.len().to_string());
        let config = Config {
            rate_grace: TIME,
            ..Config::default()
        };
        let server = entwined_http::serve_with(listen(&handle), router, config);
        let url = format!("http://{}", server.local_address());
        let client = Client::builder(&handle).http2_prior_knowledge().build();
        let upload = |path: &str, size: usize| {
            let sent = client.post(&format!("{url}/{path}")).body(vec![b'x'; size]);
            handle.spawn(sent.send())
        };
        // The connection is there.
        upload("reads", 1).await.expect("sent").expect("a response");
        let all: Vec<_> = (0..8).map(|_| upload("waits", 1_000_000)).collect();
        while server.requests() < 1 + all.len() as u64 {
            handle.sleep(Duration::from_millis(1)).await;
        }
        let sent = upload("reads", 50_000).await.expect("sent");
        let text = sent.expect("a response").text().await;
        assert_eq!(text.expect("a number"), "50000");
    });
}

/// A body that panics when it is asked for its second piece.
struct Panics(u32);

impl futures_core::Stream for Panics {
    type Item = Result<Bytes, String>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0 += 1;
        match self.0 {
            1 => Poll::Ready(Some(Ok("first".into()))),
            2 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => panic!("in a body"),
        }
    }
}

#[test]
fn a_body_that_panics_ends_its_request_at_once_and_no_other() {
    run(|handle| async move {
        let router = Router::new()
            .get("/slow", |request: Request| async move {
                request.handle().sleep(TIME / 2).await;
                "slow"
            })
            .post("/", |body: Bytes| body.len().to_string());
        let (_server, url) = serve(&handle, router);
        for begun in 0..3 {
            let client = Client::builder(&handle).http2_prior_knowledge().build();
            let get = || client.get(&format!("{url}/slow")).timeout(LIMIT).send();
            // The connection is there.
            assert_eq!(get().await.expect("a response").status(), StatusCode::OK);
            let slow = handle.spawn(get());
            let sent = client.post(&url).body(Body::stream(Panics(begun)));
            let sent = sent.timeout(LIMIT).send().await;
            let error = sent.map(|it| it.status()).expect_err("half a body");
            assert!(matches!(error, ClientError::Http(_)), "{begun}: {error}");
            let mut slow = slow.await.expect("sent").expect("a response");
            assert_eq!(slow.text().await.expect("a text"), "slow", "{begun}");
            assert_eq!(get().await.expect("a response").status(), StatusCode::OK);
        }
    });
}

/// The next call returned the rest as the whole body.
#[test]
fn a_response_that_was_given_up_half_way_is_not_cut_off() {
    let (go, goes) = mpsc::channel::<()>();
    let url = by_hand(vec![Box::new(move |mut stream: TcpStream| {
        head(&mut stream);
        let begin = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst";
        stream.write_all(begin).expect("written");
        goes.recv().expect("the client waits");
        let _ = stream.write_all(b" half");
    })]);
    run(|handle| async move {
        let sent = Client::new(&handle).get(&url).timeout(LIMIT).send().await;
        let mut response = sent.expect("a response");
        let given_up = handle.timeout(Duration::from_millis(50), response.bytes());
        assert!(given_up.await.is_err(), "half of it is missing");
        go.send(()).expect("the server waits");
        assert_eq!(response.text().await.expect("a text"), "first half");
    });
}

#[test]
fn a_response_that_has_failed_does_not_end_well_the_next_time() {
    let (url, _) = answering(1, b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst");
    run(|handle| async move {
        let sent = Client::new(&handle).get(&url).timeout(LIMIT).send().await;
        let mut response = sent.expect("a response");
        assert!(response.bytes().await.is_err());
        assert!(response.bytes().await.is_err());
    });
}

/// A body that panics when it is asked whether it is at its end, after so many times.
struct Unsure(Cell<u32>);

impl http_body::Body for Unsure {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        Poll::Ready(Some(Ok(Frame::data("piece".into()))))
    }

    fn is_end_stream(&self) -> bool {
        let left = self.0.get().checked_sub(1).expect("in a body");
        self.0.set(left);
        false
    }
}

/// It ended the whole connection, or over HTTP/2 nobody noticed.
#[test]
fn a_body_that_panics_at_its_end_ends_its_request_at_once_and_no_other() {
    run(|handle| async move {
        let router = Router::new()
            .post("/slow", |request: Request| async move {
                request.handle().sleep(TIME / 2).await;
                "slow"
            })
            .post("/", |body: Bytes| body.len().to_string());
        let (_server, url) = serve(&handle, router);
        for left in 0..5 {
            let client = Client::builder(&handle).http2_prior_knowledge().build();
            // It cannot be sent again.
            let slow = client.post(&format!("{url}/slow")).timeout(LIMIT);
            let slow = handle.spawn(slow.send());
            let sent = client
                .post(&url)
                .body(Body::frames(Unsure(Cell::new(left))));
            let sent = sent.timeout(LIMIT).send().await;
            let error = sent.map(|it| it.status()).expect_err("half a body");
            assert!(matches!(error, ClientError::Http(_)), "{left}: {error}");
            let mut slow = slow.await.expect("sent").expect("a response");
            assert_eq!(slow.text().await.expect("a text"), "slow", "{left}");
        }
    });
}

/// They held the thread for ever.
#[test]
fn a_body_of_empty_pieces_gives_way() {
    run(|handle| async move {
        let (_server, url) = serve(&handle, Router::new().post("/", |_: Bytes| "all"));
        for two in [false, true] {
            let client = Client::builder(&handle);
            let client = if two {
                client.http2_prior_knowledge()
            } else {
                client
            };
            let sent = client.build().post(&url).body(Body::stream(Nothings));
            let sent = sent.timeout(Duration::from_millis(50)).send().await;
            let error = sent.map(|it| it.status()).expect_err("it has no end");
            assert!(matches!(error, ClientError::TimedOut(_)), "{error}");
        }
    });
}

struct Nothings;

impl futures_core::Stream for Nothings {
    type Item = Result<Bytes, String>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Ok(Bytes::new())))
    }
}

/// A value whose reading panics.
#[derive(Debug)]
struct Broken;

impl<'de> serde::Deserialize<'de> for Broken {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("in a value")
    }
}

/// It was said to have taken too long.
#[test]
fn a_value_whose_reading_panics_on_a_thread_is_not_late() {
    run(|handle| async move {
        let large = || Json(vec!["x"; 100_000]);
        let (_server, url) = serve(&handle, Router::new().get("/", large));
        let sent = Client::new(&handle).get(&url).timeout(LIMIT).send().await;
        let read = sent.expect("a response").json::<Broken>().await;
        let error = read.expect_err("it panics").to_string();
        assert!(error.contains("in a value"), "{error}");
    });
}

/// Values of many parts take long to drop, and a server sends what it likes.
#[test]
fn a_value_that_nobody_waits_for_any_more_is_dropped_on_a_thread() {
    static GATE: Gate = Gate::new();
    #[derive(Debug, serde::Deserialize)]
    struct Value(
        #[serde(deserialize_with = "read")]
        #[expect(dead_code)]
        Gated,
    );
    fn read<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Gated, D::Error> {
        GATE.read(from)
    }
    run(|handle| async move {
        let large = || Json("x".repeat(100_000));
        let (_server, url) = serve(&handle, Router::new().get("/", large));
        let sent = Client::new(&handle).get(&url).timeout(LIMIT).send().await;
        let mut response = sent.expect("a response");
        let keys = GATE.keys();
        let reading = handle.spawn(async move { response.json::<Value>().await.map(drop) });
        let begun = handle.defer_to_thread(move |_| {
            keys.until_begun();
            Ok::<_, ClientError>(keys)
        });
        let keys = begun.await.expect("it begins");
        reading.cancel();
        let dropped = handle.defer_to_thread(move |_| Ok::<_, ClientError>(keys.dropped()));
        let place = dropped.await.expect("it is dropped");
        assert_ne!(place, thread::current().id());
    });
}

/// It ended, though only the program had given the threads too much to do.
#[test]
fn a_body_that_is_unpacked_on_a_thread_waits_for_room_there() {
    let mut packed = Vec::new();
    let params = brotli::enc::BrotliEncoderParams {
        lgwin: 22,
        quality: 5,
        ..Default::default()
    };
    let text = vec![b'x'; 300_000];
    brotli::BrotliCompress(&mut &text[..], &mut packed, &params).expect("in memory");
    run(|handle| async move {
        let packed = move || ([("content-encoding", "br")], packed.clone());
        let (_server, url) = serve(&handle, Router::new().get("/", packed));
        let sent = Client::new(&handle).get(&url).timeout(LIMIT).send().await;
        let mut response = sent.expect("a response");
        let (closed, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        // More than the pool takes.
        let jobs: Vec<_> = (0..16_500)
            .map(|_| {
                let gate = gate.clone();
                let job = handle.defer_to_thread(move |_| {
                    let _ = gate.lock().expect("nobody panics").recv();
                    Ok::<_, String>(())
                });
                job.add_both(|_| Ok::<_, String>(()))
            })
            .collect();
        let mut reading = pin!(response.bytes());
        poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx).is_pending())).await;
        handle.sleep(Duration::from_millis(30)).await;
        poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx).is_pending())).await;
        drop(closed);
        assert_eq!(reading.await.expect("it is unpacked").len(), 300_000);
        drop(jobs);
    });
}
