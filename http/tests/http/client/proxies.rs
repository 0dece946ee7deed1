//! Tests of the client with proxies.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    pin::Pin,
    sync::mpsc,
    task::{Context, Poll, ready},
    thread,
    time::Duration,
};

use entwined::transport::{
    Address, ByteStream,
    memory::{self, MemoryStream},
};
use entwined_http::client::Client;

use futures_io::{AsyncRead, AsyncWrite};

use super::{router, serve, serve_tls};
use crate::run::run;

/// Starts a proxy for `count` connections. It always connects to `port`, whatever target is
/// requested, and sends each request head that it receives over the channel.
fn proxy(count: usize, port: u16, refuse: bool) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (tell, heads) = mpsc::channel();
    thread::spawn(move || {
        for _ in 0..count {
            let (client, _) = listener.accept().expect("a client");
            let mut reader = BufReader::new(client.try_clone().expect("a copy"));
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(reader.read_line(&mut head).expect("a line") > 0);
            }
            tell.send(head.clone()).expect("the test listens");
            let mut client = client;
            if refuse {
                client
                    .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                    .expect("written");
                continue;
            }
            let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server");
            if head.starts_with("CONNECT ") {
                client
                    .write_all(b"HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n")
                    .expect("written");
            } else {
                let (line, rest) = head.split_once("\r\n").expect("a line");
                let (method, target) = line.split_once(' ').expect("a target");
                let path = target
                    .trim_start_matches("http://")
                    .split_once('/')
                    .expect("a path")
                    .1;
                server
                    .write_all(format!("{method} /{path}\r\n{rest}").as_bytes())
                    .expect("written");
            }
            let (mut from, mut to) = (reader, server.try_clone().expect("a copy"));
            let (mut back_from, mut back_to) = (server, client);
            thread::spawn(move || {
                // Either side may be gone.
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            thread::spawn(move || {
                let _ = std::io::copy(&mut back_from, &mut back_to);
                let _ = back_to.shutdown(Shutdown::Write);
            });
        }
    });
    (format!("http://name:word@{address}"), heads)
}

