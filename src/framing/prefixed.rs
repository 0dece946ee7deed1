//! Frames with their length in front.

use super::{Found, FrameError, Framing};

/// The length of a frame in 1, 2 or 4 bytes, big-endian, then the frame.
#[derive(Clone, Debug)]
pub struct Prefixed {
    width: Width,
    limit: usize,
}

/// The bytes of a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 1 byte: frames of at most 255.
    U8,
    /// 2 bytes: frames of at most 65,535.
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
    /// Frames of at most `limit` bytes, and no more than the width of their length allows or half
    /// of [`usize::MAX`]: no buffer has more.
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
