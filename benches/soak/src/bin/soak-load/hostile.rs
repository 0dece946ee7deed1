//! Peers that misbehave: what they say, and how they end.

use std::{future::Future, net::SocketAddr, time::Duration};

use entwined::transport::{ByteStream, tcp};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use crate::{Load, Outcome, dice::Dice};

/// How a peer ends.
#[derive(Clone, Copy)]
enum End {
    /// It closes at once.
    Vanish,
    /// It resets the connection at once (SO_LINGER 0).
    Reset,
    /// It neither reads nor writes, and closes after some time.
    Stall,
    /// The same, with a reset.
    StallAndReset,
    /// It reads what it gets, for some time.
    Read,
    /// It reads slowly, a few bytes at a time.
    ReadSlowly,
}

const ENDS: [End; 6] = [
    End::Vanish,
    End::Reset,
    End::Stall,
    End::StallAndReset,
    End::Read,
    End::ReadSlowly,
];

/// How long a peer stalls, in seconds.
const SHORT: usize = 3;
const LONG: usize = 25;

/// Returns how a peer is called, and what it does. It expects nothing.
pub fn peer(load: &Load) -> (&'static str, impl Future<Output = Outcome>) {
    let (says, end) = (load.dice.below(5), load.dice.one(&ENDS));
    let name = match end {
        End::Vanish => "vanish",
        End::Reset => "reset",
        End::Stall | End::StallAndReset => "stall",
        End::Read => "say something wrong or half, and read",
        End::ReadSlowly => "read slowly",
    };
    (name, talk(load, says, end))
}

async fn talk(load: &Load, says: usize, end: End) -> Outcome {
    let to = &load.addresses;
    let (address, bytes, over_tls) = match says {
        0 | 1 => (to.http, http(&load.dice), false),
        2 if load.dice.chance(2) => (to.https, http(&load.dice), true),
        2 => (
            load.dice.one(&[to.https, to.tls_echo]),
            tls(&load.dice),
            false,
        ),
        3 => (to.rpc, calls(&load.dice), false),
        _ => echo(load),
    };
    let stream = tcp::connect(&load.handle, address).await?;
    if over_tls {
        let stream = load.connector.connect(stream, "localhost")?;
        say(load, stream, &bytes, end).await
    } else {
        say(load, stream, &bytes, end).await
    }
}

/// Says it and ends. What it could not say is left out.
async fn say(load: &Load, mut stream: impl ByteStream, bytes: &[u8], end: End) -> Outcome {
    let said = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    let _ = load.handle.timeout(Duration::from_secs(1), said).await;
    let most = if load.dice.chance(4) { LONG } else { SHORT };
    let time = Duration::from_millis((load.dice.below(most) * 1_000 + 500) as u64);
    match end {
        End::Vanish => {}
        End::Reset => stream.abort(),
        End::Stall => load.handle.sleep(time).await,
        End::StallAndReset => {
            load.handle.sleep(time).await;
            stream.abort();
        }
        End::Read => {
            let mut buffer = vec![0; 64 * 1024];
            let reading = async { while let Ok(1..) = stream.read(&mut buffer).await {} };
            let _ = load.handle.timeout(time, reading).await;
        }
        End::ReadSlowly => {
            let reading = async {
                let mut buffer = [0; 10];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    load.handle.sleep(Duration::from_millis(200)).await;
                }
            };
            let _ = load.handle.timeout(time, reading).await;
        }
    }
    Ok(())
}

/// What is said to a web server: requests, halves of requests and lies.
fn http(dice: &Dice) -> Vec<u8> {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: soak\r\n\r\n").into_bytes();
    let post = |headers: &str, body: &str| {
        format!("POST /echo HTTP/1.1\r\nhost: soak\r\n{headers}\r\n\r\n{body}").into_bytes()
    };
    match dice.below(30) {
        0 => get("/hello"),
        1 | 2 => get("/large"),
        3 => get("/events"),
        4 if dice.chance(4) => get("/long-child"),
        5 => get("/hello").repeat(100),
        6 => get("/large").repeat(10),
        7 => b"GET /hel".to_vec(),
        8 => b"GET /hello HTTP/1.1\r\nhost: soak\r\nx: ".to_vec(),
        9 => Vec::new(),
        10 => post("content-length: 100000", "half"),
        11 => post(
            "content-length: 10\r\ntransfer-encoding: chunked",
            "0\r\n\r\n",
        ),
        12 => post("content-length: 18446744073709551616", "x"),
        13 => post("content-length: -1", "x"),
        14 => post("content-length: 1\r\ncontent-length: 2", "xx"),
        15 => post("transfer-encoding: chunked", "ffffffffffffffff1\r\nx"),
        16 => post(
            "transfer-encoding: chunked",
            "5\r\nlonger than that\r\n0\r\n\r\n",
        ),
        17 => post("transfer-encoding: chunked", "5\r\nhe"),
        18 => format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(20_000)).into_bytes(),
        19 => dice.bytes(1_000),
        20..25 => websocket(dice),
        _ => http2(dice),
    }
}