#[test]
fn http_goes_through_a_proxy_as_it_is_and_https_by_a_tunnel() {
    run(|handle| async move {
        let (server, address) = serve(&handle, router());
        let port = server.local_address().tcp().expect("TCP").port();
        let (url, heads) = proxy(1, port, false);
        let client = Client::builder(&handle)
            .proxy(&url)
            .expect("an address")
            .no_proxy(["127.0.0.1"])
            .build();
        let mut response = client
            .get("http://example.test/hello?a")
            .send()
            .await
            .expect("a response");
        assert_eq!(
            response.text().await.expect("a text"),
            "HTTP/1.1 example.test Some(\"a\")"
        );
        let head = heads.recv().expect("a head");
        assert!(
            head.starts_with("GET http://example.test/hello?a HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(
            head.contains("proxy-authorization: Basic bmFtZTp3b3Jk\r\n"),
            "{head}"
        );
        assert!(head.contains("host: example.test\r\n"), "{head}");
        // This host is reached without the proxy, which accepts no second connection.
        let mut response = client
            .get(&format!("{address}/head"))
            .send()
            .await
            .expect("a response");
        assert!(
            !response
                .text()
                .await
                .expect("a text")
                .contains("proxy-authorization")
        );

        let (server, _, client) = serve_tls(&handle, router(), &["h2"]);
        let port = server.local_address().tcp().expect("TCP").port();
        let (url, heads) = proxy(1, port, false);
        let client = client.proxy(&url).expect("an address").build();
        for _ in 0..2 {
            let mut response = client
                .get("https://localhost:1/hello")
                .send()
                .await
                .expect("a response");
            assert_eq!(
                response.text().await.expect("a text"),
                "HTTP/2.0 localhost None"
            );
        }
        let head = heads.recv().expect("a head");
        assert!(
            head.starts_with("CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n"),
            "{head}"
        );
        assert!(
            head.contains("Proxy-Authorization: Basic bmFtZTp3b3Jk\r\n"),
            "{head}"
        );

        let (url, _heads) = proxy(1, port, true);
        let client = Client::builder(&handle)
            .proxy(&url)
            .expect("an address")
            .build();
        let error = client
            .get("https://localhost:1/")
            .send()
            .await
            .expect_err("no way");
        assert!(
            error
                .to_string()
                .contains("407 Proxy Authentication Required"),
            "{error}"
        );
        let error = Client::builder(&handle)
            .proxy("socks5://localhost")
            .expect_err("not one of these");
        assert!(error.to_string().contains("socks5"), "{error}");
    });
}

/// A stream that sends only what is flushed, as buffered writers do.
struct Buffered(MemoryStream, Vec<u8>);

impl AsyncRead for Buffered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Buffered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.1.extend_from_slice(buffer);
        Poll::Ready(Ok(buffer.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.1.is_empty() {
            let count = ready!(Pin::new(&mut this.0).poll_write(cx, &this.1))?;
            this.1.drain(..count);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.0).poll_close(cx)
    }
}

impl ByteStream for Buffered {
    fn local_address(&self) -> Address {
        Address::Unknown
    }

    fn peer_address(&self) -> Address {
        Address::Unknown
    }

    fn abort(&mut self) {}
}

#[test]
fn a_tunnel_through_a_stream_that_buffers_is_asked_for() {
    run(|handle| async move {
        let (near, mut far) = memory::pair(&handle);
        let near = std::cell::Cell::new(Some(Buffered(near, Vec::new())));
        let near = std::rc::Rc::new(near);
        let client = Client::builder(&handle)
            .proxy("http://proxy.test")
            .expect("an address")
            .connector(move |_| {
                let near = near.take().expect("one connection");
                async move { Ok(Box::new(near) as Box<dyn ByteStream>) }
            })
            .connect_timeout(Duration::from_secs(1))
            .build();
        let asked = handle.spawn(async move { client.get("https://a.test/").send().await });
        let mut head = [0; 8];
        let read = std::future::poll_fn(|cx| Pin::new(&mut far).poll_read(cx, &mut head));
        let read = handle.timeout(Duration::from_millis(500), read).await;
        assert_eq!(read.expect("in time").expect("open"), 8);
        assert_eq!(&head, b"CONNECT ");
        drop(far);
        assert!(asked.await.expect("it ends").is_err());
    });
}

/// A proxy may say something before its answer, as every server (RFC 9110, 15.2).
#[test]
fn an_answer_to_connect_may_come_after_interim_ones() {
    assert_connects(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\na: b\r\n\r\n\
         HTTP/1.1 200 OK\r\n\r\n",
    );
}

/// RFC 9112, 2.2.
#[test]
fn the_lines_of_an_answer_to_connect_may_end_with_lf_alone() {
    assert_connects("HTTP/1.1 200 OK\n\n");
    assert_connects("HTTP/1.1 103 Early Hints\na: b\n\nHTTP/1.1 200 OK\na: b\r\n\n");
}

/// A request goes through the tunnel of a proxy that answers so.
fn assert_connects(answer: &'static str) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    run(|handle| async move {
        let (server, address, client) = serve_tls(&handle, router(), &["http/1.1"]);
        let port = server.local_address().tcp().expect("TCP").port();
        thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            let mut reader = BufReader::new(client.try_clone().expect("a copy"));
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(reader.read_line(&mut head).expect("a line") > 0);
            }
            client.write_all(answer.as_bytes()).expect("written");
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server");
            let (mut from, mut to) = (reader, server.try_clone().expect("a copy"));
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            let mut server = server;
            let _ = std::io::copy(&mut server, &mut client);
        });
        let client = client.proxy(&url).expect("an address").build();
        let request = client.get(&format!("{address}/hello"));
        let response = request.send().await.expect("a response");
        assert_eq!(response.status(), 200);
    });
}
