//! Encoding and parsing messages, without I/O.

use std::{error::Error, fmt};

use serde::{Serialize, de::DeserializeOwned};

pub(super) const HELLO: &[u8; 8] = b"entwrpc\x01";

/// Maximum bytes of a method's name.
const MOST_NAME: usize = 255;

/// The kind of a message: its first value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Call = 0,
    Result = 1,
    Error = 2,
    Cancel = 3,
    Open = 4,
    Item = 5,
    End = 6,
    Credit = 7,
    Finish = 8,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Call,
        Kind::Result,
        Kind::Error,
        Kind::Cancel,
        Kind::Open,
        Kind::Item,
        Kind::End,
        Kind::Credit,
        Kind::Finish,
    ];
}

/// Why a call is not answered with a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Code {
    Failed = 0,
    NoSuchMethod = 1,
    WrongArguments = 2,
    TooMany = 3,
    Panicked = 4,
    TooLong = 5,
    Finishing = 6,
    NotSerializable = 7,
}

impl Code {
    const ALL: [Code; 8] = [
        Code::Failed,
        Code::NoSuchMethod,
        Code::WrongArguments,
        Code::TooMany,
        Code::Panicked,
        Code::TooLong,
        Code::Finishing,
        Code::NotSerializable,
    ];

    /// A code that is not known, from a later version, means only that the call failed.
    fn of(number: u8) -> Self {
        let known = Code::ALL.into_iter().find(|code| *code as u8 == number);
        known.unwrap_or(Code::Failed)
    }
}

/// The error of a call as it is sent: code and message.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Refusal(pub(super) Code, pub(super) String);

impl From<EncodeError> for Refusal {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::TooLong { .. } => Refusal(Code::TooLong, error.to_string()),
            EncodeError::Value(what) => Refusal(Code::NotSerializable, what),
        }
    }
}

/// A message between the two sides. Values are still encoded as MessagePack.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    Call {
        id: u64,
        name: &'a str,
        arguments: &'a [u8],
    },
    Result {
        id: u64,
        value: &'a [u8],
    },
    Error {
        id: u64,
        code: Code,
        message: &'a str,
    },
    Cancel {
        id: u64,
    },
    Open {
        id: u64,
        credit: u32,
        name: &'a str,
        arguments: &'a [u8],
    },
    Item {
        id: u64,
        value: &'a [u8],
    },
    End {
        id: u64,
    },
    Credit {
        id: u64,
        more: u32,
    },
    Finish,
}

/// Why a message is invalid, for the log.
pub(super) type Wrong = &'static str;

impl<'a> Message<'a> {
    /// Parses a frame. Values are only checked when they are decoded to their type.
    pub(super) fn parse(frame: &'a [u8]) -> Result<Self, Wrong> {
        let mut rest = frame;
        let number: u8 = value(&mut rest)?;
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == number);
        let kind = kind.ok_or("the peer sent a message of an unknown kind")?;
        let id: u64 = value(&mut rest)?;
        let message = match kind {
            Kind::Call => Message::Call {
                id,
                name: name(&mut rest)?,
                arguments: all(&mut rest),
            },
            Kind::Result => Message::Result {
                id,
                value: all(&mut rest),
            },
            Kind::Error => Message::Error {
                id,
                code: Code::of(value(&mut rest)?),
                message: text(&mut rest)?,
            },
            Kind::Cancel => Message::Cancel { id },
            Kind::Open => {
                let (credit, name) = (value(&mut rest)?, name(&mut rest)?);
                Message::Open {
                    id,
                    credit,
                    name,
                    arguments: all(&mut rest),
                }
            }
            Kind::Item => Message::Item {
                id,
                value: all(&mut rest),
            },
            Kind::End => Message::End { id },
            Kind::Credit => Message::Credit {
                id,
                more: value(&mut rest)?,
            },
            Kind::Finish => Message::Finish,
        };
        if rest.is_empty() {
            Ok(message)
        } else {
            Err("the peer sent a message with extra bytes at the end")
        }
    }
}

fn value<T: DeserializeOwned>(rest: &mut &[u8]) -> Result<T, Wrong> {
    rmp_serde::from_read(rest)
        .map_err(|_| "the peer sent a message that is truncated or has values of the wrong type")
}

fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Wrong> {
    const WRONG: Wrong = "the peer sent a message with an invalid text";
    let (length, header) = match **rest {
        [first @ 0xa0..=0xbf, ..] => (usize::from(first & 31), 1),
        [0xd9, length, ..] => (usize::from(length), 2),
        [0xda, a, b, ..] => (usize::from(u16::from_be_bytes([a, b])), 3),
        [0xdb, a, b, c, d, ..] => (u32::from_be_bytes([a, b, c, d]) as usize, 5),
        _ => return Err(WRONG),
    };
    // Not `header + length`: the length is the peer's, and may not fit.
    let bytes = rest[header..].get(..length).ok_or(WRONG)?;
    *rest = &rest[header + length..];
    std::str::from_utf8(bytes).map_err(|_| WRONG)
}

