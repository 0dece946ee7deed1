//! A client so light that the server never waits for it: `load ADDRESS PATH CONNECTIONS`.
//!
//! It prints `ready` when it is connected. Each line on its standard input is a number of
//! milliseconds. For that time it keeps one request in flight on each connection, and then prints
//! how many were answered. All answers must have the same length, because it only counts their
//! bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream as StdStream;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use peers::Outcome;

/// A server that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(5);

struct Connection {
    stream: TcpStream,
    /// Bytes of the answer that are still missing.
    missing: usize,
}

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, count] = &arguments[..] else {
        return Err("ADDRESS PATH CONNECTIONS".into());
    };
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let length = length(address, request.as_bytes())?;
    let mut poll = Poll::new()?;
    let mut connections = Vec::new();
    for key in 0..count.parse()? {
        let stream = StdStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry()
            .register(&mut stream, Token(key), Interest::READABLE)?;
        connections.push(Connection { stream, missing: 0 });
    }
    println!("ready");
    for line in std::io::stdin().lines() {
        let duration = Duration::from_millis(line?.trim().parse()?);
        println!(
            "{}",
            run(
                &mut poll,
                &mut connections,
                request.as_bytes(),
                length,
                duration
            )?
        );
    }
    Ok(())
}

/// Returns the length of an answer in bytes, with its head.
fn length(address: &str, request: &[u8]) -> Result<usize, Box<dyn std::error::Error>> {
    let mut stream = StdStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let mut fields = head.lines().filter_map(|line| line.split_once(':'));
            let field = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            let (_, body) = field.ok_or_else(|| format!("an answer without a length: {head}"))?;
            return Ok(head.len() + 4 + body.trim().parse::<usize>()?);
        }
        if count == 0 {
            return Err(format!("it answers {text:?}").into());
        }
    }
}

fn run(
    poll: &mut Poll,
    connections: &mut [Connection],
    request: &[u8],
    length: usize,
    duration: Duration,
) -> Result<u64, Box<dyn std::error::Error>> {
    let deadline = Instant::now() + duration;
    let mut events = Events::with_capacity(connections.len());
    // Larger than an answer, so that one read returns everything available.
    let mut buffer = vec![0; 64 * 1024];
    for connection in &mut *connections {
        connection.stream.write_all(request)?;
        connection.missing = length;
    }
    let (mut answered, mut busy) = (0, connections.len());
    while busy > 0 {
        poll.poll(&mut events, Some(PATIENCE))?;
        if events.is_empty() {
            return Err("no answer".into());
        }
        let over = Instant::now() >= deadline;
        for event in &events {
            let connection = &mut connections[event.token().0];
            match connection.stream.read(&mut buffer) {
                Ok(0) => return Err("the server ended a connection".into()),
                Ok(count) => {
                    let missing = connection.missing.checked_sub(count);
                    connection.missing = missing.ok_or("an answer of another length")?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            if connection.missing == 0 {
                answered += 1;
                if over {
                    busy -= 1;
                } else {
                    connection.stream.write_all(request)?;
                    connection.missing = length;
                }
            }
        }
    }
    Ok(answered)
}
