//! Tests of the client with proxies.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use entwined_http::client::Client;

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
