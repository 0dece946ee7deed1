//! Protocols that speak in lines.

use std::mem;

use super::{End, Lost, Protocol, Transport};

/// A line without its end, or the news that one was too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line<'a> {
    /// A line that ended with LF or CR LF, without them.
    Whole(&'a [u8]),
    /// The last bytes before the end of input, if they did not end with LF.
    Unfinished(&'a [u8]),
    /// A line of more than the limit. Its rest will be skipped; the default of many protocols is to close here.
    TooLong,
}

/// A [`Protocol`] that receives lines instead of bytes; see [`Lines`].
pub trait LineReceiver {
    /// The connection is there.
    fn connection_made(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// A line has arrived. After it has paused or closed the transport, no more come until it resumes.
    fn line_received(&mut self, transport: &Transport, line: Line<'_>);

    /// More waits to be sent than the limit: see [`Protocol::pause_writing`].
    fn pause_writing(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// See [`Protocol::resume_writing`].
    fn resume_writing(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// The connection is over.
    fn connection_lost(&mut self, why: &Lost) {
        let _ = why;
    }
}

/// Cuts what is received into lines for a [`LineReceiver`].
///
/// ```
/// use entwined::protocol::{Line, LineReceiver, Lines, Transport};
///
/// struct Greeter;
///
/// impl LineReceiver for Greeter {
///     fn line_received(&mut self, transport: &Transport, line: Line<'_>) {
///         match line {
///             Line::Whole(name) => transport.write_all(&[b"hello, ", name, b"\r\n"]),
///             Line::Unfinished(_) | Line::TooLong => return transport.close(),
///         };
///     }
/// }
///
/// let protocol = Lines::new(Greeter).limit(512);
/// ```
#[derive(Debug)]
pub struct Lines<R> {
    receiver: R,
    limit: usize,
    /// What has arrived of a line that is not complete, or, while reading is paused, everything.
    pending: Vec<u8>,
    /// Whether the rest of a line that was too long is being skipped.
    skipping: bool,
}

/// Bytes of the longest line, unless told otherwise.
const LIMIT: usize = 16 * 1024;

impl<R: LineReceiver> Lines<R> {
    /// Lines of at most 16 KiB.
    pub fn new(receiver: R) -> Self {
        Lines { receiver, limit: LIMIT, pending: Vec::new(), skipping: false }
    }

    /// Lines of at most `limit` bytes, without their ends.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Hands on the lines in `data` and gives back what is left.
    fn deliver<'a>(&mut self, transport: &Transport, mut data: &'a [u8]) -> &'a [u8] {
        while !transport.is_closing() && !transport.is_reading_paused() {
            let end = data.iter().position(|&byte| byte == b'\n');
            let line = &data[..end.unwrap_or(data.len())];
            let content = line.strip_suffix(b"\r").unwrap_or(line);
            if self.skipping {
                self.skipping = end.is_none();
            } else if content.len() > self.limit {
                self.skipping = end.is_none();
                self.receiver.line_received(transport, Line::TooLong);
            } else if end.is_some() {
                self.receiver.line_received(transport, Line::Whole(content));
            } else {
                return data;
            }
            let Some(end) = end else { return &[] };
            data = &data[end + 1..];
        }
        data
    }
}

impl<R: LineReceiver> Protocol for Lines<R> {
    fn connection_made(&mut self, transport: &Transport) {
        self.receiver.connection_made(transport);
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        if self.pending.is_empty() {
            let left = self.deliver(transport, data);
            self.pending.extend_from_slice(left);
        } else {
            let mut all = mem::take(&mut self.pending);
            all.extend_from_slice(data);
            let left = self.deliver(transport, &all).len();
            all.drain(..all.len() - left);
            self.pending = all;
        }
    }

    fn reading_resumed(&mut self, transport: &Transport) {
        self.data_received(transport, &[]);
    }

    fn end_received(&mut self, transport: &Transport) -> End {
        if !self.pending.is_empty() && !transport.is_closing() {
            let pending = mem::take(&mut self.pending);
            self.receiver.line_received(transport, Line::Unfinished(&pending));
        }
        End::Close
    }

    fn pause_writing(&mut self, transport: &Transport) {
        self.receiver.pause_writing(transport);
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.receiver.resume_writing(transport);
    }

    fn connection_lost(&mut self, why: &Lost) {
        self.receiver.connection_lost(why);
    }
}
