//! What the client owes to the RFCs, to the servers and to the program's secrets.

use std::{
    cell::{Cell, RefCell},
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    pin::Pin,
    rc::Rc,
    sync::mpsc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use entwined::{
    Standalone,
    reactor::RunError,
    transport::{ByteStream, tcp},
};
use entwined_http::{
    Body, Bytes, Redirect, Request, Response, Router, StatusCode,
    client::{Client, ClientError},
};
use flate2::{Compression, write::GzEncoder};
use futures_io::{AsyncRead, AsyncWrite};

use super::{serve, serve_tls};
use crate::run::run;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server by hand: `talk` has each connection in turn.
pub(super) fn by_hand(talks: Vec<Box<dyn FnOnce(TcpStream) + Send>>) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for talk in talks {
            let (stream, _) = listener.accept().expect("a client");
            stream.set_read_timeout(Some(PATIENCE)).expect("an option");
            talk(stream);
        }
    });
    format!("http://{address}/")
}

/// Reads the head of a request.
pub(super) fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

/// Answers requests with the same bytes, and returns the heads of the requests.
pub(super) fn answering(
    count: usize,
    answer: &'static [u8],
) -> (String, std::sync::mpsc::Receiver<String>) {
    let (sender, heads) = std::sync::mpsc::channel();
    let talk = move |mut stream: TcpStream| {
        let _ = sender.send(head(&mut stream));
        let _ = stream.write_all(answer);
    };
    let talks = (0..count).map(|_| Box::new(talk.clone()) as Box<dyn FnOnce(TcpStream) + Send>);
    (by_hand(talks.collect()), heads)
}

/// An HTTP/2 frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Reads frames until the headers of a request, and returns the number of its stream.
pub(super) fn next_request(stream: &mut TcpStream) -> u32 {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).expect("a frame");
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).expect("a frame");
        match head[3] {
            1 => return u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            // SETTINGS are acknowledged.
            4 if head[4] == 0 => stream.write_all(&frame(4, 1, 0, &[])).expect("written"),
            _ => {}
        }
    }
}

pub(super) fn begin(stream: &mut TcpStream) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).expect("a preface");
    stream.write_all(&frame(4, 0, 0, &[])).expect("written");
}

/// `:status: 200`, and the end of the stream.
pub(super) fn ok(stream: u32) -> Vec<u8> {
    frame(1, 5, stream, &[0x88])
}

#[test]
fn what_a_server_has_not_processed_is_sent_again_whatever_the_method() {
    let talks: Vec<Box<dyn FnOnce(TcpStream) + Send>> = vec![
        Box::new(|mut stream| {
            begin(&mut stream);
            let first = next_request(&mut stream);
            stream.write_all(&ok(first)).expect("written");
            next_request(&mut stream);
            // Only the first was processed.
            let away = [first.to_be_bytes(), 0_u32.to_be_bytes()].concat();
            stream.write_all(&frame(7, 0, 0, &away)).expect("written");
        }),
        Box::new(|mut stream| {
            begin(&mut stream);
            for _ in 0..3 {
                let refused = next_request(&mut stream);
                let reset = frame(3, 0, refused, &7_u32.to_be_bytes());
                stream.write_all(&reset).expect("written");
            }
            let last = next_request(&mut stream);
            stream.write_all(&ok(last)).expect("written");
            // CANCEL says nothing about what was processed.
            let cancelled = next_request(&mut stream);
            let reset = frame(3, 0, cancelled, &8_u32.to_be_bytes());
            stream.write_all(&reset).expect("written");
            // The connection ends while a request waits: only GET is sent again.
            next_request(&mut stream);
        }),
        Box::new(|mut stream| {
            begin(&mut stream);
            let first = next_request(&mut stream);
            stream.write_all(&ok(first)).expect("written");
            next_request(&mut stream);
        }),
        Box::new(|mut stream| {
            begin(&mut stream);
            let first = next_request(&mut stream);
            stream.write_all(&ok(first)).expect("written");
        }),
    ];
    let url = by_hand(talks);
    run(|handle| async move {
        let client = Client::builder(&handle).http2_prior_knowledge().build();
        let post = || client.post(&url).body("x").send();
        assert_eq!(post().await.expect("a response").status(), StatusCode::OK);
        assert_eq!(post().await.expect("a response").status(), StatusCode::OK);
        let cancelled = post().await.map(|_| ()).expect_err("it was cancelled");
        assert!(matches!(cancelled, ClientError::Http(_)), "{cancelled}");
        let ended = post().await.map(|_| ()).expect_err("it may be processed");
        assert!(matches!(ended, ClientError::Http(_)), "{ended}");
        assert_eq!(post().await.expect("a response").status(), StatusCode::OK);
        let get = client.get(&url).send().await;
        assert_eq!(get.expect("a response").status(), StatusCode::OK);
    });
}

