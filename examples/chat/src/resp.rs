//! As much of the Redis protocol (RESP2) as is needed here, without I/O.

use entwined::framing::{Found, FrameError, Framing};

/// Takes replies apart. A frame is a text or a line; the headers of arrays are skipped, so a
/// message of a channel is three frames: `message`, the channel, the text.
pub struct Resp {
    limit: usize,
}

impl Resp {
    /// Texts may have this many bytes.
    pub fn new(limit: usize) -> Self {
        Resp { limit }
    }
}

/// The longest line: an error message of Redis.
const MAX_LINE: usize = 4_096;

impl Framing for Resp {
    fn decode(&mut self, input: &[u8]) -> Result<Found, FrameError> {
        let Some(end) = input
            .windows(2)
            .take(MAX_LINE)
            .position(|two| two == b"\r\n")
        else {
            return match input.len() > MAX_LINE {
                true => Err(FrameError::Malformed("a line without an end")),
                false => Ok(Found::More),
            };
        };
        let after = end + 2;
        match input.first() {
            Some(b'*') => Ok(Found::Skip(after)),
            Some(b'+' | b'-' | b':') => Ok(Found::Frame {
                content: 0..end,
                taken: after,
            }),
            Some(b'$') => {
                let length = str::from_utf8(&input[1..end])
                    .ok()
                    .and_then(|text| text.parse().ok());
                match length {
                    // There is no such value.
                    Some(-1) => Ok(Found::Skip(after)),
                    Some(length) => self.text(input, after, length),
                    None => Err(FrameError::Malformed("a length that is no number")),
                }
            }
            _ => Err(FrameError::Malformed("an unknown kind of reply")),
        }
    }

    fn encode(&self, frame: &[u8], output: &mut Vec<u8>) -> Result<(), FrameError> {
        output.extend_from_slice(format!("${}\r\n", frame.len()).as_bytes());
        output.extend_from_slice(frame);
        output.extend_from_slice(b"\r\n");
        Ok(())
    }
}

impl Resp {
    fn text(&self, input: &[u8], start: usize, length: i64) -> Result<Found, FrameError> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(FrameError::TooLong {
                limit: self.limit,
                skipped: false,
            });
        }
        Ok(match input.len() < start + length + 2 {
            true => Found::More,
            false => Found::Frame {
                content: start..start + length,
                taken: start + length + 2,
            },
        })
    }
}

/// Encodes a command.
pub fn command(words: &[&str]) -> Vec<u8> {
    let mut output = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let resp = Resp::new(usize::MAX);
        resp.encode(word.as_bytes(), &mut output)
            .expect("any text can be sent");
    }
    output
}

#[cfg(test)]
mod tests {
    use entwined::framing::Frames;

    use super::*;

    fn frames(pieces: impl Iterator<Item = Vec<u8>>) -> Result<Vec<String>, FrameError> {
        let mut frames = Frames::new(Resp::new(100));
        let mut seen = Vec::new();
        for piece in pieces {
            let mut input = &piece[..];
            while let Some(frame) = frames.next(&mut input)? {
                seen.push(String::from_utf8_lossy(frame).into_owned());
            }
        }
        Ok(seen)
    }

    #[test]
    fn replies_are_taken_apart_wherever_they_are_split() {
        let input =
            b"+OK\r\n*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\na\r\nb\r\n$-1\r\n-ERR no\r\n:7\r\n";
        let expected = ["+OK", "message", "c", "a\r\nb", "-ERR no", ":7"];
        for size in 1..input.len() {
            let pieces = input.chunks(size).map(<[u8]>::to_vec);
            assert_eq!(
                frames(pieces).as_deref(),
                Ok(&expected.map(String::from)[..])
            );
        }
    }

    #[test]
    fn what_is_wrong_or_too_long_is_an_error() {
        for input in ["$101\r\n", "$x\r\n", "?\r\n", "$-2\r\n", &"+".repeat(5_000)] {
            let pieces = [input.as_bytes().to_vec()].into_iter();
            assert!(frames(pieces).is_err(), "{input}");
        }
    }

    #[test]
    fn a_command_is_an_array() {
        assert_eq!(
            command(&["SET", "a", ""]),
            b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$0\r\n\r\n"
        );
    }
}
