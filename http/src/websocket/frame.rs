//! Frames (RFC 6455, 5), without I/O: bytes in, events out, and the other way round.

use bytes::{Buf, Bytes, BytesMut};

use super::{Closed, Message};

/// The end of the connection that this is. It decides who masks (RFC 6455, 5.1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
}

/// Why the connection fails (RFC 6455, 7.1.7): the code that the peer is told, and the reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: u16,
    pub(super) what: &'static str,
}

/// The close codes of RFC 6455, 7.4.1.
const PROTOCOL: u16 = 1002;
const INVALID: u16 = 1007;
const TOO_BIG: u16 = 1009;
/// Stands for "no code", and is never sent.
const NO_CODE: u16 = 1005;

fn fault(code: u16, what: &'static str) -> Fault {
    Fault { code, what }
}

/// What a frame brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A fragment, or a PONG. Nothing to report.
    Nothing,
    Message(Message),
    Ping(Bytes),
    Close(Closed),
}

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xa;

/// The most bytes in a control frame (RFC 6455, 5.5).
const MAX_CONTROL: usize = 125;

/// Decodes what the peer sends. It holds one message at most, and fails at the first byte that is
/// wrong: it does not wait for the rest of a frame or of a text.
pub(super) struct Decoder {
    role: Role,
    max_message_size: usize,
    frame: Option<Frame>,
    message: Option<Partial>,
}

/// A frame whose header has arrived.
struct Frame {
    opcode: u8,
    fin: bool,
    mask: Option<[u8; 4]>,
    length: usize,
    /// The bytes of the payload that have been taken.
    taken: usize,
}

/// A message that has not ended.
enum Partial {
    /// `tail` is the beginning of a character; the rest of it is in a later piece.
    Text {
        text: String,
        tail: Vec<u8>,
    },
    Binary(Vec<u8>),
}

impl Decoder {
    pub(super) fn new(role: Role, max_message_size: usize) -> Self {
        Decoder {
            role,
            max_message_size,
            frame: None,
            message: None,
        }
    }

    /// Takes one frame, or a part of one, from `input`. Returns `None` if it needs more input.
    pub(super) fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Fault> {
        if self.frame.is_none() {
            self.frame = self.header(input)?;
        }
        let Some(frame) = &mut self.frame else {
            return Ok(None);
        };
        if frame.opcode & 0x8 != 0 {
            // A control frame is short, so it is taken as a whole.
            if input.len() < frame.length {
                return Ok(None);
            }
        }
        let count = (frame.length - frame.taken).min(input.len());
        let mut payload = input.split_to(count);
        if let Some(mask) = frame.mask {
            apply(mask, frame.taken, &mut payload);
        }
        frame.taken += count;
        let complete = frame.taken == frame.length;
        let (opcode, fin) = (frame.opcode, frame.fin);
        if complete {
            self.frame = None;
        }
        match opcode {
            CLOSE => return closed(&payload).map(|closed| Some(Event::Close(closed))),
            PING => return Ok(Some(Event::Ping(Bytes::copy_from_slice(&payload)))),
            PONG => return Ok(Some(Event::Nothing)),
            _ => {}
        }
        if let Some(message) = &mut self.message {
            message.extend(&payload)?;
        }
        match (complete, fin) {
            (false, _) => Ok(None),
            (true, false) => Ok(Some(Event::Nothing)),
            (true, true) => {
                let message = self.message.take().map(Partial::finish).transpose()?;
                Ok(Some(message.map_or(Event::Nothing, Event::Message)))
            }
        }
    }

