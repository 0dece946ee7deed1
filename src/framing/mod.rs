//! Framing: where one message ends and the next begins.
//!
//! Nothing here does I/O. A [`Framing`] finds frames in bytes and puts bytes around them;
//! [`Frames`] keeps what is not complete. Over a connection they are used by
//! [`protocol::Framed`](crate::protocol::Framed), with callbacks, or by [`FramedStream`], with
//! `await`.
//!
//! ```
//! use entwined::framing::{Framing, Frames, Netstrings};
//!
//! let mut frames = Frames::new(Netstrings::new(1_000));
//! let mut seen = Vec::new();
//! // It does not matter how the bytes are cut.
//! for piece in ["5:hel", "lo,0:,", "3:abc"] {
//!     let mut input = piece.as_bytes();
//!     while let Some(frame) = frames.next(&mut input)? {
//!         seen.push(String::from_utf8_lossy(frame).into_owned());
//!     }
//! }
//! assert_eq!(seen, ["hello", ""]);
//!
//! let mut output = Vec::new();
//! Netstrings::new(1_000).encode(b"hello", &mut output)?;
//! assert_eq!(output, b"5:hello,");
//! # Ok::<(), entwined::framing::FrameError>(())
//! ```
//!
//! | framing | a frame on the wire |
//! |---|---|
//! | [`Lines`] | the line, then LF or CR LF; with a raw mode for what comes between lines |
//! | [`Netstrings`] | its length in digits, `:`, the bytes, `,` |
//! | [`Prefixed`] | its length in 1, 2 or 4 bytes, big-endian, then the bytes |
//! | [`Delimited`] | the bytes, then a delimiter of your choice |
//!
//! # Bounds
//!
//! A framing has a limit for its frames. What is kept of an incomplete frame is never more than the
//! limit and what goes around a frame; it is given back when the frame is complete. The work is
//! linear in the bytes, also when they come one at a time.

mod delimited;
mod lines;
mod netstring;
mod prefixed;
mod stream;

use std::{error::Error, fmt, ops::Range};

pub use delimited::Delimited;
pub use lines::Lines;
pub use netstring::Netstrings;
pub use prefixed::{Prefixed, Width};
pub use stream::{FrameReader, FrameWriter, FramedError, FramedStream};

/// How messages are told apart.
pub trait Framing {
    /// Looks for a frame at the front of `input`, all that has come and was not taken. Asked again
    /// with the same bytes and more behind them until it takes some; it may remember how far it has
    /// looked.
    ///
    /// # Errors
    /// What the peer sent is no frame. Unless the error is [fatal](FrameError::is_fatal) it is
    /// asked again with the same bytes, and has to [skip](Found::Skip) them.
    fn decode(&mut self, input: &[u8]) -> Result<Found, FrameError>;

    /// What is left at the end of input: a last frame for framings that allow one without its end.
    ///
    /// # Errors
    /// [`FrameError::Unfinished`] when the peer has stopped in the middle of a frame.
    fn finish(&mut self, input: &[u8]) -> Result<Option<Range<usize>>, FrameError> {
        if input.is_empty() {
            Ok(None)
        } else {
            Err(FrameError::Unfinished)
        }
    }

    /// Appends a frame to `output`.
    ///
    /// # Errors
    /// [`FrameError::CannotEncode`] when these bytes cannot be one; then nothing is appended.
    fn encode(&self, frame: &[u8], output: &mut Vec<u8>) -> Result<(), FrameError>;
}

/// What was found at the front of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A frame.
    Frame {
        /// Where its content is.
        content: Range<usize>,
        /// So many bytes are taken with it.
        taken: usize,
    },
    /// So many bytes, at least one, mean nothing.
    Skip(usize),
    /// More bytes are needed.
    More,
}

/// What is wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The peer sends a frame of more than this limit.
    TooLong {
        /// The most bytes of a frame.
        limit: usize,
        /// Whether it is passed over, and what follows it is understood.
        skipped: bool,
    },
    /// The peer sends what is no frame.
    Malformed(&'static str),
    /// The peer has stopped in the middle of a frame.
    Unfinished,
    /// This side was to send what cannot be a frame.
    CannotEncode(&'static str),
}

impl FrameError {
    /// Whether nothing that follows can be understood.
    pub fn is_fatal(&self) -> bool {
        !matches!(
            self,
            FrameError::TooLong { skipped: true, .. } | FrameError::CannotEncode(_)
        )
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong { limit, .. } => {
                write!(f, "the peer sends a frame of more than {limit} bytes")
            }
            FrameError::Malformed(what) => write!(f, "the peer sends what is no frame: {what}"),
            FrameError::Unfinished => f.write_str("the peer stopped in the middle of a frame"),
            FrameError::CannotEncode(what) => write!(f, "this cannot be sent as a frame: {what}"),
        }
    }
}

