//! What a peer may send over a WebSocket: the server must answer or close the connection, and leave
//! nothing behind.
#![no_main]

use arbitrary::Arbitrary;
use entwined::{simulation::Simulation, transport::listen_once};
use entwined_http::{self as http, Request, Router, websocket};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    fragment: u8,
    frames: Vec<Frame<'a>>,
    /// Raw bytes after the frames.
    rest: &'a [u8],
}

#[derive(Arbitrary, Debug)]
struct Frame<'a> {
    first: u8,
    masked: bool,
    payload: &'a [u8],
}

const HANDSHAKE: &[u8] =
    b"GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

impl Case<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = HANDSHAKE.to_vec();
        for frame in &self.frames {
            bytes.push(frame.first);
            let mask = if frame.masked { 0x80 } else { 0 };
            match frame.payload.len() {
                length @ 0..126 => bytes.push(mask | length as u8),
                length => {
                    bytes.push(mask | 126);
                    bytes.extend_from_slice(&(length as u16).to_be_bytes());
                }
            }
            if frame.masked {
                bytes.extend_from_slice(&[0; 4]);
            }
            bytes.extend_from_slice(&frame.payload[..frame.payload.len().min(65_535)]);
        }
        bytes.extend_from_slice(self.rest);
        bytes
    }
}

fuzz_target!(|case: Case<'_>| {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, far) = fuzz::connection(&handle, case.fragment);
    let router = Router::new().get("/ws", |request: Request| {
        let mut config = websocket::Config::default();
        config.max_message_size = 1_000;
        websocket::upgrade_with(request, config, |mut socket| async move {
            while let Some(Ok(message)) = socket.next().await {
                assert!(message.len() <= 1_000);
                if socket.send(message).await.is_err() {
                    break;
                }
            }
        })
    });
    let _server = http::serve(listen_once(&handle, far), router);
    fuzz::say(&simulation, near, case.bytes());
});
