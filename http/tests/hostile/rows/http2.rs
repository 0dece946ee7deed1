//! What a peer sends to a server over HTTP/2, frame by frame.

use std::{
    io::{BufReader, Read},
    net::TcpStream,
};

use entwined::{Handle, transport::tcp};
use entwined_http::{self as http, Body, Bytes, Response, Router};

use super::CALLBACK;
use crate::{
    Row, Victim,
    attack::{self, Target},
    victim,
};

/// One for all requests, so that what grows is what the server makes of it.
static LARGE: [u8; 2 * 1024 * 1024] = [b'x'; 2 * 1024 * 1024];

const SITE: victim::Server = |handle: &Handle| {
    let listener = tcp::listen(handle, "127.0.0.1:0").expect("a port");
    let router = Router::new()
        .get("/", || "hello")
        .get("/events", || Response::new(Body::live(Silent)))
        .get("/large", || Bytes::from_static(&LARGE));
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

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW: u8 = 8;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A GET request on a stream, with literal headers (RFC 7541, 6.2.2).
fn get(stream: u32, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x01, 9];
    block.extend_from_slice(b"localhost");
    block.extend_from_slice(&[0x04, path.len() as u8]);
    block.extend_from_slice(path.as_bytes());
    frame(HEADERS, 5, stream, &block)
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

pub const ROWS: &[Row] = &[
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
