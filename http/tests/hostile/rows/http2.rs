//! What a peer sends to a server over HTTP/2, frame by frame.

use std::{
    io::{BufReader, Read, Write},
    net::TcpStream,
    thread,
};

use entwined::{Handle, transport::tcp};
use entwined_http::{self as http, Body, Bytes, Error, Request, Response, Router};

use super::CALLBACK;
use crate::{
    Row, Victim,
    attack::{self, Target},
    victim,
};

/// Reads a body in the pieces in which it comes.
async fn count(mut request: Request) -> Result<String, Error> {
    let mut count = 0;
    while let Some(piece) = request.chunk().await? {
        count += piece.len();
    }
    Ok(count.to_string())
}

/// One for all requests, so that what grows is what the server makes of it.
static LARGE: [u8; 2 * 1024 * 1024] = [b'x'; 2 * 1024 * 1024];

const SITE: victim::Server = |handle: &Handle| {
    let listener = tcp::listen(handle, "127.0.0.1:0").expect("a port");
    let router = Router::new()
        .get("/", || "hello")
        .get("/events", || Response::new(Body::live(Silent)))
        .get("/large", || Bytes::from_static(&LARGE))
        .post("/upload", count);
    let server = http::serve(listener, router);
    let address = server.local_address().tcp().expect("TCP");
    (address, Box::new(server))
};

/// A body without any piece and without an end.
struct Silent;

impl futures_core::Stream for Silent {
    type Item = Result<Bytes, String>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Pending
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A GET request on a stream.
fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, 5, stream, &head(0x82, path))
}

/// The head of an upload on a stream.
fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, 4, stream, &head(0x83, "/upload"))
}

/// The head of a request with literal fields (RFC 7541, 6.2.2); `method` is a number of the static
/// table.
fn head(method: u8, path: &str) -> Vec<u8> {
    let mut block = vec![method, 0x86, 0x01, 9];
    block.extend_from_slice(b"localhost");
    block.extend_from_slice(&[0x04, path.len() as u8]);
    block.extend_from_slice(path.as_bytes());
    block
}

/// A connection with a server that speaks HTTP/2.
struct Peer(BufReader<TcpStream>);

impl Peer {
    fn new(target: &Target, settings: &[u8]) -> Self {
        let mut peer = Peer(BufReader::new(target.connect()));
        peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        peer.send(&frame(SETTINGS, 0, 0, settings));
        peer
    }

    fn send(&mut self, bytes: &[u8]) {
        attack::send(self.0.get_mut(), bytes);
    }

    /// The kind and the stream of the next frame; `None` if the connection is over.
    fn next(&mut self) -> Option<(u8, u32)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        self.0.read_exact(&mut vec![0; length]).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], stream))
    }

    /// Reads until the last request is answered or the server has had enough.
    fn end(&mut self) -> String {
        loop {
            match self.next() {
                None => return "the connection is over".to_owned(),
                Some((HEADERS, LAST)) => return "answered".to_owned(),
                Some((GOAWAY, _)) => return "the server goes away".to_owned(),
                Some(_) => {}
            }
        }
    }

    /// Reads until a frame of this kind has come on each of so many streams.
    fn wait_for(&mut self, kind: u8, mut count: usize) -> bool {
        while count > 0 {
            match self.next() {
                None => return false,
                Some((seen, _)) => count -= usize::from(seen == kind),
            }
        }
        true
    }

    /// Whether another request is answered.
    fn is_answered(&mut self, stream: u32) -> String {
        self.send(&get(stream, "/"));
        loop {
            match self.next() {
                None => return "the connection is over".to_owned(),
                Some((HEADERS, answered)) if answered == stream => return "answered".to_owned(),
                Some(_) => {}
            }
        }
    }
}

/// Sends `before`, then `flood` so many times, then `after` and a request, and reads meanwhile.
/// Says whether that is answered.
fn flooded(target: &Target, before: &[u8], flood: &[u8], times: usize, after: &[u8]) -> String {
    let mut peer = Peer::new(target, &[]);
    let mut writing = peer.0.get_ref().try_clone().expect("a copy");
    let block = flood.repeat((64 * 1024 / flood.len()).clamp(1, times));
    let blocks = (flood.len() * times).div_ceil(block.len());
    let end = [after, &get(LAST, "/")].concat();
    thread::scope(|scope| {
        scope.spawn(move || {
            // The server may have had enough before.
            let _ = writing
                .write_all(before)
                .and_then(|()| (0..blocks).try_for_each(|_| writing.write_all(&block)))
                .and_then(|()| writing.write_all(&end));
        });
        peer.end()
    })
}

/// The stream of the request after a flood.
const LAST: u32 = 0x7fff_ffff;

macro_rules! flood {
    ($name:literal, $answer:literal, $before:expr, $flood:expr, $times:literal, $after:expr) => {
        Row {
            name: $name,
            victim: Victim::Server(SITE),
            attack: |target: Target| flooded(&target, $before, &$flood, $times, $after),
            answer: $answer,
            max_callback: CALLBACK,
            max_memory: 4096,
        }
    };
}

