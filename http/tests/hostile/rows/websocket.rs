//! What a peer sends over a WebSocket.

use std::{
    io::Write,
    net::{Shutdown, TcpStream},
};

use entwined::{Handle, transport::tcp};
use entwined_http::{
    self as http, Request, Router,
    websocket::{self, Message},
};

use super::CALLBACK;
use crate::{
    Row, Victim,
    attack::{self, Target},
    victim,
};

/// Echoes messages.
const ECHO: victim::Server = |handle: &Handle| {
    let listener = tcp::listen(handle, "127.0.0.1:0").expect("a port");
    let router = Router::new().any("/", |request: Request| async {
        websocket::upgrade(request, |mut socket| async move {
            while let Some(Ok(message)) = socket.next().await {
                if socket.send(message).await.is_err() {
                    break;
                }
            }
        })
    });
    let server = http::serve(listener, router);
    let address = server.local_address().tcp().expect("TCP");
    (address, Box::new(server))
};

/// Reads messages and answers none.
const SINK: victim::Server = |handle: &Handle| {
    let listener = tcp::listen(handle, "127.0.0.1:0").expect("a port");
    let router = Router::new().any("/", |request: Request| async {
        websocket::upgrade(request, |mut socket| async move {
            while let Some(Ok(_)) = socket.next().await {}
        })
    });
    let server = http::serve(listener, router);
    let address = server.local_address().tcp().expect("TCP");
    (address, Box::new(server))
};

/// A client that reads messages to the end, and says how it ended.
const READER: victim::Client = |handle, address| {
    Box::pin(async move {
        let url = format!("ws://{address}/");
        let mut socket = match websocket::connect(&handle, &url).await {
            Ok(socket) => socket,
            Err(error) => return format!("no WebSocket: {error}"),
        };
        let mut count = 0_u64;
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(_) | Message::Binary(_))) => count += 1,
                Some(Err(error)) => return format!("{count} messages, {error}"),
                None => return format!("{count} messages, {:?}", socket.closed()),
            }
        }
    })
};

fn open(target: &Target) -> TcpStream {
    let mut stream = target.connect();
    attack::send(
        &mut stream,
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = attack::read(&mut stream, 1);
        if byte.is_empty() {
            break;
        }
        head.extend(byte);
    }
    stream
}

/// Accepts the client's handshake.
fn accept(target: &Target) -> TcpStream {
    let mut stream = target.connect();
    let head = attack::read(&mut stream, 100);
    let head = String::from_utf8_lossy(&head).into_owned();
    let key = head
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
        .unwrap_or("");
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    attack::send(&mut stream, answer.as_bytes());
    stream
}

