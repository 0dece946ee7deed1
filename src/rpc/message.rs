//! Encoding and parsing messages, without I/O.

use serde::{Serialize, de::DeserializeOwned};

pub(super) const HELLO: &[u8; 8] = b"entwrpc\x01";

/// Maximum bytes of a method's name.
const MOST_NAME: usize = 255;

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
        code: u8,
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
        let kind: u8 = value(&mut rest)?;
        let id: u64 = value(&mut rest)?;
        let message = match kind {
            0 => Message::Call {
                id,
                name: name(&mut rest)?,
                arguments: all(&mut rest),
            },
            1 => Message::Result {
                id,
                value: all(&mut rest),
            },
            2 => Message::Error {
                id,
                code: value(&mut rest)?,
                message: text(&mut rest)?,
            },
            3 => Message::Cancel { id },
            4 => {
                let (credit, name) = (value(&mut rest)?, name(&mut rest)?);
                Message::Open {
                    id,
                    credit,
                    name,
                    arguments: all(&mut rest),
                }
            }
            5 => Message::Item {
                id,
                value: all(&mut rest),
            },
            6 => Message::End { id },
            7 => Message::Credit {
                id,
                more: value(&mut rest)?,
            },
            8 => Message::Finish,
            _ => return Err("the peer sent a message of an unknown kind"),
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
    let bytes = rest.get(header..header + length).ok_or(WRONG)?;
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
    kind: u8,
    id: u64,
    values: impl FnOnce(&mut Vec<u8>) -> Encoded,
) -> Result<Vec<u8>, TooLong> {
    let mut bytes = vec![0; 4];
    put(&mut bytes, &kind)
        .and_then(|()| put(&mut bytes, &id))
        .and_then(|()| values(&mut bytes))?;
    let length = bytes.len() - 4;
    if length > limit {
        return Err(TooLong::Bytes(length));
    }
    let length = u32::try_from(length).map_err(|_| TooLong::Bytes(length))?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

pub(super) type Encoded = Result<(), TooLong>;

/// Why a value cannot be sent.
#[derive(Debug)]
pub(super) enum TooLong {
    Bytes(usize),
    /// serde cannot serialize it.
    Value(String),
}

pub(super) fn put<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) -> Encoded {
    rmp_serde::encode::write_named(bytes, value).map_err(|error| TooLong::Value(error.to_string()))
}

/// Decodes a value that must take up all of `bytes`.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut rest = bytes;
    let value = rmp_serde::from_read(&mut rest).map_err(|error| error.to_string())?;
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
        let written = frame(1_000, 4, 300, |bytes| {
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
            frame(5, 0, 1, |bytes| put(bytes, "too long")),
            Err(TooLong::Bytes(11))
        ));
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
