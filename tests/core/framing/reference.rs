//! A second, simple implementation of the framings that looks at all bytes at once. The tests
//! compare every small input with it, and the fuzz targets (`fuzz/`) compare any other input.

use entwined::framing::{FrameError, Frames, Framing, Lines};

/// What a framing returns for its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Frame(Vec<u8>),
    /// Raw bytes between lines. It does not matter how they are split, so consecutive pieces are
    /// joined.
    Raw(Vec<u8>),
    /// Without its message.
    Error(FrameError),
}

impl Event {
    fn error(error: FrameError) -> Self {
        Event::Error(match error {
            FrameError::Malformed(_) => FrameError::Malformed(""),
            other => other,
        })
    }
}

/// What else the tests do with a framing.
pub trait Tested: Framing + Clone {
    /// Whether the next frame is raw bytes.
    fn raw(&self) -> bool {
        false
    }

    /// Called after each frame.
    fn after(&mut self, frame: &[u8]) {
        let _ = frame;
    }
}

impl Tested for entwined::framing::Netstrings {}
impl Tested for entwined::framing::Prefixed {}
impl Tested for entwined::framing::Delimited {}

impl Tested for Lines {
    fn raw(&self) -> bool {
        self.is_raw()
    }

    /// The line `r0` to `r9` is followed by that number of raw bytes. After the line `R`,
    /// everything is raw.
    fn after(&mut self, line: &[u8]) {
        match line {
            [b'r', digit @ b'0'..=b'9'] => self.set_raw(Some(u64::from(digit - b'0'))),
            b"R" => self.set_raw(None),
            _ => {}
        }
    }
}

/// Returns what is found in the pieces. Checks that at most `bound` bytes are kept, plus what is
/// not yet parsed of the current piece.
pub fn found<F: Tested>(framing: &F, bound: usize, pieces: &[&[u8]]) -> Vec<Event> {
    let mut frames = Frames::new(framing.clone());
    let mut events = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        loop {
            let raw = frames.framing().raw();
            match frames
                .next(&mut input)
                .map(|frame| frame.map(<[u8]>::to_vec))
            {
                Ok(None) => break,
                Ok(Some(bytes)) if raw => match events.last_mut() {
                    Some(Event::Raw(before)) => before.extend(bytes),
                    _ => events.push(Event::Raw(bytes)),
                },
                Ok(Some(frame)) => {
                    frames.framing_mut().after(&frame);
                    events.push(Event::Frame(frame));
                }
                Err(error) => {
                    let fatal = error.is_fatal();
                    if fatal {
                        assert_eq!(
                            frames.next(&mut input),
                            Err(error.clone()),
                            "it comes again"
                        );
                    }
                    events.push(Event::error(error));
                    if fatal {
                        return events;
                    }
                }
            }
            assert!(
                frames.pending() <= bound.saturating_add(piece.len()),
                "{} bytes are kept",
                frames.pending()
            );
        }
        assert!(input.is_empty(), "more is wanted, and not all was taken");
        assert!(
            frames.pending() <= bound,
            "{} bytes are kept of a frame",
            frames.pending()
        );
    }
    match frames.finish() {
        Ok(None) => {}
        Ok(Some(frame)) => events.push(Event::Frame(frame.to_vec())),
        Err(error) => events.push(Event::error(error)),
    }
    events
}

/// Checks a round trip: a frame is either refused and nothing is appended, or it is found again.
pub fn round<F: Tested>(framing: &F, frame: &[u8]) {
    let mut output = b"before".to_vec();
    match framing.encode(frame, &mut output) {
        Ok(()) => {
            let (mut frames, mut input) = (Frames::new(framing.clone()), &output[6..]);
            assert_eq!(frames.next(&mut input), Ok(Some(frame)));
            assert_eq!((input, frames.finish()), (&[][..], Ok(None)));
        }
        Err(error) => {
            assert!(matches!(error, FrameError::CannotEncode(_)), "{error:?}");
            assert_eq!(output, b"before");
        }
    }
}

fn too_long(limit: usize, skipped: bool) -> Event {
    Event::Error(FrameError::TooLong { limit, skipped })
}

fn malformed() -> Event {
    Event::Error(FrameError::Malformed(""))
}

fn unfinished() -> Event {
    Event::Error(FrameError::Unfinished)
}

pub fn lines(limit: usize, mut input: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while !input.is_empty() {
        let end = input.iter().position(|&byte| byte == b'\n');
        let line = &input[..end.unwrap_or(input.len())];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        input = end.map_or(&[], |end| &input[end + 1..]);
        if line.len() > limit {
            events.push(too_long(limit, true));
            continue;
        }
        events.push(Event::Frame(line.to_vec()));
        let raw = match line {
            [b'r', digit @ b'0'..=b'9'] if end.is_some() => usize::from(digit - b'0'),
            b"R" => input.len(),
            _ => 0,
        };
        let (bytes, rest) = input.split_at(raw.min(input.len()));
        if !bytes.is_empty() {
            events.push(Event::Raw(bytes.to_vec()));
        }
        if bytes.len() < raw {
            events.push(unfinished());
        }
        input = rest;
    }
    events
}

pub fn netstrings(limit: usize, mut input: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while !input.is_empty() {
        let digits = input
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(input.len());
        let length = std::str::from_utf8(&input[..digits]).expect("digits");
        let last = match length.parse::<u128>() {
            _ if digits > 1 && length.starts_with('0') => malformed(),
            // More digits than a u128 has.
            Err(_) if digits > 0 => too_long(limit, false),
            Ok(length) if length > limit as u128 => too_long(limit, false),
            _ if digits == input.len() => unfinished(),
            _ if digits == 0 || input[digits] != b':' => malformed(),
            Err(_) => unreachable!("there are digits"),
            Ok(length) => {
                let content = &input[digits + 1..];
                if content.len() as u128 <= length {
                    unfinished()
                } else if content[length as usize] != b',' {
                    malformed()
                } else {
                    events.push(Event::Frame(content[..length as usize].to_vec()));
                    input = &content[length as usize + 1..];
                    continue;
                }
            }
        };
        events.push(last);
        break;
    }
    events
}

pub fn prefixed(width: usize, limit: usize, mut input: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while !input.is_empty() {
        let length = match (width, input) {
            (1, [a, ..]) => u32::from(*a),
            (2, [a, b, ..]) => u16::from_be_bytes([*a, *b]).into(),
            (4, [a, b, c, d, ..]) => u32::from_be_bytes([*a, *b, *c, *d]),
            _ => return [events, vec![unfinished()]].concat(),
        };
        let length = length as usize;
        if length > limit {
            return [events, vec![too_long(limit, false)]].concat();
        }
        input = &input[width..];
        if input.len() < length {
            return [events, vec![unfinished()]].concat();
        }
        events.push(Event::Frame(input[..length].to_vec()));
        input = &input[length..];
    }
    events
}

pub fn delimited(delimiter: &[u8], limit: usize, mut input: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while !input.is_empty() {
        let place = (0..input.len()).find(|&place| input[place..].starts_with(delimiter));
        // Without a delimiter, the last bytes may be the start of one.
        let content = place.unwrap_or((input.len() + 1).saturating_sub(delimiter.len()));
        if content > limit {
            return [events, vec![too_long(limit, false)]].concat();
        }
        if place.is_none() {
            return [events, vec![unfinished()]].concat();
        }
        events.push(Event::Frame(input[..content].to_vec()));
        input = &input[content + delimiter.len()..];
    }
    events
}
