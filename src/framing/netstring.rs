//! Netstrings.

use super::{Found, FrameError, Framing};

/// Netstrings, as [D. J. Bernstein](https://cr.yp.to/proto/netstrings.txt) has defined them: the
/// length in decimal digits without leading zeros, a colon, so many bytes, a comma. Anything else
/// is an error, and the end of what can be understood.
#[derive(Clone, Debug)]
pub struct Netstrings {
    limit: usize,
}

impl Netstrings {
    /// Netstrings of at most `limit` bytes, and no more than half of [`usize::MAX`]: no buffer has
    /// more.
    pub fn new(limit: usize) -> Self {
        Netstrings {
            limit: limit.min(usize::MAX / 2),
        }
    }
}

/// More digits than any length has that fits into a `usize`.
const MOST_DIGITS: usize = 20;

impl Framing for Netstrings {
    fn decode(&mut self, input: &[u8]) -> Result<Found, FrameError> {
        let digits = input
            .iter()
            .take(MOST_DIGITS + 1)
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if digits > 1 && input[0] == b'0' {
            return Err(FrameError::Malformed("a length begins with zero"));
        }
        // Too long is known before the length is complete.
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
            Some(_) => return Err(FrameError::Malformed("a length is digits and a colon")),
        }
        let content = digits + 1..digits + 1 + length;
        match input.get(content.end) {
            None => Ok(Found::More),
            Some(b',') => Ok(Found::Frame {
                taken: content.end + 1,
                content,
            }),
            Some(_) => Err(FrameError::Malformed("a comma is missing at the end")),
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