impl Error for FrameError {}

/// A framing, and what has come of a frame that is not complete.
#[derive(Debug)]
pub struct Frames<F> {
    framing: F,
    pending: Vec<u8>,
    /// So many bytes at the front of `pending` were taken.
    taken: usize,
    failed: Option<FrameError>,
}

impl<F: Framing> Frames<F> {
    /// Nothing has come so far.
    pub fn new(framing: F) -> Self {
        Frames {
            framing,
            pending: Vec::new(),
            taken: 0,
            failed: None,
        }
    }

    /// The framing.
    pub fn framing(&self) -> &F {
        &self.framing
    }

    /// The framing, to be changed between two frames.
    pub fn framing_mut(&mut self) -> &mut F {
        &mut self.framing
    }

    /// Bytes that have come and belong to no frame yet.
    pub fn pending(&self) -> usize {
        self.pending.len() - self.taken
    }

    /// The next frame, in what is kept and then in `input`, which is moved on behind what was used
    /// of it. None when more bytes are needed: then all of `input` was used. A frame that is whole
    /// in `input` is not copied.
    ///
    /// # Errors
    /// What the peer sends is no frame. After a [fatal](FrameError::is_fatal) error it comes again
    /// and again.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<&'a [u8]>, FrameError> {
        let all = *input;
        Ok(self.find(input)?.map(|place| self.at(place, all)))
    }

    /// The same for who wants to change the framing when it has the frame.
    pub(crate) fn next_and_framing<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<(&'a [u8], &'a mut F)>, FrameError> {
        let all = *input;
        let Some(place) = self.find(input)? else {
            return Ok(None);
        };
        let frame = match place {
            Place::Input(range) => &all[range],
            Place::Pending(range) => &self.pending[range],
        };
        Ok(Some((frame, &mut self.framing)))
    }

    fn at<'a>(&'a self, place: Place, input: &'a [u8]) -> &'a [u8] {
        match place {
            Place::Input(range) => &input[range],
            Place::Pending(range) => &self.pending[range],
        }
    }

    fn find(&mut self, input: &mut &[u8]) -> Result<Option<Place>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let whole = input.len();
        while self.pending() > 0 {
            match self.decode(true, input)? {
                Found::Frame { content, taken } => {
                    let start = self.taken;
                    self.taken += taken;
                    return Ok(Some(Place::Pending(
                        start + content.start..start + content.end,
                    )));
                }
                Found::Skip(count) => self.taken += count,
                Found::More if input.is_empty() => return Ok(None),
                Found::More => self.keep(input),
            }
        }
        (self.pending, self.taken) = (Vec::new(), 0);
        while !input.is_empty() {
            let start = whole - input.len();
            match self.decode(false, input)? {
                Found::Frame { content, taken } => {
                    *input = &input[taken..];
                    return Ok(Some(Place::Input(
                        start + content.start..start + content.end,
                    )));
                }
                Found::Skip(count) => *input = &input[count..],
                Found::More => {
                    self.pending.extend_from_slice(input);
                    *input = &[];
                }
            }
        }
        Ok(None)
    }

    fn decode(&mut self, pending: bool, input: &[u8]) -> Result<Found, FrameError> {
        let bytes = if pending {
            &self.pending[self.taken..]
        } else {
            input
        };
        self.framing.decode(bytes).inspect_err(|error| {
            if error.is_fatal() {
                self.failed = Some(error.clone());
            }
        })
    }

    /// Keeps a piece of the input: not all of it, so that most of a large one need not be copied.
    fn keep(&mut self, input: &mut &[u8]) {
        self.pending.drain(..self.taken);
        self.taken = 0;
        let (piece, rest) = input.split_at(input.len().min(self.pending.len().max(PIECE)));
        self.pending.extend_from_slice(piece);
        *input = rest;
    }

    /// Forgets what was kept.
    pub(crate) fn clear(&mut self) {
        (self.pending, self.taken) = (Vec::new(), 0);
    }

    /// The last frame, at the end of input.
    ///
    /// # Errors
    /// [`FrameError::Unfinished`] when the peer has stopped in the middle of one.
    pub fn finish(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let rest = &self.pending[self.taken..];
        let start = self.taken;
        self.taken = self.pending.len();
        Ok(self
            .framing
            .finish(rest)?
            .map(|content| &self.pending[start + content.start..start + content.end]))
    }

    /// Appends a frame to `output`.
    ///
    /// # Errors
    /// [`FrameError::CannotEncode`] when these bytes cannot be one; then nothing is appended.
    pub fn encode(&self, frame: &[u8], output: &mut Vec<u8>) -> Result<(), FrameError> {
        self.framing.encode(frame, output)
    }
}

/// Where a frame is.
enum Place {
    Input(Range<usize>),
    Pending(Range<usize>),
}

const PIECE: usize = 256;
