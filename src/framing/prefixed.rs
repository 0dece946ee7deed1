//! Frames preceded by their length.

use super::{Found, FrameError, Framing};

/// A frame preceded by its length in 1, 2 or 4 bytes, big-endian.
#[derive(Clone, Debug)]
pub struct Prefixed {
    width: Width,
    limit: usize,
}

/// The size of a length prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 1 byte: frames of at most 255 bytes.
    U8,
    /// 2 bytes: frames of at most 65,535 bytes.
    U16,
    /// 4 bytes.
    U32,
}

impl Width {
    fn bytes(self) -> usize {
        match self {
            Width::U8 => 1,
            Width::U16 => 2,
            Width::U32 => 4,
        }
    }
}

impl Prefixed {
    /// Creates a framing for frames of at most `limit` bytes. The limit is capped at what the
    /// prefix can express and at half of [`usize::MAX`], the most that a buffer can hold.
    pub fn new(width: Width, limit: usize) -> Self {
        let most = u64::MAX >> (64 - 8 * width.bytes());
        Prefixed {
            width,
            limit: limit
                .min(usize::try_from(most).unwrap_or(usize::MAX))
                .min(usize::MAX / 2),
        }
    }
}

impl Framing for Prefixed {
    fn decode(&mut self, input: &[u8]) -> Result<Found, FrameError> {
        let width = self.width.bytes();
        let Some(prefix) = input.get(..width) else {
            return Ok(Found::More);
        };
        let length = prefix
            .iter()
            .fold(0_usize, |length, &byte| length << 8 | usize::from(byte));
        if length > self.limit {
            return Err(FrameError::TooLong {
                limit: self.limit,
                skipped: false,
            });
        }
        let content = width..width + length;
        Ok(if input.len() < content.end {
            Found::More
        } else {
            Found::Frame {
                taken: content.end,
                content,
            }
        })
    }

    fn encode(&self, frame: &[u8], output: &mut Vec<u8>) -> Result<(), FrameError> {
        if frame.len() > self.limit {
            return Err(FrameError::CannotEncode("it is longer than the limit"));
        }
        let length = (frame.len() as u64).to_be_bytes();
        output.extend_from_slice(&length[8 - self.width.bytes()..]);
        output.extend_from_slice(frame);
        Ok(())
    }
}
