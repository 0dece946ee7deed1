//! The floor: a mio loop and a fixed answer, nothing else. No server on mio can cost less than
//! this.
//!
//! It knows one thing about HTTP: a request ends at an empty line. So requests may come in pieces
//! or several at a time, but none may have a body, and every target gets the same answer.

use std::io::{self, ErrorKind, Read, Write};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use peers::{Outcome, address_from_command_line, announce};
use slab::Slab;

/// hyper's answer, with the same length; only the date is fixed.
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 12\r\n\
    date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\nhello, world";

/// The number of pipelined requests answered by one write.
const BATCH: usize = 16;

/// A request longer than this ends its connection.
const INPUT: usize = 4096;

const LISTENER: Token = Token(usize::MAX);

fn main() -> Outcome {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind(address_from_command_line()?)?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    announce(listener.local_addr()?);

    let responses = RESPONSE.repeat(BATCH);
    let mut connections = Slab::new();
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, poll.registry(), &mut connections)?;
                continue;
            }
            let Token(key) = event.token();
            // A connection is removed only in its own event, so an event of this batch cannot be
            // for a dead one.
            let connection: &mut Connection = &mut connections[key];
            if connection.advance(event, &responses).is_err() {
                connections.remove(key);
            }
        }
    }
}

/// Accepts until there are no more connections: the listener is edge-triggered.
fn accept(
    listener: &TcpListener,
    registry: &Registry,
    connections: &mut Slab<Connection>,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        // Fails only if the connection is already gone, which the first read will report.
        let _ = stream.set_nodelay(true);
        let entry = connections.vacant_entry();
        registry.register(
            &mut stream,
            Token(entry.key()),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        entry.insert(Connection {
            stream,
            input: Box::new([0; INPUT]),
            filled: 0,
            owed: 0,
        });
    }
}

struct Connection {
    stream: TcpStream,
    input: Box<[u8; INPUT]>,
    /// Bytes of `input` that belong to an incomplete request.
    filled: usize,
    /// Response bytes that the peer has not read. All responses are the same, so their number is
    /// enough.
    owed: usize,
}

impl Connection {
    /// Goes as far as the socket allows. An error means that the connection is over.
    fn advance(&mut self, event: &Event, responses: &[u8]) -> io::Result<()> {
        // Nothing is read while a response is pending, so a peer that does not read cannot make us
        // owe it more. What it sent meanwhile is read here after the flush, although no new edge
        // will report it.
        let waited = self.owed > 0;
        if !self.flush(responses)? {
            return Ok(());
        }
        if !(waited || event.is_readable()) {
            return Ok(());
        }
        loop {
            let count = match self.stream.read(&mut self.input[self.filled..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            // A short read emptied the socket. epoll reports whatever comes next, so we can skip
            // the read that would only return WouldBlock. If the stream has ended already, there is
            // no further event, so read on.
            let drained = self.filled + count < INPUT && !event.is_read_closed();
            self.owed += self.take_requests(count) * RESPONSE.len();
            if self.filled == INPUT {
                return Err(ErrorKind::InvalidData.into());
            }
            if !self.flush(responses)? || drained {
                return Ok(());
            }
        }
    }

    /// Counts the requests that the `count` new bytes completed, and keeps the beginning of the
    /// next one.
    fn take_requests(&mut self, count: usize) -> usize {
        // The end of a request may cross the boundary between old and new bytes.
        let mut search = self.filled.saturating_sub(3);
        let end = self.filled + count;
        let mut start = 0;
        let mut requests = 0;
        while let Some(at) = self.input[search..end]
            .windows(4)
            .position(|bytes| bytes == b"\r\n\r\n")
        {
            requests += 1;
            start = search + at + 4;
            search = start;
        }
        self.input.copy_within(start..end, 0);
        self.filled = end - start;
        requests
    }

    /// Writes pending responses; returns false if the socket does not accept all of it now.
    fn flush(&mut self, responses: &[u8]) -> io::Result<bool> {
        while self.owed > 0 {
            // The position where the peer stopped inside a response, if it did.
            let start = (RESPONSE.len() - self.owed % RESPONSE.len()) % RESPONSE.len();
            let end = responses.len().min(start + self.owed);
            match self.stream.write(&responses[start..end]) {
                Ok(count) => self.owed -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