/// Sends `count` times `frames`, and reads meanwhile. Returns the code of the CLOSE frame that ends
/// it, or what the end was like.
fn flood(mut stream: TcpStream, frames: &[u8], count: usize) -> String {
    let mut reading = stream.try_clone().expect("a copy");
    let reader = std::thread::spawn(move || {
        let (mut last, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
        loop {
            match std::io::Read::read(&mut reading, &mut piece) {
                Ok(0) => break,
                Ok(count) => {
                    last.extend_from_slice(&piece[..count]);
                    last.drain(..last.len().saturating_sub(64));
                }
                Err(error) => return error.kind().to_string(),
            }
        }
        // The reasons are text, so that no byte of them looks like the beginning of a CLOSE frame.
        match last.iter().rposition(|byte| *byte == 0x88) {
            Some(place) if last.len() > place + 3 => {
                u16::from_be_bytes([last[place + 2], last[place + 3]]).to_string()
            }
            _ => "no code".to_owned(),
        }
    });
    let block = frames.repeat((64 * 1024 / frames.len()).max(1));
    let blocks = (frames.len() * count).div_ceil(block.len());
    for _ in 0..blocks {
        if stream.write_all(&block).is_err() {
            break;
        }
    }
    let _ = stream.write_all(CLOSE);
    let _ = stream.shutdown(Shutdown::Write);
    reader.join().expect("no panic")
}

/// A masked CLOSE frame with the code 1000.
const CLOSE: &[u8] = b"\x88\x82\0\0\0\0\x03\xe8";

/// A frame with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

macro_rules! row {
    ($name:literal, $victim:expr, $answer:literal, $memory:expr, $attack:expr) => {
        Row {
            name: $name,
            victim: $victim,
            attack: $attack,
            answer: $answer,
            max_callback: CALLBACK,
            max_memory: $memory,
        }
    };
}

pub const ROWS: &[Row] = &[
    row!(
        "a million empty WebSocket messages, echoed",
        Victim::Server(ECHO),
        "1000",
        2048,
        |target: Target| flood(open(&target), &frame(0x82, b""), 1_000_000)
    ),
    row!(
        "a million empty WebSocket messages, read",
        Victim::Server(SINK),
        "1000",
        2048,
        |target: Target| flood(open(&target), &frame(0x81, b""), 1_000_000)
    ),
    row!(
        "a million WebSocket pings",
        Victim::Server(SINK),
        "1000",
        2048,
        |target: Target| flood(open(&target), &frame(0x89, b"ping"), 1_000_000)
    ),
    row!(
        "a million WebSocket pongs",
        Victim::Server(SINK),
        "1000",
        2048,
        |target: Target| flood(open(&target), &frame(0x8a, b"pong"), 1_000_000)
    ),
    row!(
        "a WebSocket message in a million fragments of one byte",
        Victim::Server(SINK),
        "1000",
        2048,
        |target: Target| {
            let mut stream = open(&target);
            attack::send(&mut stream, &frame(0x02, b""));
            flood(stream, &frame(0x00, b"x"), 1_000_000)
        }
    ),
    row!(
        "a WebSocket message in two million fragments of one byte",
        Victim::Server(SINK),
        "1009",
        2048,
        |target: Target| {
            let mut stream = open(&target);
            attack::send(&mut stream, &frame(0x01, b""));
            flood(stream, &frame(0x00, b"x"), 2_000_000)
        }
    ),
    row!(
        "a WebSocket message in a million empty fragments",
        Victim::Server(SINK),
        "1000",
        2048,
        |target: Target| {
            let mut stream = open(&target);
            attack::send(&mut stream, &frame(0x01, b""));
            flood(stream, &frame(0x00, b""), 1_000_000)
        }
    ),
    row!(
        "WebSocket texts of 1 MiB in the characters that are slowest to check",
        Victim::Server(ECHO),
        "1000",
        6144,
        |target: Target| {
            let text = "\u{10348}".repeat(256 * 1024);
            flood(open(&target), &frame(0x81, text.as_bytes()), 30)
        }
    ),
    row!(
        "WebSocket messages of 1 MiB in fragments of 64 KiB",
        Victim::Server(ECHO),
        "1000",
        6144,
        |target: Target| {
            let mut message = frame(0x02, &[7; 65_536]);
            for _ in 0..14 {
                message.extend(frame(0x00, &[7; 65_536]));
            }
            message.extend(frame(0x80, &[7; 65_536]));
            flood(open(&target), &message, 30)
        }
    ),
    row!(
        "a WebSocket frame that says it has 2^62 bytes",
        Victim::Server(SINK),
        "1009",
        2048,
        |target: Target| flood(open(&target), b"\x82\xff\x40\0\0\0\0\0\0\0\0\0\0\0", 1_000)
    ),
    row!(
        "a WebSocket that is flooded after a wrong frame",
        Victim::Server(SINK),
        "1002",
        2048,
        |target: Target| {
            let mut stream = open(&target);
            attack::send(&mut stream, &frame(0x83, b""));
            flood(stream, &frame(0x82, b"x"), 3_000_000)
        }
    ),
    row!(
        "a WebSocket that is flooded after its close",
        Victim::Server(SINK),
        "1000",
        2048,
        |target: Target| {
            let mut stream = open(&target);
            attack::send(&mut stream, CLOSE);
            flood(stream, &frame(0x82, b"x"), 3_000_000)
        }
    ),
    row!(
        "a million WebSocket pings of a peer that reads no pong",
        Victim::Server(SINK),
        "done",
        2048,
        |target: Target| {
            let mut stream = open(&target);
            let block = frame(0x89, &[7; 125]).repeat(1_000);
            for _ in 0..1_000 {
                attack::send(&mut stream, &block);
            }
            "done".to_owned()
        }
    ),
    row!(
        "500 WebSockets that begin a message of 1 MiB",
        Victim::Server(SINK),
        "done",
        16 * 1024,
        |target: Target| {
            let mut all = Vec::new();
            for _ in 0..500 {
                let mut stream = open(&target);
                attack::send(&mut stream, b"\x82\xff\0\0\0\0\0\x10\0\0\0\0\0\0x");
                all.push(stream);
            }
            "done".to_owned()
        }
    ),
    row!(
        "a million empty WebSocket messages from a server",
        Victim::Client(READER),
        "1000000 messages, Some(Closed { code: 1000",
        2048,
        |target: Target| {
            let mut stream = accept(&target);
            let block = b"\x82\0".repeat(10_000);
            for _ in 0..100 {
                attack::send(&mut stream, &block);
            }
            attack::send(&mut stream, b"\x88\x02\x03\xe8");
            let _ = stream.shutdown(Shutdown::Write);
            attack::read(&mut stream, usize::MAX);
            String::new()
        }
    ),
    row!(
        "a million WebSocket pings from a server",
        Victim::Client(READER),
        "0 messages, Some(Closed { code: 1000",
        2048,
        |target: Target| {
            let mut stream = accept(&target);
            let mut reading = stream.try_clone().expect("a copy");
            let reader = std::thread::spawn(move || attack::read(&mut reading, usize::MAX).len());
            let block = b"\x89\x01x".repeat(10_000);
            for _ in 0..100 {
                attack::send(&mut stream, &block);
            }
            attack::send(&mut stream, b"\x88\x02\x03\xe8");
            let _ = stream.shutdown(Shutdown::Write);
            reader.join().expect("no panic");
            String::new()
        }
    ),
    row!(
        "a masked frame from a WebSocket server",
        Victim::Client(READER),
        "0 messages, the peer violated",
        2048,
        |target: Target| {
            let mut stream = accept(&target);
            attack::send(&mut stream, &frame(0x82, b"x"));
            attack::read(&mut stream, usize::MAX);
            String::new()
        }
    ),
    row!(
        "a WebSocket handshake whose head never ends",
        Victim::Client(READER),
        "no WebSocket: ",
        2048,
        |target: Target| {
            let mut stream = target.connect();
            attack::read(&mut stream, 100);
            attack::send(&mut stream, b"HTTP/1.1 101 x\r\n");
            for _ in 0..1_000 {
                attack::send(&mut stream, &b"x: y\r\n".repeat(1_000));
            }
            String::new()
        }
    ),
];