/// Opens a WebSocket and says something that is mostly no message.
fn websocket(dice: &Dice) -> Vec<u8> {
    let mut bytes = b"GET /socket HTTP/1.1\r\nhost: soak\r\nconnection: upgrade\r\n\
        upgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    let frame: &[u8] = match dice.below(9) {
        0 => b"",
        // A whole message, half of one, one without a mask, one that is longer than any.
        1 => b"\x82\x82\0\0\0\0ab",
        2 => b"\x82\xfe\x10\0\0\0\0\0ab",
        3 => b"\x82\x02ab",
        4 => b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
        // An unknown kind, bits that nobody has agreed on, a ping in pieces, text that is none.
        5 => b"\x8f\x80\0\0\0\0",
        6 => b"\xf2\x80\0\0\0\0",
        7 => b"\x09\x80\0\0\0\0",
        _ => b"\x81\x82\0\0\0\0\xff\xff",
    };
    let times = if dice.chance(10) { 1_000 } else { 1 };
    bytes.extend(frame.repeat(times));
    bytes
}

fn http2(dice: &Dice) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut bytes, 4, 0, 0, b"");
    // GET, http, /, and an authority.
    let head = b"\x82\x86\x84\x41\x04soak";
    match dice.below(12) {
        0 => bytes.truncate(10),
        1 => {}
        2 => frame(&mut bytes, 4, 0, 0, b"12345"),
        3 => frame(&mut bytes, 1, 5, 1, b"\xff\xff\xff\xff\xff"),
        4 => frame(&mut bytes, 8, 0, 0, &[0; 4]),
        // Opened and reset at once, many times.
        5 => {
            for stream in (1..200).step_by(2) {
                frame(&mut bytes, 1, 5, stream, head);
                frame(&mut bytes, 3, 0, stream, &[0, 0, 0, 8]);
            }
        }
        // A head that never ends.
        6 => {
            frame(&mut bytes, 1, 1, 1, head);
            for _ in 0..100 {
                frame(&mut bytes, 9, 0, 1, b"\x40\x01x\x01y");
            }
        }
        7 => frame(&mut bytes, 0, 0, 3, b"for no stream"),
        8 => frame(&mut bytes, 1, 4, 1, head),
        // A frame of 16 MiB that does not come.
        9 => bytes.extend(b"\xff\xff\xff\0\0\0\0\0\x01"),
        10 => {
            for number in 0..500_u64 {
                frame(&mut bytes, 6, 0, 0, &number.to_be_bytes());
            }
        }
        _ => {
            let (kind, flags) = (dice.below(12) as u8, dice.below(256) as u8);
            let (stream, length) = (dice.below(5) as u8, dice.below(50));
            frame(&mut bytes, kind, flags, stream, &dice.bytes(length));
        }
    }
    bytes
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
    let length = (payload.len() as u32).to_be_bytes();
    bytes.extend([
        length[1], length[2], length[3], kind, flags, 0, 0, 0, stream,
    ]);
    bytes.extend(payload);
}

/// What is said to a server that expects TLS: the beginning of a handshake, or none.
fn tls(dice: &Dice) -> Vec<u8> {
    match dice.below(5) {
        0 => Vec::new(),
        1 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        2 => b"GET / HTTP/1.1\r\nhost: soak\r\n\r\n".to_vec(),
        3 => b"\x15\x03\x03\x00\x02\x02\x28".to_vec(),
        _ => dice.bytes(300),
    }
}

/// What is said to a server of calls. A frame has its length in four bytes.
fn calls(dice: &Dice) -> Vec<u8> {
    let hello = b"entwrpc\x01";
    let frame: &[u8] = match dice.below(10) {
        0 => return dice.bytes(20),
        1 => return hello[..4].to_vec(),
        2 => b"",
        3 => b"\xff\xff\xff\xff\0",
        4 => b"\0\0\0\x03\xc1\xc1\xc1",
        5 => b"\0\0\0\x05\0\x01",
        // A call that is never answered, a stream with more credit than it needs, an answer that
        // nobody waits for, arguments that are wrong.
        6 => b"\0\0\0\x08\0\x01\xa4wait\xc0",
        7 => b"\0\0\0\x0b\x04\x01\xcd\x03\xe8\xa5count\xc0",
        8 => b"\0\0\0\x03\x01\x07\x01",
        _ => b"\0\0\0\x07\0\x01\xa3add\x05",
    };
    [hello, frame].concat()
}

fn echo(load: &Load) -> (SocketAddr, Vec<u8>, bool) {
    let bytes = load.dice.bytes(load.dice.one(&[0, 1, 1_000, 200_000]));
    if load.dice.chance(5) {
        (load.addresses.tls_echo, bytes, true)
    } else {
        (load.addresses.echo, bytes, false)
    }
}
