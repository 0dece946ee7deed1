//! Framing: where one message ends and the next begins.
//!
//! Nothing here does I/O. A [`Framing`] finds frames in bytes and encodes frames as bytes.
//! [`Frames`] buffers incomplete frames. To use them over a connection, take
//! [`protocol::Framed`](crate::protocol::Framed) with callbacks or [`FramedStream`] with `await`.
//!
//! ```
//! use entwined::framing::{Framing, Frames, Netstrings};
//!
//! let mut frames = Frames::new(Netstrings::new(1_000));
//! let mut seen = Vec::new();
//! // It does not matter where the bytes are split.
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
//! | [`Lines`] | the line, then LF or CR LF; with a raw mode for the bytes between lines |
//! | [`Netstrings`] | its length in digits, `:`, the bytes, `,` |
//! | [`Prefixed`] | its length in 1, 2 or 4 bytes, big-endian, then the bytes |
//! | [`Delimited`] | the bytes, then a delimiter of your choice |
//!
//! # Bounds
//!
//! A framing limits the size of its frames. The buffer of an incomplete frame never holds more than
//! this limit plus the framing's overhead, and is freed when the frame is complete. The work is
//! linear in the number of bytes, even if they arrive one at a time.

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

/// Separates a stream of bytes into messages.
pub trait Framing {
    /// Looks for a frame at the start of `input`, which is everything that was received and not
    /// consumed yet. This is called again with the same bytes and more after them until it consumes
    /// some. An implementation may remember how far it has searched.
    ///
    /// # Errors
    /// The peer did not send a valid frame. If the error is not [fatal](FrameError::is_fatal), this
    /// is called again with the same bytes and must [skip](Found::Skip) them.
    fn decode(&mut self, input: &[u8]) -> Result<Found, FrameError>;

    /// Returns what remains at the end of the input: a last frame, if the framing allows one
    /// without its end.
    ///
    /// # Errors
    /// [`FrameError::Unfinished`] if the peer stopped in the middle of a frame.
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
    /// [`FrameError::CannotEncode`] if the bytes cannot be sent as a frame. Nothing is appended
    /// then.
    fn encode(&self, frame: &[u8], output: &mut Vec<u8>) -> Result<(), FrameError>;

    /// Forgets the bytes that were seen of an incomplete frame: they are gone, and other bytes come
    /// next. For framings that remember how far they have looked.
    fn restart(&mut self) {}
}

/// What was found at the start of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A frame.
    Frame {
        /// The position of its content.
        content: Range<usize>,
        /// The number of bytes it consumes.
        taken: usize,
    },
    /// This many bytes, at least one, must be skipped.
    Skip(usize),
    /// More bytes are needed.
    More,
}

/// What is wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The peer sent a frame that is longer than the limit.
    TooLong {
        /// The maximum number of bytes in a frame.
        limit: usize,
        /// Whether the frame is skipped and the frames after it can be decoded.
        skipped: bool,
    },
    /// The peer sent something that is not a frame.
    Malformed(&'static str),
    /// The peer stopped in the middle of a frame.
    Unfinished,
    /// The bytes to send cannot be encoded as a frame.
    CannotEncode(&'static str),
}

impl FrameError {
    /// Returns whether nothing can be decoded after this error.
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
                write!(f, "the peer sent a frame of more than {limit} bytes")
            }
            FrameError::Malformed(what) => write!(f, "the peer sent an invalid frame: {what}"),
            FrameError::Unfinished => f.write_str("the peer stopped in the middle of a frame"),
            FrameError::CannotEncode(what) => write!(f, "this cannot be sent as a frame: {what}"),
        }
    }
}

impl Error for FrameError {}

/// A framing with a buffer for an incomplete frame.
#[derive(Debug)]
pub struct Frames<F> {
    framing: F,
    pending: Vec<u8>,
    /// The number of bytes at the start of `pending` that were consumed.
    taken: usize,
    failed: Option<FrameError>,
}

impl<F: Framing> Frames<F> {
    /// Creates an empty buffer.
    pub fn new(framing: F) -> Self {
        Frames {
            framing,
            pending: Vec::new(),
            taken: 0,
            failed: None,
        }
    }

    /// Returns the framing.
    pub fn framing(&self) -> &F {
        &self.framing
    }

    /// Returns the framing, to change it between two frames.
    pub fn framing_mut(&mut self) -> &mut F {
        &mut self.framing
    }

    /// Returns the number of received bytes that do not belong to a complete frame yet.
    pub fn pending(&self) -> usize {
        self.pending.len() - self.taken
    }

    /// Returns the next frame, first from the buffer and then from `input`, and advances `input`
    /// past the bytes that it used. Returns `None` if more bytes are needed; all of `input` was
    /// used then. A frame that lies entirely in `input` is not copied.
    ///
    /// # Errors
    /// The peer did not send a valid frame. A [fatal](FrameError::is_fatal) error is returned again
    /// on every further call.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<&'a [u8]>, FrameError> {
        let all = *input;
        Ok(self.find(input)?.map(|place| self.at(place, all)))
    }

    /// Like `next`, for callers that may change the framing while they hold the frame.
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

    /// Buffers a piece of the input. The piece is small, so that most of a large input is not
    /// copied.
    fn keep(&mut self, input: &mut &[u8]) {
        self.pending.drain(..self.taken);
        self.taken = 0;
        let (piece, rest) = input.split_at(input.len().min(self.pending.len().max(PIECE)));
        self.pending.extend_from_slice(piece);
        *input = rest;
    }

    /// Discards the buffer.
    pub(crate) fn clear(&mut self) {
        (self.pending, self.taken) = (Vec::new(), 0);
        self.framing.restart();
    }

    /// Returns the last frame, at the end of the input.
    ///
    /// # Errors
    /// [`FrameError::Unfinished`] if the peer stopped in the middle of a frame.
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
    /// [`FrameError::CannotEncode`] if the bytes cannot be sent as a frame. Nothing is appended
    /// then.
    pub fn encode(&self, frame: &[u8], output: &mut Vec<u8>) -> Result<(), FrameError> {
        self.framing.encode(frame, output)
    }
}

/// The location of a frame.
enum Place {
    Input(Range<usize>),
    Pending(Range<usize>),
}

const PIECE: usize = 256;