    /// Takes and checks a header (RFC 6455, 5.2).
    fn header(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, Fault> {
        let wrong = |what| Err(fault(PROTOCOL, what));
        let [first, second, ..] = input[..] else {
            return Ok(None);
        };
        let (fin, opcode) = (first & 0x80 != 0, first & 0xf);
        let (masked, short) = (second & 0x80 != 0, usize::from(second & 0x7f));
        if first & 0x70 != 0 {
            return wrong("a reserved bit is set");
        }
        match opcode {
            CONTINUATION if self.message.is_none() => {
                return wrong("a continuation continues nothing");
            }
            TEXT | BINARY if self.message.is_some() => {
                return wrong("a message begins inside another one");
            }
            CONTINUATION | TEXT | BINARY => {}
            CLOSE | PING | PONG if !fin => return wrong("a control frame is fragmented"),
            CLOSE | PING | PONG if short > MAX_CONTROL => {
                return wrong("a control frame is too long");
            }
            CLOSE | PING | PONG => {}
            _ => return wrong("the opcode is unknown"),
        }
        match self.role {
            Role::Server if !masked => return wrong("a client's frame is not masked"),
            Role::Client if masked => return wrong("a server's frame is masked"),
            _ => {}
        }
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let size = 2 + extended + if masked { 4 } else { 0 };
        if input.len() < 2 + extended {
            return Ok(None);
        }
        let length = input[2..2 + extended]
            .iter()
            .fold(0_u64, |length, byte| (length << 8) | u64::from(*byte));
        let (length, least) = match extended {
            2 => (length, 126),
            8 => (length, 1 << 16),
            _ => (short as u64, 0),
        };
        if length < least {
            return wrong("a length is longer than it must be");
        }
        if length > u64::MAX >> 1 {
            return wrong("the first bit of a length is set");
        }
        if opcode & 0x8 == 0 {
            let before = self.message.as_ref().map_or(0, Partial::len);
            let room = self.max_message_size.saturating_sub(before);
            if length > room as u64 {
                return Err(fault(TOO_BIG, "a message is too long"));
            }
        }
        if input.len() < size {
            return Ok(None);
        }
        let mask = masked.then(|| {
            let at = 2 + extended;
            [input[at], input[at + 1], input[at + 2], input[at + 3]]
        });
        input.advance(size);
        match opcode {
            TEXT => {
                self.message = Some(Partial::Text {
                    text: String::new(),
                    tail: Vec::new(),
                });
            }
            BINARY => self.message = Some(Partial::Binary(Vec::new())),
            _ => {}
        }
        Ok(Some(Frame {
            opcode,
            fin,
            mask,
            length: length as usize,
            taken: 0,
        }))
    }
}

impl Partial {
    fn len(&self) -> usize {
        match self {
            Partial::Text { text, tail } => text.len() + tail.len(),
            Partial::Binary(bytes) => bytes.len(),
        }
    }

    fn extend(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        let (text, tail) = match self {
            Partial::Text { text, tail } => (text, tail),
            Partial::Binary(all) => {
                all.extend_from_slice(bytes);
                return Ok(());
            }
        };
        let wrong = || fault(INVALID, "a text is not UTF-8");
        while let ([first, rest @ ..], false) = (bytes, tail.is_empty()) {
            tail.push(*first);
            bytes = rest;
            match std::str::from_utf8(tail) {
                Ok(character) => {
                    text.push_str(character);
                    tail.clear();
                }
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(wrong()),
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(piece) => text.push_str(piece),
            Err(error) if error.error_len().is_none() => {
                let (piece, rest) = bytes.split_at(error.valid_up_to());
                text.push_str(std::str::from_utf8(piece).map_err(|_| wrong())?);
                tail.extend_from_slice(rest);
            }
            Err(_) => return Err(wrong()),
        }
        Ok(())
    }

    fn finish(self) -> Result<Message, Fault> {
        match self {
            Partial::Text { text, tail } if tail.is_empty() => Ok(Message::Text(text)),
            Partial::Text { .. } => Err(fault(INVALID, "a text ends inside a character")),
            Partial::Binary(bytes) => Ok(Message::Binary(bytes.into())),
        }
    }
}

/// Whether this code may be in a CLOSE frame: RFC 6455, 7.4, and IANA's registry.
pub(super) fn is_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

fn closed(payload: &[u8]) -> Result<Closed, Fault> {
    match payload {
        [] => Ok(Closed {
            code: NO_CODE,
            reason: String::new(),
        }),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_code(code) {
                return Err(fault(PROTOCOL, "a close code is not allowed"));
            }
            let reason = std::str::from_utf8(reason)
                .map_err(|_| fault(INVALID, "the reason of a close is not UTF-8"))?;
            Ok(Closed {
                code,
                reason: reason.to_owned(),
            })
        }
        [_] => Err(fault(PROTOCOL, "half a close code")),
    }
}

/// Masks or unmasks bytes that begin at this offset of the payload (RFC 6455, 5.3).
fn apply(mask: [u8; 4], offset: usize, bytes: &mut [u8]) {
    let mut turned = mask;
    turned.rotate_left(offset % 4);
    let wide = u64::from(u32::from_ne_bytes(turned));
    let wide = (wide << 32) | wide;
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (place, byte) in chunks.into_remainder().iter_mut().enumerate() {
        *byte ^= turned[place % 4];
    }
}

/// Encodes what is sent.
pub(super) struct Encoder {
    role: Role,
    /// Masks of a client. The peer must not be able to predict them (RFC 6455, 10.3).
    masks: Vec<[u8; 4]>,
}

impl Encoder {
    pub(super) fn new(role: Role) -> Self {
        Encoder {
            role,
            masks: Vec::new(),
        }
    }