/// A stream that ends without a word behind the next bytes that are written, if it is told to.
struct Cut {
    stream: entwined::transport::Stream,
    ends: Rc<Cell<bool>>,
    ended: Option<std::task::Waker>,
    over: bool,
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.over {
            return Poll::Ready(Ok(0));
        }
        self.ended = Some(cx.waker().clone());
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.ends.get() {
            self.over = true;
            if let Some(waker) = self.ended.take() {
                waker.wake();
            }
            return Poll::Ready(Ok(buffer.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

impl ByteStream for Cut {
    fn local_address(&self) -> entwined::transport::Address {
        ByteStream::local_address(&self.stream)
    }

    fn peer_address(&self) -> entwined::transport::Address {
        ByteStream::peer_address(&self.stream)
    }

    fn abort(&mut self) {
        self.stream.abort();
    }
}

#[test]
fn a_kept_connection_that_ends_without_close_notify_is_replaced_if_that_is_safe() {
    run(|handle| async move {
        let router = Router::new().any("/", || "answer");
        for protocols in [&["http/1.1"][..], &["h2"]] {
            let (_server, url, builder) = serve_tls(&handle, router.clone(), protocols);
            let ends: Rc<RefCell<Vec<Rc<Cell<bool>>>>> = Rc::default();
            let (all, dialing) = (ends.clone(), handle.clone());
            let client = builder
                .connector(move |url: &str| {
                    let authority = url.trim_start_matches("https://").trim_end_matches('/');
                    let address = authority.replace("localhost", "127.0.0.1");
                    let (handle, all) = (dialing.clone(), all.clone());
                    async move {
                        let stream = tcp::connect(&handle, &*address).await?;
                        let ends = Rc::new(Cell::new(false));
                        all.borrow_mut().push(ends.clone());
                        let cut = Cut {
                            stream,
                            ends,
                            ended: None,
                            over: false,
                        };
                        Ok(Box::new(cut) as Box<dyn ByteStream>)
                    }
                })
                .build();
            for (number, safe) in [(1, true), (2, true), (3, false)] {
                let mut first = client.get(&url).send().await.expect("a response");
                assert_eq!(first.text().await.expect("a text"), "answer");
                assert_eq!(ends.borrow().len(), number);
                ends.borrow()[number - 1].set(true);
                let request = if safe {
                    client.get(&url)
                } else {
                    client.post(&url)
                };
                match request.send().await {
                    Ok(mut second) => {
                        assert!(safe);
                        assert_eq!(second.text().await.expect("a text"), "answer");
                    }
                    Err(error) => assert!(!safe, "{protocols:?} {error}"),
                }
            }
        }
    });
}

#[test]
fn a_server_that_takes_a_long_body_slowly_is_not_late() {
    const LIMIT: Duration = Duration::from_secs(1);
    const SIZE: usize = 24_000_000;
    // Ends when the client has seen enough.
    let (seen, enough) = mpsc::channel::<()>();
    let talks: Vec<Box<dyn FnOnce(TcpStream) + Send>> = vec![Box::new(move |mut stream| {
        head(&mut stream);
        let mut piece = vec![0; 500_000];
        for left in (0..SIZE).step_by(piece.len()).rev() {
            stream.read_exact(&mut piece).expect("more of it");
            // The peer's own pace. The client cannot see how the peer takes what the sockets hold
            // at the end (up to 10 MB), so that is taken at once.
            if left > 12_000_000 {
                thread::sleep(Duration::from_millis(60));
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        // Reads nothing of the second one.
        let _ = enough.recv_timeout(PATIENCE);
    })];
    let url = by_hand(talks);
    run(|handle| async move {
        let client = Client::builder(&handle).response_timeout(LIMIT);
        let client = client.build();
        let start = handle.now();
        let response = client.post(&url).body(vec![7; SIZE]).send().await;
        assert_eq!(response.expect("a response").status(), StatusCode::OK);
        assert!(handle.now() - start > LIMIT);
        let stuck = client.post(&url).body(vec![7; SIZE]).send().await;
        let error = stuck.map(|_| ()).expect_err("it takes nothing");
        assert!(
            matches!(error, ClientError::TimedOut("the response")),
            "{error}"
        );
        drop(seen);
        while client.connections() > 0 {
            handle.sleep(Duration::from_millis(1)).await;
        }
    });
}

/// Knows when it is dropped.
struct Endless(Rc<Cell<bool>>);

impl futures_core::Stream for Endless {
    type Item = Result<Bytes, String>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Ok(Bytes::from_static(&[7; 10_000]))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

#[test]
fn after_an_early_answer_neither_the_body_nor_the_connection_stays() {
    for answer in [
        "HTTP/1.1 413 x\r\ncontent-length: 2\r\n\r\nno",
        "HTTP/1.1 413 x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno",
    ] {
        let url = by_hand(vec![Box::new(move |mut stream| {
            head(&mut stream);
            stream.write_all(answer.as_bytes()).expect("written");
            // It neither reads nor closes, until the client does.
            let _ = stream.set_read_timeout(Some(PATIENCE));
            while stream.peek(&mut [0; 1]).is_ok_and(|count| count > 0) {
                if stream.write_all(b"").is_err() {
                    break;
                }
                thread::sleep(Duration::from_millis(5));
                let mut rest = vec![0; 100_000];
                // Only the kernel's buffer is emptied, so that the end is seen.
                if stream.read(&mut rest).unwrap_or(0) == 0 {
                    break;
                }
            }
        })]);
        run(|handle| async move {
            let client = Client::new(&handle);
            let dropped = Rc::new(Cell::new(false));
            let body = Body::stream(Endless(dropped.clone()));
            let mut response = client.post(&url).body(body).send().await.expect("a head");
            assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
            assert_eq!(response.text().await.expect("a text"), "no");
            while client.connections() > 0 || !dropped.get() {
                handle.sleep(Duration::from_millis(1)).await;
            }
        });
    }
}

#[test]
fn over_http2_too_an_early_answer_ends_the_body() {
    run(|handle| async move {
        let router = Router::new().post("/", || (StatusCode::PAYLOAD_TOO_LARGE, "no"));
        let (_server, url) = serve(&handle, router);
        let client = Client::builder(&handle).http2_prior_knowledge().build();
        for _ in 0..3 {
            let dropped = Rc::new(Cell::new(false));
            let body = Body::stream(Endless(dropped.clone()));
            let mut response = client.post(&url).body(body).send().await.expect("a head");
            assert_eq!(response.text().await.expect("a text"), "no");
            while !dropped.get() {
                handle.sleep(Duration::from_millis(1)).await;
            }
        }
    });
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(text.as_bytes()).expect("in memory");
    gzip.finish().expect("in memory")
}

#[test]
fn parts_heads_and_bodies_of_several_codings_are_left_as_they_are() {
    let coded = |status: StatusCode, codings: &'static [&'static str]| {
        move |request: Request| {
            let mut response = Response::new(Body::from(gzip("some text")));
            *response.status_mut() = status;
            for coding in codings {
                let value = coding.parse().expect("a value");
                response.headers_mut().append("content-encoding", value);
            }
            let asked = request.header("accept-encoding").unwrap_or("none");
            let asked = asked.parse().expect("a value");
            response.headers_mut().insert("x-asked", asked);
            response
        }
    };
    run(|handle| async move {
        let router = Router::new()
            .get("/whole", coded(StatusCode::OK, &["gzip"]))
            .get("/part", coded(StatusCode::PARTIAL_CONTENT, &["gzip"]))
            .get("/two", coded(StatusCode::OK, &["gzip", "br"]))
            .get("/list", coded(StatusCode::OK, &["gzip, br"]));
        let (_server, address) = serve(&handle, router);
        let client = Client::new(&handle);
        let packed = gzip("some text");
        let mut whole = client
            .get(&format!("{address}/whole"))
            .send()
            .await
            .expect("a response");
        assert_eq!(whole.header("x-asked"), Some("gzip, br"));
        assert_eq!(whole.text().await.expect("a text"), "some text");
        let part = client
            .get(&format!("{address}/part"))
            .header("range", "bytes=0-10");
        let mut part = part.send().await.expect("a response");
        assert_eq!(part.header("x-asked"), Some("identity"));
        assert_eq!(part.header("content-encoding"), Some("gzip"));
        assert_eq!(part.bytes().await.expect("a body"), packed);
        for path in ["two", "list"] {
            let mut several = client
                .get(&format!("{address}/{path}"))
                .send()
                .await
                .expect("one");
            assert_eq!(several.bytes().await.expect("a body"), packed);
        }
        let mut head = client
            .head(&format!("{address}/whole"))
            .send()
            .await
            .expect("a response");
        assert_eq!(head.header("content-encoding"), Some("gzip"));
        assert_eq!(
            head.header("content-length"),
            Some(&*packed.len().to_string())
        );
        assert_eq!(head.bytes().await.expect("no body"), "");
    });
}

/// An element of a list may be empty, and `identity` is none.
#[test]
fn a_list_with_one_coding_is_decoded() {
    run(|handle| async move {
        let coded = |codings: &'static str| {
            move || {
                let mut response = Response::new(Body::from(gzip("some text")));
                let value = codings.parse().expect("a value");
                response.headers_mut().insert("content-encoding", value);
                response
            }
        };
        let router = Router::new()
            .get("/comma", coded("gzip,"))
            .get("/identity", coded("identity, gzip"));
        let (_server, address) = serve(&handle, router);
        let client = Client::new(&handle);
        for path in ["comma", "identity"] {
            let url = format!("{address}/{path}");
            let mut response = client.get(&url).send().await.expect("a response");
            assert_eq!(response.text().await.expect("a text"), "some text");
        }
    });
}

/// The caller got the coded bytes for the content.
#[test]
fn a_transfer_coding_that_nobody_asked_for_is_an_error() {
    for (codings, named) in [
        ("Transfer-Encoding: gzip, chunked", "gzip, chunked"),
        (
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
            "gzip, chunked",
        ),
        // The chunks were given out as they are.
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
            "chunked, gzip",
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "chunked, chunked",
        ),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{codings}\r\n\r\n2\r\n\x1f\x0b\r\n0\r\n\r\n");
        let (url, _heads) = answering(1, answer.leak().as_bytes());
        run(|handle| async move {
            let error = Client::new(&handle).get(&url).send().await;
            let error = error.expect_err("it is not decoded").to_string();
            assert!(error.contains(named), "{error}");
        });
    }
}

#[test]
fn a_folded_line_of_a_response_is_one_line() {
    let answer = b"HTTP/1.1 200 OK\r\nx-long: one\r\n two\r\n\t three\r\ncontent-length: 0\r\n\r\n";
    let (url, _heads) = answering(1, answer);
    run(|handle| async move {
        let response = Client::new(&handle)
            .get(&url)
            .send()
            .await
            .expect("a response");
        assert_eq!(response.header("x-long"), Some("one two three"));
        assert_eq!(response.header("content-length"), Some("0"));
    });
}

#[test]
fn a_redirect_that_drops_the_body_drops_what_describes_it() {
    run(|handle| async move {
        let told = |request: Request| {
            let names = request
                .headers()
                .keys()
                .map(|name| name.as_str().to_owned());
            let mut names: Vec<_> = names.collect();
            names.sort();
            names.join(" ")
        };
        let router = Router::new()
            .post("/", || {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::SEE_OTHER;
                let headers = response.headers_mut();
                headers.insert("location", "/told".parse().expect("a value"));
                response
            })
            .get("/told", told);
        let (_server, url) = serve(&handle, router);
        let mut request = Client::new(&handle).post(&url).body("x");
        for name in [
            "content-encoding",
            "content-language",
            "content-location",
            "content-type",
            "content-md5",
            "last-modified",
            "digest",
            "trailer",
            "x-other",
        ] {
            request = request.header(name, "x");
        }
        let mut response = request.send().await.expect("a response");
        let names = response.text().await.expect("a text");
        assert_eq!(names, "accept accept-encoding host user-agent x-other");
    });
}

#[test]
fn a_name_and_a_password_are_in_their_header_and_nowhere_else() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    // "Aladdin:open sesame" of RFC 7617.
    let expected = "authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n";
    let (url, heads) = answering(3, OK);
    let (second, second_heads) = (url.clone(), &heads);
    run(|handle| async move {
        let client = Client::new(&handle);
        let with = second.replace("http://", "http://Aladdin:open%20sesame@");
        let response = client.get(&with).send().await.expect("a response");
        assert!(!response.url().contains("sesame"), "{}", response.url());
        assert!(!format!("{response:?}").contains("sesame"));
        // Through a proxy, with a name of its own.
        let builder = Client::builder(&handle).proxy(&with).expect("a proxy");
        assert!(!format!("{builder:?}").contains("sesame"));
        let client = builder.build();
        assert!(!format!("{client:?}").contains("sesame"));
        let request = client.get("http://Aladdin:open%20sesame@name.invalid/x");
        assert!(!format!("{request:?}").contains("sesame"));
        let response = request.send().await.expect("a response");
        assert!(!response.url().contains("sesame"));
        // A name without a password, in characters that are encoded.
        let name = second.replace("http://", "http://%C3%BC@");
        Client::new(&handle)
            .get(&name)
            .send()
            .await
            .expect("a response");
    });
    let head = second_heads.recv().expect("a request");
    assert!(
        head.starts_with("GET / HTTP/1.1\r\n") && head.contains(expected),
        "{head}"
    );
    let head = second_heads.recv().expect("a request");
    assert!(
        head.starts_with("GET http://name.invalid/x HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.contains(expected) && head.contains(&format!("proxy-{expected}")),
        "{head}"
    );
    assert!(head.contains("host: name.invalid\r\n"), "{head}");
    let head = second_heads.recv().expect("a request");
    assert!(head.contains("authorization: Basic w7w6\r\n"), "{head}");
    run(|handle| async move {
        let told = |request: Request| {
            let secret = request.header("authorization").unwrap_or("none").to_owned();
            format!(
                "{:?} {secret}",
                request.uri().authority().map(|name| name.to_string())
            )
        };
        let (_server, url) = serve(&handle, Router::new().get("/", told));
        let with = url.replace("http://", "http://Aladdin:open%20sesame@");
        let client = Client::builder(&handle).http2_prior_knowledge().build();
        let mut response = client.get(&with).send().await.expect("a response");
        let authority = url.trim_start_matches("http://");
        assert_eq!(
            response.text().await.expect("a text"),
            format!("Some({authority:?}) Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
        );
    });
}

#[test]
fn a_redirect_keeps_credentials_with_their_server_and_takes_none_from_another() {
    run(|handle| async move {
        let told = |request: Request| request.header("authorization").unwrap_or("none").to_owned();
        let to = |location: String| {
            move || {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::FOUND;
                let location = location.parse().expect("a value");
                response.headers_mut().insert("location", location);
                response
            }
        };
        let (_other, other) = serve(&handle, Router::new().get("/told", told));
        let planted = other.replace("http://", "http://planted:secret@");
        let router = Router::new()
            .get("/told", told)
            .get("/relative", to("/told".to_owned()))
            .get("/planted", to(format!("{planted}/told")));
        let (_server, url) = serve(&handle, router);
        let client = Client::new(&handle);
        let with = url.replace("http://", "http://a:b@");
        for (path, expected) in [("relative", "Basic YTpi"), ("planted", "none")] {
            let mut response = client
                .get(&format!("{with}/{path}"))
                .send()
                .await
                .expect("one");
            assert_eq!(response.text().await.expect("a text"), expected, "{path}");
        }
    });
}

/// A server that vanishes (a cable that is pulled, a firewall that forgets) does not close its
/// connection. What waits for it in vain must not be the way of all that comes later.
#[test]
fn a_connection_on_which_nothing_comes_any_more_is_given_up() {
    let (keep, kept) = std::sync::mpsc::channel();
    let talk = move |mut stream: TcpStream| {
        begin(&mut stream);
        let first = next_request(&mut stream);
        stream.write_all(&ok(first)).expect("written");
        next_request(&mut stream);
        // It stays open until the test is over.
        let _ = keep.send(stream);
    };
    let url = by_hand(vec![Box::new(talk.clone()), Box::new(talk)]);
    run(|handle| async move {
        let client = Client::builder(&handle).http2_prior_knowledge();
        let client = client.response_timeout(Duration::from_millis(300)).build();
        let get = || client.get(&url).send();
        assert_eq!(get().await.expect("a response").status(), StatusCode::OK);
        let late = get().await.map(|_| ()).expect_err("nobody answers");
        assert!(matches!(late, ClientError::TimedOut(_)), "{late}");
        let again = get().await.expect("a response over another connection");
        assert_eq!(again.status(), StatusCode::OK);
    });
    drop(kept);
}

/// A server that only takes long is asked over the same connection.
#[test]
fn a_connection_on_which_others_are_answered_stays() {
    let (tell, told) = std::sync::mpsc::channel();
    let url = by_hand(vec![Box::new(move |mut stream: TcpStream| {
        begin(&mut stream);
        for number in 0.. {
            let stream_id = next_request(&mut stream);
            let _ = tell.send(number);
            if number != 1 {
                stream.write_all(&ok(stream_id)).expect("written");
            }
            if number == 3 {
                break;
            }
        }
    })]);
    run(|handle| async move {
        let client = Client::builder(&handle).http2_prior_knowledge();
        let client = client.response_timeout(Duration::from_millis(300)).build();
        let get = || client.get(&url).send();
        assert_eq!(get().await.expect("a response").status(), StatusCode::OK);
        let slow = handle.spawn(get());
        handle.sleep(Duration::from_millis(100)).await;
        assert_eq!(get().await.expect("a response").status(), StatusCode::OK);
        let late = slow.await.expect("it ends").map(|_| ()).expect_err("late");
        assert!(matches!(late, ClientError::TimedOut(_)), "{late}");
        assert_eq!(get().await.expect("a response").status(), StatusCode::OK);
    });
    assert_eq!(told.iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
}

/// More than was asked for is nobody's answer: the next request must not get it.
#[test]
fn an_answer_that_nobody_asked_for_is_not_given_to_the_next() {
    const TWO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1\
        HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\npoisoned";
    let (url, _heads) = answering(3, TWO);
    run(|handle| async move {
        let client = Client::new(&handle);
        for _ in 0..3 {
            let mut response = client.get(&url).send().await.expect("a response");
            assert_eq!(response.text().await.expect("a text"), "1");
        }
    });
}

/// A program that passes a request on copies its headers. hyper cut the content to the length, or
/// the server waited for content that never came.
#[test]
fn how_content_is_delimited_is_not_said_by_the_programs_headers() {
    run(|handle| async move {
        let router = || {
            let seen = |mut request: Request| async move {
                let length = request.header("content-length").map(str::to_owned);
                let hop = [
                    "connection",
                    "transfer-encoding",
                    "te",
                    "keep-alive",
                    "upgrade",
                ];
                let hop: Vec<_> = hop
                    .into_iter()
                    .filter(|name| request.header(name).is_some())
                    .collect();
                let text = request.text().await?;
                Ok::<_, entwined_http::Error>(format!("{length:?} {hop:?} {text}"))
            };
            Router::new().get("/", seen).post("/", seen)
        };
        let (_server, plain) = serve(&handle, router());
        let two = Client::builder(&handle).http2_prior_knowledge().build();
        for client in [Client::new(&handle), two] {
            for (name, value) in [
                ("content-length", "3"),
                ("content-length", "500"),
                ("content-length", "x"),
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "gzip"),
            ] {
                let asked = client.post(&plain).header(name, value).body("hello").send();
                let asked = handle.timeout(PATIENCE, asked).await.expect("in time");
                let text = asked.expect("a response").text().await.expect("a text");
                assert_eq!(text, "Some(\"5\") [] hello", "{name}: {value}");
                let asked = client.get(&plain).header(name, value).send();
                let asked = handle.timeout(PATIENCE, asked).await.expect("in time");
                let text = asked.expect("a response").text().await.expect("a text");
                assert!(text.ends_with(" [] "), "{name}: {value}: {text}");
            }
        }
    });
}

/// The timer that looks for them went with the first run.
#[test]
fn connections_at_rest_end_in_a_second_run_too() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let client = Client::builder(&handle)
        .idle_timeout(Duration::from_millis(50))
        .build();
    for waits in [false, true] {
        let (_server, url) = serve(&handle, Router::new().get("/", || "hello"));
        let (client, handle) = (client.clone(), handle.clone());
        let ended = reactor.block_on(async move {
            let mut response = client.get(&url).send().await.expect("a response");
            assert_eq!(response.text().await.expect("a text"), "hello");
            let rest = async {
                while client.connections() > 0 {
                    handle.sleep(Duration::from_millis(1)).await;
                }
            };
            let rested = !waits || handle.timeout(PATIENCE, rest).await.is_ok();
            Ok::<_, RunError>(rested)
        });
        assert!(ended.expect("a run"), "the connection is still there");
    }
}

/// Old servers write names in Latin-1. Another character instead is another resource.
#[test]
fn a_redirect_to_a_name_that_is_not_utf8_goes_there() {
    const AWAY: &[u8] = b"HTTP/1.1 302 Found\r\nlocation: /caf\xe9?a=\xff\r\n\
        content-length: 0\r\nconnection: close\r\n\r\n";
    let (url, heads) = answering(2, AWAY);
    run(|handle| async move {
        let client = Client::builder(&handle).max_redirects(1).build();
        // The second answer is a redirect too, which is one too many.
        let answer = client.get(&url).send().await;
        assert!(matches!(answer, Err(ClientError::Redirect(_))));
    });
    let mut lines = heads
        .iter()
        .map(|head| head.lines().next().map(str::to_owned));
    assert_eq!(lines.next().flatten().as_deref(), Some("GET / HTTP/1.1"));
    let second = lines.next().flatten();
    assert_eq!(second.as_deref(), Some("GET /caf%E9?a=%FF HTTP/1.1"));
}

/// The program's `Host` is the name of the server, in each version (RFC 9113, 8.3.1).
#[test]
fn a_host_of_the_programs_own_is_sent_in_each_version() {
    run(|handle| async move {
        let router = Router::new().get("/", |request: Request| {
            request.authority().unwrap_or("none").to_owned()
        });
        let (_server, address) = serve(&handle, router);
        for two in [false, true] {
            let client = Client::builder(&handle);
            let client = match two {
                true => client.http2_prior_knowledge().build(),
                false => client.build(),
            };
            let request = client.get(&address).header("host", "example.test:8080");
            let mut response = request.send().await.expect("a response");
            let text = response.text().await.expect("a text");
            assert_eq!(text, "example.test:8080", "HTTP/2: {two}");
        }
    });
}

/// Whoever opens the URLs of others looks where they lead.
#[test]
fn a_redirect_is_an_answer_to_a_client_that_follows_none() {
    run(|handle| async move {
        let router = Router::new().get("/", || Redirect::to("http://127.0.0.1:1/inside"));
        let (_server, address) = serve(&handle, router);
        let client = Client::builder(&handle).max_redirects(0).build();
        let response = client.get(&address).send().await.expect("a response");
        assert_eq!(response.status(), 303);
        assert_eq!(
            response.header("location"),
            Some("http://127.0.0.1:1/inside")
        );
    });
}

#[test]
fn a_query_of_nothing_does_not_change_a_url() {
    run(|handle| async move {
        let router = Router::new().get("/", |request: Request| {
            format!("{:?}", request.uri().query())
        });
        let (_server, address) = serve(&handle, router);
        let client = Client::new(&handle);
        for (end, fields, expected) in [
            ("", &[][..], "None"),
            ("?a", &[][..], "Some(\"a\")"),
            ("?", &[("b", "1")][..], "Some(\"b=1\")"),
            ("?a", &[("b", "1")], "Some(\"a&b=1\")"),
        ] {
            let request = client.get(&format!("{address}/{end}")).query(&fields);
            let mut response = request.send().await.expect("a response");
            assert_eq!(response.text().await.expect("a text"), expected, "{end:?}");
        }
    });
}

/// Servers ask for a length where there may be content (RFC 9110, 8.6).
#[test]
fn a_request_without_content_says_so_where_content_is_usual() {
    run(|handle| async move {
        let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
        let (address, heads) = answering(5, answer);
        let client = Client::new(&handle);
        for (method, says) in [
            ("POST", true),
            ("PUT", true),
            ("PATCH", true),
            ("GET", false),
            ("HEAD", false),
        ] {
            let method = method.parse().expect("a method");
            let asked = client.request(method, &address).send().await;
            asked.expect("a response");
            let head = heads.recv().expect("a request");
            assert_eq!(head.contains("content-length: 0\r\n"), says, "{head}");
        }
    });
}

/// As browsers send them (the URL standard), and in a form that a request may have (RFC 9112, 3).
#[test]
fn urls_go_out_as_they_are_meant() {
    run(|handle| async move {
        let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
        let cases = [
            ("a b", "/a%20b"),
            ("\u{e9}?\u{e9}=\u{e9}#x", "/%C3%A9?%C3%A9=%C3%A9"),
            ("/double", "//double"),
            ("a/../b/./c", "/b/c"),
            ("%2e%2e/x", "/x"),
            ("a|b?c|d{}", "/a|b?c|d{}"),
            ("a\\b", "/a/b"),
            ("%zz", "/%zz"),
            ("?", "/?"),
            ("a\tb\nc", "/abc"),
            ("a\"<>`b", "/a%22%3C%3E%60b"),
            ("?\"<>'", "/?%22%3C%3E%27"),
        ];
        let (address, heads) = answering(cases.len(), answer);
        let client = Client::new(&handle);
        for (end, target) in cases {
            let asked = client.get(&format!("{address}{end}")).send().await;
            asked.unwrap_or_else(|error| panic!("{end}: {error}"));
            let head = heads.recv().expect("a request");
            assert!(
                head.starts_with(&format!("GET {target} HTTP/1.1\r\n")),
                "{end}: {head}"
            );
        }
    });
}

/// What a server has sent in time may be behind much that it sent for another request, which one
/// turn does not read.
#[test]
fn what_came_behind_another_response_while_the_host_held_the_thread_counts() {
    const HOLD: Duration = Duration::from_secs(2);
    const DEADLINE: Duration = Duration::from_secs(1);
    let (hold, held) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let url = by_hand(vec![Box::new(move |mut stream: TcpStream| {
        begin(&mut stream);
        let warm = next_request(&mut stream);
        stream.write_all(&ok(warm)).expect("written");
        let [first, second, third] = [(); 3].map(|()| next_request(&mut stream));
        let begins = |stream| frame(1, 4, stream, &[0x88]);
        let begun = [begins(first), begins(second)].concat();
        stream.write_all(&begun).expect("written");
        let _ = tell.send(());
        held.recv().expect("the thread is held");
        let block = frame(0, 0, first, &[b'x'; 16 * 1024]);
        for _ in 0..6 {
            stream.write_all(&block).expect("written");
        }
        let last = frame(0, 1, second, b"second");
        let ends = [frame(0, 1, first, b"x"), last, ok(third)].concat();
        stream.write_all(&ends).expect("written");
        // The client ends it.
        let _ = stream.read_to_end(&mut Vec::new());
    })]);
    run(|handle| async move {
        let client = Client::builder(&handle).http2_prior_knowledge();
        let client = client.response_timeout(DEADLINE).body_timeout(DEADLINE);
        let client = client.build();
        let send = || handle.spawn(client.get(&url).send());
        // One connection for all.
        let warm = send().await.expect("it ends").expect("a response");
        drop(warm);
        let (first, second, third) = (send(), send(), send());
        let first = first.await.expect("it ends").expect("a response");
        let mut second = second.await.expect("it ends").expect("a response");
        told.recv().expect("the server waits");
        let body = handle.spawn(async move { second.text().await });
        handle.sleep(Duration::from_millis(50)).await;
        hold.send(()).expect("the server waits");
        thread::sleep(HOLD);
        let (third, body) = (third.await.expect("it ends"), body.await.expect("it ends"));
        assert_eq!(body.expect("it came in time"), "second");
        assert_eq!(third.expect("it came in time").status(), StatusCode::OK);
        drop(first);
    });
}
