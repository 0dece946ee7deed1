//! JSON: the type that handlers take and return, and its encoding.

use std::cell::Cell;

use bytes::Bytes;
use serde::Serialize;

use super::{Error, IntoResponse, Response, response::typed};

/// A value as JSON. As an argument of a handler it is read from the body; see
/// [`Request::json`](super::Request::json), also for large values of many parts. As a result it
/// becomes a response with the content type `application/json`. If the value cannot be written as
/// JSON, the response is 500.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Json<T>(pub T);

impl<T> From<T> for Json<T> {
    fn from(value: T) -> Self {
        Json(value)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match encode(&self.0) {
            Ok(json) => typed("application/json", json),
            Err(error) => Error::internal(error).into_response(),
        }
    }
}

/// The most bytes of buffer that a thread keeps for writing JSON. If a text makes the buffer grow
/// beyond this, the buffer itself is returned.
const MOST_KEPT: usize = 64 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Encodes a value as JSON, in exactly the memory that it needs. It is written into a buffer that
/// has already grown, and then copied. That is faster than growing a new buffer for each text,
/// which copies the text several times.
pub(super) fn encode(value: &(impl Serialize + ?Sized)) -> serde_json::Result<Bytes> {
    // Take the buffer out: a `Serialize` of the program may do anything, even encode another value.
    let mut buffer = BUFFER.take();
    buffer.clear();
    serde_json::to_writer(&mut buffer, value)?;
    if buffer.capacity() > MOST_KEPT {
        return Ok(buffer.into());
    }
    let bytes = Bytes::copy_from_slice(&buffer);
    BUFFER.set(buffer);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde::{Serializer, ser::Error};

    use super::*;

    fn kept() -> usize {
        let buffer = BUFFER.take();
        let capacity = buffer.capacity();
        BUFFER.set(buffer);
        capacity
    }

    #[test]
    fn texts_of_any_length_follow_each_other_and_little_is_kept() {
        for length in [3, 100_000, 0, 60_000, 1_000_000, 5] {
            let text = "x".repeat(length);
            assert_eq!(
                encode(&text).expect("a text"),
                format!("\"{text}\"").as_bytes(),
                "{length}"
            );
            assert!(kept() <= MOST_KEPT, "{} bytes", kept());
        }
    }

    /// Encodes another text while it is serialized, and then fails if the field is true.
    struct Nested(bool);

    impl Serialize for Nested {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            assert_eq!(encode("inner").expect("a text"), "\"inner\"");
            if self.0 {
                Err(S::Error::custom("no"))
            } else {
                serializer.serialize_str("outer")
            }
        }
    }

    #[test]
    fn a_text_within_a_text_and_one_that_fails_harm_no_other() {
        assert_eq!(
            encode(&[Nested(false), Nested(false)]).expect("texts"),
            "[\"outer\",\"outer\"]"
        );
        assert_eq!(
            encode(&(1, Nested(true)))
                .expect_err("it fails")
                .to_string(),
            "no"
        );
        assert_eq!(encode(&[1, 2]).expect("numbers"), "[1,2]");
    }
}
