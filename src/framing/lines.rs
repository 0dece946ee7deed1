//! Lines, with a raw mode for the bytes between them.

use std::ops::Range;

use super::{Found, FrameError, Framing};

/// Lines that end with LF or CR LF. A frame is a line without its end. The last line may end with
/// the input instead.
///
/// A line that is too long is reported as an error once, and the rest of it is skipped. The lines
/// after it are decoded as usual.
///
/// For protocols that switch between lines and other bytes (a message body, a file), set the [raw
/// mode](Lines::set_raw).
#[derive(Clone, Debug)]
pub struct Lines {
    limit: usize,
    /// The number of bytes already searched that contain no end of line.
    scanned: usize,
    skipping: bool,
    raw: Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Raw {
    Not,
    Bytes(u64),
    ForGood,
}

impl Lines {
    /// Creates a framing for lines of at most `limit` bytes, without their ends, in both
    /// directions.
    pub fn new(limit: usize) -> Self {
        Lines {
            limit,
            scanned: 0,
            skipping: false,
            raw: Raw::Not,
        }
    }

    /// Switches to raw mode: from now on frames are pieces of bytes as they arrive. With a number,
    /// lines follow after that many bytes; without one, raw mode lasts until
    /// [`set_lines`](Lines::set_lines).
    pub fn set_raw(&mut self, bytes: Option<u64>) {
        self.scanned = 0;
        self.raw = match bytes {
            Some(0) => Raw::Not,
            Some(bytes) => Raw::Bytes(bytes),
            None => Raw::ForGood,
        };
    }

    /// Switches back to lines.
    pub fn set_lines(&mut self) {
        self.raw = Raw::Not;
    }

    /// Returns whether the next frame is raw bytes.
    pub fn is_raw(&self) -> bool {
        self.raw != Raw::Not
    }

    fn raw(&mut self, input: &[u8]) -> Found {
        let count = match &mut self.raw {
            Raw::Bytes(left) => {
                let count = input
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                if *left == 0 {
                    self.raw = Raw::Not;
                }
                count
            }
            _ => input.len(),
        };
        if count == 0 {
            Found::More
        } else {
            Found::Frame {
                content: 0..count,
                taken: count,
            }
        }
    }
}

impl Framing for Lines {
    fn decode(&mut self, input: &[u8]) -> Result<Found, FrameError> {
        if self.is_raw() {
            return Ok(self.raw(input));
        }
        let end = memchr::memchr(b'\n', &input[self.scanned..]).map(|place| self.scanned + place);
        if self.skipping {
            self.skipping = end.is_none();
            let count = end.map_or(input.len(), |end| end + 1);
            return Ok(if count == 0 {
                Found::More
            } else {
                Found::Skip(count)
            });
        }
        let length = end.unwrap_or(input.len());
        // A CR at the limit may be the first byte of a line end.
        let content = if input[..length].ends_with(b"\r") {
            length - 1
        } else {
            length
        };
        if content > self.limit {
            (self.scanned, self.skipping) = (0, true);
            return Err(FrameError::TooLong {
                limit: self.limit,
                skipped: true,
            });
        }
        match end {
            Some(end) => {
                self.scanned = 0;
                Ok(Found::Frame {
                    content: 0..content,
                    taken: end + 1,
                })
            }
            None => {
                self.scanned = input.len();
                Ok(Found::More)
            }
        }
    }

    fn finish(&mut self, input: &[u8]) -> Result<Option<Range<usize>>, FrameError> {
        let (raw, skipping) = (self.raw, self.skipping);
        self.restart();
        match raw {
            Raw::Bytes(_) => {
                // The rest of them will not come.
                self.raw = Raw::Not;
                Err(FrameError::Unfinished)
            }
            _ if skipping || input.is_empty() => Ok(None),
            // Half of a line end is not part of the content.
            _ => Ok(Some(
                0..input.strip_suffix(b"\r").map_or(input.len(), <[u8]>::len),
            )),
        }
    }

    fn restart(&mut self) {
        (self.scanned, self.skipping) = (0, false);
    }

    /// Ends the line with CR LF, which most Internet protocols require.
    fn encode(&self, frame: &[u8], output: &mut Vec<u8>) -> Result<(), FrameError> {
        if frame.len() > self.limit {
            return Err(FrameError::CannotEncode("it is longer than the limit"));
        }
        if frame.contains(&b'\n') || frame.ends_with(b"\r") {
            return Err(FrameError::CannotEncode(
                "a line cannot contain an end of line",
            ));
        }
        output.extend_from_slice(frame);
        output.extend_from_slice(b"\r\n");
        Ok(())
    }
}
