//! What a peer may say over a WebSocket: it is answered or ended, and what it says twice is the same.
#![no_main]

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use arbitrary::Arbitrary;
use entwined::{
    Handle,
    http::{self, Request, Router, websocket},
    simulation::Simulation,
    transport::{
        Address, Listen,
        memory::{self, MemoryStream, Wire},
    },
};
use futures_io::{AsyncRead, AsyncWrite};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    fragment: u8,
    frames: Vec<Frame<'a>>,
    /// Behind them, as it is.
    rest: &'a [u8],
}

#[derive(Arbitrary, Debug)]
struct Frame<'a> {
    first: u8,
    masked: bool,
    payload: &'a [u8],
}

const HANDSHAKE: &[u8] = b"GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
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

/// Gives one stream.
struct Once(Handle, RefCell<Option<MemoryStream>>);

impl Listen for Once {
    type Stream = MemoryStream;

    fn poll_accept(&self, _: &mut Context<'_>) -> Poll<io::Result<MemoryStream>> {
        self.1.take().map_or(Poll::Pending, |stream| Poll::Ready(Ok(stream)))
    }

    fn local_address(&self) -> Address {
        Address::Unknown
    }

    fn handle(&self) -> Handle {
        self.0.clone()
    }
}

fuzz_target!(|case: Case<'_>| {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let mut wire = Wire::default();
    wire.fragment = usize::from(case.fragment) + 1;
    let (near, far) = memory::pair_over(&handle, wire);
    let router = Router::new().get("/ws", |request: Request| {
        let mut config = websocket::Config::default();
        config.message_limit = 1_000;
        websocket::upgrade_with(request, config, |mut socket| async move {
            while let Some(Ok(message)) = socket.next().await {
                assert!(message.len() <= 1_000);
                if socket.send(message).await.is_err() {
                    break;
                }
            }
        })
    });
    let _server = http::serve(Once(handle.clone(), RefCell::new(Some(far))), router);
    let bytes = case.bytes();
    let talking = handle.spawn(async move {
        let mut near = near;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match poll_fn(|cx| Pin::new(&mut near).poll_write(cx, rest)).await {
                Ok(count) => rest = &rest[count..],
                Err(_) => return,
            }
        }
        let _ = poll_fn(|cx| Pin::new(&mut near).poll_close(cx)).await;
        let mut buffer = [0; 1_000];
        while let Ok(1..) = poll_fn(|cx| Pin::new(&mut near).poll_read(cx, &mut buffer)).await {}
    });
    simulation.run_until(talking).expect("no panic");
    simulation.drive();
});