pub const ROWS: &[Row] = &[
    flood!(
        "500,000 pings over HTTP/2",
        "answered",
        b"",
        frame(PING, 0, 0, b"hostile!"),
        500_000,
        b""
    ),
    flood!(
        "500,000 empty settings over HTTP/2",
        "answered",
        b"",
        frame(SETTINGS, 0, 0, b""),
        500_000,
        b""
    ),
    flood!(
        "500,000 small windows over HTTP/2",
        "answered",
        b"",
        frame(WINDOW, 0, 0, &[0, 0, 0, 1]),
        500_000,
        b""
    ),
    flood!(
        "500,000 frames of no known kind over HTTP/2",
        "answered",
        b"",
        frame(0xfe, 0, 0, b""),
        500_000,
        b""
    ),
    flood!(
        "500,000 priorities over HTTP/2",
        "answered",
        b"",
        frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]),
        500_000,
        b""
    ),
    flood!(
        "an upload in 500,000 empty frames over HTTP/2",
        "the server goes away",
        &post(1),
        frame(DATA, 0, 1, b""),
        500_000,
        &frame(DATA, 1, 1, b"")
    ),
    Row {
        name: "an upload in 50,000 frames of one byte over HTTP/2",
        victim: Victim::Server(SITE),
        attack: |target: Target| {
            let (byte, end) = (frame(DATA, 0, 1, b"x"), frame(DATA, 1, 1, b""));
            // h2 has a budget for small frames, and gets back what the handler reads: either may
            // be faster.
            match &*flooded(&target, &post(1), &byte, 50_000, &end) {
                "answered" | "the server goes away" => "the server lives".to_owned(),
                other => other.to_owned(),
            }
        },
        answer: "the server lives",
        max_callback: CALLBACK,
        max_memory: 4096,
    },
    flood!(
        "a head in 100,000 empty frames over HTTP/2",
        "the server goes away",
        &frame(HEADERS, 1, 1, &head(0x82, "/")),
        frame(CONTINUATION, 0, 1, b""),
        100_000,
        &frame(CONTINUATION, 4, 1, b"")
    ),
    Row {
        name: "100,000 requests over HTTP/2 that are reset at once",
        victim: Victim::Server(SITE),
        attack: |target: Target| {
            let all: Vec<u8> = (0..100_000)
                .flat_map(|number| {
                    let stream = 2 * number + 1;
                    [get(stream, "/"), frame(RESET, 0, stream, &[0, 0, 0, 8])].concat()
                })
                .collect();
            flooded(&target, b"", &all, 1, b"")
        },
        answer: "the server goes away",
        max_callback: CALLBACK,
        max_memory: 4096,
    },
    Row {
        name: "20,000 streams of events, one after another beside one that stays",
        victim: Victim::Server(SITE),
        attack: |target: Target| {
            let mut peer = Peer::new(&target, &[]);
            peer.send(&get(1, "/events"));
            let mut next = 3;
            for _ in 0..400 {
                let streams: Vec<u32> = (0..50).map(|place| next + 2 * place).collect();
                next += 100;
                let opened: Vec<u8> = streams.iter().flat_map(|s| get(*s, "/events")).collect();
                peer.send(&opened);
                if !peer.wait_for(HEADERS, 50) {
                    return "the connection is over".to_owned();
                }
                let cancel = |stream: &u32| frame(RESET, 0, *stream, &[0, 0, 0, 8]);
                peer.send(&streams.iter().flat_map(cancel).collect::<Vec<u8>>());
            }
            peer.is_answered(next)
        },
        answer: "answered",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "a hundred bodies of 2 MiB over HTTP/2 that nobody reads",
        victim: Victim::Server(SITE),
        attack: |target: Target| {
            // No window for any of them (SETTINGS_INITIAL_WINDOW_SIZE, RFC 9113, 6.5.2).
            let mut peer = Peer::new(&target, &[0, 4, 0, 0, 0, 0]);
            let all: Vec<u8> = (0..99).flat_map(|n| get(2 * n + 1, "/large")).collect();
            peer.send(&all);
            if !peer.wait_for(HEADERS, 99) {
                return "the connection is over".to_owned();
            }
            peer.is_answered(199)
        },
        answer: "answered",
        max_callback: CALLBACK,
        max_memory: 8192,
    },
    Row {
        name: "a body that is read a byte at a time over HTTP/2",
        victim: Victim::Server(SITE),
        attack: |target: Target| {
            let mut peer = Peer::new(&target, &[0, 4, 0, 0, 0, 0]);
            peer.send(&get(1, "/large"));
            for _ in 0..20_000 {
                peer.send(&frame(WINDOW, 0, 1, &[0, 0, 0, 1]));
            }
            peer.is_answered(3)
        },
        answer: "answered",
        max_callback: CALLBACK,
        max_memory: 4096,
    },
];
