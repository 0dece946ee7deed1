//! Netstrings.

use super::{Found, FrameError, Framing};

/// Netstrings as defined by [D. J. Bernstein](https://cr.yp.to/proto/netstrings.txt): the length in
/// decimal digits without leading zeros, a colon, the bytes, and a comma. Anything else is a fatal
/// error.
#[derive(Clone, Debug)]
pub struct Netstrings {
    limit: usize,
}

impl Netstrings {
    /// Creates a framing for netstrings of at most `limit` bytes. The limit is capped at half of
    /// [`usize::MAX`], the most that a buffer can hold.
    pub fn new(limit: usize) -> Self {
        Netstrings {
            limit: limit.min(usize::MAX / 2),
        }
    }
}

/// More digits than the longest length that fits into a `usize`.
const MOST_DIGITS: usize = 20;

impl Framing for Netstrings {
    fn decode(&mut self, input: &[u8]) -> Result<Found, FrameError> {
        let digits = input
            .iter()
            .take(MOST_DIGITS + 1)
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if digits > 1 && input[0] == b'0' {
            return Err(FrameError::Malformed("the length starts with a zero"));
        }
        // A length that is too large is detected before it is complete.
        let length = input[..digits].iter().try_fold(0_usize, |length, &digit| {
            length
                .checked_mul(10)?
                .checked_add(usize::from(digit - b'0'))
                .filter(|length| *length <= self.limit)
        });
        let Some(length) = length else {
            return Err(FrameError::TooLong {
                limit: self.limit,
                skipped: false,
            });
        };
        match input.get(digits) {
            None => return Ok(Found::More),
            Some(b':') if digits > 0 => {}
            Some(_) => return Err(FrameError::Malformed("a length must be digits and a colon")),
        }
        let content = digits + 1..digits + 1 + length;
        match input.get(content.end) {
            None => Ok(Found::More),
            Some(b',') => Ok(Found::Frame {
                taken: content.end + 1,
                content,
            }),
            Some(_) => Err(FrameError::Malformed("the comma at the end is missing")),
        }
    }

    fn encode(&self, frame: &[u8], output: &mut Vec<u8>) -> Result<(), FrameError> {
        if frame.len() > self.limit {
            return Err(FrameError::CannotEncode("it is longer than the limit"));
        }
        output.extend_from_slice(frame.len().to_string().as_bytes());
        output.push(b':');
        output.extend_from_slice(frame);
        output.push(b',');
        Ok(())
    }
}