    pub(super) fn message(&mut self, message: &Message, output: &mut Vec<u8>) {
        match message {
            Message::Text(text) => self.frame(TEXT, text.as_bytes(), output),
            Message::Binary(bytes) => self.frame(BINARY, bytes, output),
        }
    }

    /// Appends a CLOSE frame. A code that must not be sent is left out, and so is the reason.
    pub(super) fn close(&mut self, code: u16, reason: &str, output: &mut Vec<u8>) {
        let mut payload = Vec::new();
        if is_code(code) {
            payload.extend_from_slice(&code.to_be_bytes());
            let mut end = reason.len().min(MAX_CONTROL - 2);
            while !reason.is_char_boundary(end) {
                end -= 1;
            }
            payload.extend_from_slice(&reason.as_bytes()[..end]);
        }
        self.frame(CLOSE, &payload, output);
    }

    /// Appends a frame.
    pub(super) fn frame(&mut self, opcode: u8, payload: &[u8], output: &mut Vec<u8>) {
        let masked = if self.role == Role::Client { 0x80 } else { 0 };
        output.reserve(payload.len() + 14);
        output.push(0x80 | opcode);
        match payload.len() {
            length @ 0..126 => output.push(masked | length as u8),
            length @ 126..=0xffff => {
                output.push(masked | 126);
                output.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                output.push(masked | 127);
                output.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        if self.role == Role::Server {
            output.extend_from_slice(payload);
            return;
        }
        let mask = self.mask();
        output.extend_from_slice(&mask);
        let begin = output.len();
        output.extend_from_slice(payload);
        apply(mask, 0, &mut output[begin..]);
    }

    fn mask(&mut self) -> [u8; 4] {
        loop {
            if let Some(mask) = self.masks.pop() {
                return mask;
            }
            let mut bytes = [0; 256];
            crate::sys::fill_random(&mut bytes);
            let masks = bytes.chunks_exact(4);
            self.masks
                .extend(masks.map(|mask| [mask[0], mask[1], mask[2], mask[3]]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes bytes that arrive in pieces of this size.
    fn decode(role: Role, bytes: &[u8], step: usize) -> Result<Vec<Event>, Fault> {
        let mut decoder = Decoder::new(role, 1_000);
        let (mut input, mut events) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(step) {
            input.extend_from_slice(piece);
            while let Some(event) = decoder.decode(&mut input)? {
                if event != Event::Nothing {
                    events.push(event);
                }
            }
        }
        Ok(events)
    }

    #[test]
    fn what_one_role_encodes_the_other_decodes_in_any_pieces() {
        for (from, to) in [(Role::Client, Role::Server), (Role::Server, Role::Client)] {
            let (mut encoder, mut bytes) = (Encoder::new(from), Vec::new());
            let messages: Vec<Message> = [0, 1, 7, 125, 126, 1_000]
                .into_iter()
                .flat_map(|size| [Message::from("é".repeat(size / 2)), vec![7; size].into()])
                .collect();
            for message in &messages {
                encoder.message(message, &mut bytes);
                encoder.frame(PING, b"ping", &mut bytes);
            }
            encoder.close(4_000, &"é".repeat(100), &mut bytes);
            for step in [1, 2, 3, 5, 64, bytes.len()] {
                let events = decode(to, &bytes, step).expect("no fault");
                let mut expected = Vec::new();
                for message in &messages {
                    expected.push(Event::Message(message.clone()));
                    expected.push(Event::Ping(Bytes::from_static(b"ping")));
                }
                expected.push(Event::Close(Closed {
                    code: 4_000,
                    reason: "é".repeat(61),
                }));
                assert_eq!(events, expected, "by {step}");
            }
        }
    }

    #[test]
    fn each_wrong_input_has_its_code_before_the_frame_is_complete() {
        let cases: &[(&[u8], u16)] = &[
            (&[0xc1, 0x05], 1002),
            (&[0xa1, 0x05], 1002),
            (&[0x91, 0x05], 1002),
            (&[0x83, 0x05], 1002),
            (&[0x8b, 0x00], 1002),
            (&[0x81, 0x85], 1002),
            (&[0x09, 0x00], 1002),
            (&[0x89, 126], 1002),
            (&[0x80, 0x00], 1002),
            (&[0x01, 0x00, 0x81, 0x00], 1002),
            (&[0x82, 126, 0, 125], 1002),
            (&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 1002),
            (&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], 1002),
            (&[0x82, 126, 0x03, 0xe9], 1009),
            (&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], 1009),
            (&[0x88, 1, 3], 1002),
            (&[0x88, 2, 0, 0], 1002),
            (&[0x88, 2, 0x03, 0xe7], 1002),
            (&[0x88, 2, 0x03, 0xec], 1002),
            (&[0x88, 2, 0x03, 0xed], 1002),
            (&[0x88, 2, 0x03, 0xee], 1002),
            (&[0x88, 2, 0x03, 0xf7], 1002),
            (&[0x88, 2, 0x0b, 0xb7], 1002),
            (&[0x88, 2, 0x13, 0x88], 1002),
            (&[0x88, 3, 0x03, 0xe8, 0xff], 1007),
            (&[0x81, 5, 0xff], 1007),
            (&[0x81, 5, 0xed, 0xa0], 1007),
            (&[0x81, 1, 0xc3], 1007),
            (&[0x01, 1, 0xc3, 0x00, 1, 0x28], 1007),
            (&[0x01, 1, 0xc3, 0x80, 0], 1007),
        ];
        for (bytes, code) in cases {
            for step in [1, 100] {
                let fault = decode(Role::Client, bytes, step).expect_err("a fault");
                assert_eq!(fault.code, *code, "{bytes:?}: {}", fault.what);
            }
        }
        let fault = decode(Role::Server, &[0x81, 0x05], 1).expect_err("a fault");
        assert_eq!(fault.code, 1002, "{}", fault.what);
    }

    #[test]
    fn fragments_of_a_message_count_together_and_control_frames_go_between() {
        let mut bytes = [0x02, 126, 2, 88].to_vec();
        bytes.resize(4 + 600, 7);
        bytes.extend([0x89, 0]);
        let mut fits = bytes.clone();
        fits.extend([0x80, 126, 0x01, 0x90]);
        fits.resize(fits.len() + 400, 7);
        let events = decode(Role::Client, &fits, 50).expect("no fault");
        let message = Event::Message(vec![7; 1_000].into());
        assert_eq!(events, [Event::Ping(Bytes::new()), message]);
        bytes.extend([0x80, 126, 0x01, 0x91]);
        let fault = decode(Role::Client, &bytes, 50).expect_err("too long");
        assert_eq!(fault.code, 1009);
    }
}
