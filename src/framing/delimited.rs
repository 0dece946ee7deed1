//! Frames followed by a delimiter.

use std::ops::Range;

use memchr::memmem::Finder;

use super::{Found, FrameError, Framing};

/// Frames that end with a delimiter, which they cannot contain.
#[derive(Clone, Debug)]
pub struct Delimited {
    delimiter: Finder<'static>,
    limit: usize,
    /// The number of bytes already searched: no delimiter begins before this position.
    scanned: usize,
}

impl Delimited {
    /// Creates a framing for frames of at most `limit` bytes, each followed by `delimiter`.
    ///
    /// # Panics
    /// If the delimiter is empty.
    pub fn new(delimiter: &[u8], limit: usize) -> Self {
        assert!(!delimiter.is_empty(), "a delimiter cannot be empty");
        Delimited {
            delimiter: Finder::new(delimiter).into_owned(),
            limit,
            scanned: 0,
        }
    }
}

impl Framing for Delimited {
    fn decode(&mut self, input: &[u8]) -> Result<Found, FrameError> {
        let length = self.delimiter.needle().len();
        let found = self
            .delimiter
            .find(&input[self.scanned..])
            .map(|place| self.scanned + place);
        // If it is incomplete, it begins in the last bytes at the earliest.
        let content = found.unwrap_or((input.len() + 1).saturating_sub(length));
        if content > self.limit {
            return Err(FrameError::TooLong {
                limit: self.limit,
                skipped: false,
            });
        }
        self.scanned = if found.is_some() { 0 } else { content };
        Ok(match found {
            Some(_) => Found::Frame {
                content: 0..content,
                taken: content + length,
            },
            None => Found::More,
        })
    }

    fn finish(&mut self, input: &[u8]) -> Result<Option<Range<usize>>, FrameError> {
        self.restart();
        match input {
            [] => Ok(None),
            _ => Err(FrameError::Unfinished),
        }
    }

    fn restart(&mut self) {
        self.scanned = 0;
    }

    fn encode(&self, frame: &[u8], output: &mut Vec<u8>) -> Result<(), FrameError> {
        let start = output.len();
        output.extend_from_slice(frame);
        output.extend_from_slice(self.delimiter.needle());
        // The delimiter may also begin inside the frame and end in the delimiter itself.
        if frame.len() > self.limit || self.delimiter.find(&output[start..]) != Some(frame.len()) {
            output.truncate(start);
            return Err(FrameError::CannotEncode(
                "it is longer than the limit or contains the delimiter",
            ));
        }
        Ok(())
    }
}
