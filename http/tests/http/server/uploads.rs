//! Uploads that are answered before they have ended.

use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use entwined_http::{Body, Bytes, Error, Multipart, Request, Response, Router};

use crate::server::support::{LIMIT, Peer, Site, config};

/// What a peer sends after the head of its request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Upload {
    /// Nothing.
    Stalls,
    /// A byte now and then.
    Trickles,
    /// As much as it can.
    Floods,
}

fn site() -> Site {
    // A program may read a body after it has answered. Then what the peer sends counts as the next
    // request, which does not come.
    let config = config(|config| {
        config.idle_timeout = Duration::from_secs(2);
        config.head_timeout = Duration::from_secs(2);
    });
    Site::with(config, |_| {
        Router::new()
            .post("/bytes", |body: Bytes| body.len().to_string())
            .post("/unread", || "unread")
            .post("/held", |request: Request| {
                // Somebody keeps the request although it was answered.
                let handle = request.handle().clone();
                handle.spawn(async move {
                    let _request = request;
                    std::future::pending::<()>().await;
                });
                "held"
            })
            .post("/partly", |mut request: Request| async move {
                request.chunk().await?;
                Ok::<_, Error>("partly")
            })
            .post("/form", |mut form: Multipart| async move {
                form.next().await?;
                Ok::<_, Error>("form")
            })
            .post("/stream", |request: Request| {
                drop(request);
                Response::new(Body::stream(Pieces(100)))
            })
    })
}

struct Pieces(u32);

impl futures_core::Stream for Pieces {
    type Item = Result<Bytes, String>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0 -= 1;
        std::task::Poll::Ready((self.0 > 0).then(|| Ok(vec![b'x'; 1_000].into())))
    }
}

/// Sends the upload until the server has closed the connection; returns how long that took since
/// the answer, and how much was sent.
fn upload(address: SocketAddr, path: &str, head: &str, how: Upload) -> (u16, Duration, usize) {
    let mut peer = Peer::connect(address);
    peer.send(format!("POST {path} HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n"));
    if head.contains("chunked") {
        peer.send("7fffffff\r\n");
    }
    if path == "/partly" || path == "/form" {
        peer.send("--xyz\r\n\r\nx");
    }
    let answer = peer.head();
    let start = Instant::now();
    let mut stream = peer.stream.into_inner();
    stream.set_nonblocking(true).expect("an option");
    let (mut sent, piece, mut sink) = (0, vec![b'x'; 64 * 1024], vec![0; 64 * 1024]);
    let mut writes = true;
    loop {
        match stream.read(&mut sink) {
            Ok(0) => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
            Ok(_) => {}
        }
        let pieces = match how {
            Upload::Stalls => &piece[..0],
            Upload::Trickles => &piece[..1],
            Upload::Floods => &piece[..],
        };
        if writes && !pieces.is_empty() {
            match stream.write(pieces) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => writes = false,
            }
        }
        assert!(start.elapsed() < LIMIT, "{path} {head} {how:?} stays open");
        if how != Upload::Floods {
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
    (answer.status, start.elapsed(), sent)
}

#[test]
fn an_early_answer_to_an_upload_ends_the_connection_soon() {
    let site = site();
    let address = site.address;
    let long = "content-length: 9000000000";
    let kind = "\r\ncontent-type: multipart/form-data; boundary=xyz";
    let mut cases = Vec::new();
    for how in [Upload::Stalls, Upload::Trickles, Upload::Floods] {
        for (path, status) in [
            ("/bytes", 413),
            ("/unread", 200),
            ("/held", 200),
            ("/partly", 200),
            ("/form", 413),
            ("/stream", 200),
            ("/none", 404),
        ] {
            cases.push((how, path, status, format!("{long}{kind}")));
            cases.push((
                how,
                path,
                status,
                format!("{long}{kind}\r\nconnection: close"),
            ));
            if path != "/bytes" {
                let status = if path == "/form" { 200 } else { status };
                cases.push((
                    how,
                    path,
                    status,
                    format!("transfer-encoding: chunked{kind}"),
                ));
            }
            if path != "/partly" {
                cases.push((
                    how,
                    path,
                    status,
                    format!("{long}{kind}\r\nexpect: 100-continue"),
                ));
            }
        }
    }
    let slow: Vec<String> = std::thread::scope(|scope| {
        let ask = move |(how, path, status, head): (Upload, &'static str, u16, String)| {
            let (found, took, sent) = upload(address, path, &head, how);
            assert_eq!(found, status, "{path} {head}");
            (took > Duration::from_secs(8) || sent > 64 * 1024 * 1024)
                .then(|| format!("{path} {head:?} {how:?}: {took:?}, {sent} bytes"))
        };
        let asked: Vec<_> = cases
            .into_iter()
            .map(|case| scope.spawn(move || ask(case)))
            .collect();
        asked
            .into_iter()
            .filter_map(|asked| asked.join().expect("no panic"))
            .collect()
    });
    assert!(slow.is_empty(), "{slow:#?}");
    // The server has let go of all of them.
    site.wait_until(|server| server.connections() == 0);
}