fn name<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Wrong> {
    let name = text(rest)?;
    if name.len() <= MOST_NAME {
        Ok(name)
    } else {
        Err("the peer sent a method name that is too long")
    }
}

fn all<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    std::mem::take(rest)
}

/// Encodes a frame: its length and the given values.
pub(super) fn frame(
    limit: usize,
    kind: Kind,
    id: u64,
    values: impl FnOnce(&mut Vec<u8>) -> Encoded,
) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = vec![0; 4];
    put(&mut bytes, &(kind as u8))
        .and_then(|()| put(&mut bytes, &id))
        .and_then(|()| values(&mut bytes))?;
    let length = bytes.len() - 4;
    let too_long = || EncodeError::TooLong { length, limit };
    if length > limit {
        return Err(too_long());
    }
    let length = u32::try_from(length).map_err(|_| too_long())?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

pub(super) type Encoded = Result<(), EncodeError>;

/// The encoder of a call's result; `None` at the end of a stream.
pub(super) type Answer = Option<Box<dyn Fn(&mut Vec<u8>) -> Encoded>>;

/// Why a value cannot be sent.
#[derive(Debug)]
pub(super) enum EncodeError {
    /// The frame would be longer than it may be.
    TooLong { length: usize, limit: usize },
    /// serde cannot serialize the value.
    Value(String),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::TooLong { length, limit } => {
                write!(f, "{length} bytes exceed the limit of {limit}")
            }
            EncodeError::Value(what) => f.write_str(what),
        }
    }
}

impl Error for EncodeError {}

pub(super) fn put<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) -> Encoded {
    rmp_serde::encode::write_named(bytes, value)
        .map_err(|error| EncodeError::Value(error.to_string()))
}

/// How deep the values of a message may be inside each other, as in `serde_json`. rmp-serde allows
/// 1,024, for which the stack of a thread is too small.
const MOST_LEVELS: usize = 128;

/// Decodes a value that must take up all of `bytes`.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut rest = bytes;
    let mut reader = rmp_serde::Deserializer::new(&mut rest);
    reader.set_max_depth(MOST_LEVELS);
    let value = T::deserialize(&mut reader).map_err(|error| error.to_string())?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err("there is more than one value".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written_and_cut_ones_are_refused() {
        let written = frame(1_000, Kind::Open, 300, |bytes| {
            put(bytes, &16_u32)?;
            put(bytes, "name")?;
            put(bytes, &("text", 1.5))
        })
        .expect("it fits");
        assert_eq!(written[..4], (written.len() as u32 - 4).to_be_bytes());
        let content = &written[4..];
        match Message::parse(content).expect("a message") {
            Message::Open {
                id: 300,
                credit: 16,
                name: "name",
                arguments,
            } => {
                assert_eq!(
                    read::<(String, f64)>(arguments),
                    Ok(("text".to_owned(), 1.5))
                );
                assert!(read::<(String, f64, u8)>(arguments).is_err());
                assert!(read::<String>(arguments).is_err());
            }
            other => panic!("{other:?}"),
        }
        let arguments = content.len() - 15;
        for end in 0..arguments {
            assert!(Message::parse(&content[..end]).is_err(), "{end}");
        }
        assert!(matches!(
            frame(5, Kind::Call, 1, |bytes| put(bytes, "too long")),
            Err(EncodeError::TooLong {
                length: 11,
                limit: 5
            })
        ));
    }

    #[test]
    fn a_length_that_no_memory_holds_is_an_error() {
        let mut bytes: &[u8] = &[0xdb, 0xff, 0xff, 0xff, 0xff, b'x'];
        assert!(text(&mut bytes).is_err());
    }

    #[test]
    fn kinds_and_codes_have_the_numbers_of_the_documentation() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(Code::of(number as u8), code);
            assert_eq!(code as usize, number);
        }
        assert_eq!(Code::of(200), Code::Failed);
    }

    #[test]
    fn no_bytes_are_too_strange() {
        let mut state = 3_u64;
        for round in 0..200_000_u32 {
            let mut bytes = vec![(round % 10) as u8];
            for _ in 0..round % 23 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                bytes.push((state >> 40) as u8);
            }
            if let Ok(Message::Call { arguments, .. } | Message::Open { arguments, .. }) =
                Message::parse(&bytes)
            {
                let _ = read::<Vec<String>>(arguments);
            }
        }
    }
}
