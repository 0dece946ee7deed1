//! What a peer sends to protocols of lines and netstrings.

use entwined::{
    Handle,
    framing::{Framing, Lines, Netstrings},
    protocol::{self, Connection, End, FrameReceiver, Framed},
    transport::tcp,
};

use super::CALLBACK;
use crate::{
    Row, Victim,
    attack::{self, Target},
    victim,
};

/// Counts frames and says at the end how many there were.
#[derive(Default)]
struct Counter(u64);

impl<F: Framing> FrameReceiver<F> for Counter {
    fn frame_received(&mut self, _: &Connection, _: &mut F, _: &[u8]) {
        self.0 += 1;
    }

    fn end_received(&mut self, connection: &Connection) -> End {
        connection.write(format!("{} frames", self.0).as_bytes());
        End::Close
    }
}

/// Answers each line with an empty one.
struct Answerer;

impl FrameReceiver<Lines> for Answerer {
    fn frame_received(&mut self, connection: &Connection, _: &mut Lines, _: &[u8]) {
        connection.write(b"\n");
    }
}

const LINES: victim::Server = |handle: &Handle| {
    let listener = tcp::listen(handle, "127.0.0.1:0").expect("a port");
    let server = protocol::serve(listener, |_| {
        Some(Framed::new(Lines::new(512), Counter::default()))
    });
    let address = server.local_address().tcp().expect("TCP");
    (address, Box::new(server))
};

const ANSWERED: victim::Server = |handle: &Handle| {
    let listener = tcp::listen(handle, "127.0.0.1:0").expect("a port");
    let server = protocol::serve(listener, |_| Some(Framed::new(Lines::new(512), Answerer)));
    let address = server.local_address().tcp().expect("TCP");
    (address, Box::new(server))
};

const NETSTRINGS: victim::Server = |handle: &Handle| {
    let listener = tcp::listen(handle, "127.0.0.1:0").expect("a port");
    let server = protocol::serve(listener, |_| {
        Some(Framed::new(Netstrings::new(512), Counter::default()))
    });
    let address = server.local_address().tcp().expect("TCP");
    (address, Box::new(server))
};

pub const ROWS: &[Row] = &[
    Row {
        name: "four million empty lines",
        victim: Victim::Server(LINES),
        attack: |target: Target| {
            let answer = attack::exchange(&target, &b"\n".repeat(4_000_000));
            String::from_utf8_lossy(&answer).into_owned()
        },
        answer: "4000000 frames",
        max_callback: CALLBACK,
        max_memory: 1024,
    },
    Row {
        name: "a million empty lines, each answered",
        victim: Victim::Server(ANSWERED),
        attack: |target: Target| {
            let answers = attack::exchange(&target, &b"\n".repeat(1_000_000)).len();
            format!("{answers} bytes")
        },
        answer: "1000000 bytes",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "two million empty netstrings",
        victim: Victim::Server(NETSTRINGS),
        attack: |target: Target| {
            let answer = attack::exchange(&target, &b"0:,".repeat(2_000_000));
            String::from_utf8_lossy(&answer).into_owned()
        },
        answer: "2000000 frames",
        max_callback: CALLBACK,
        max_memory: 1024,
    },
];
