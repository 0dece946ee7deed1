//! The head of a response to a conditional request for a file, or for a range of it: RFC 9110, 13
//! and 14.

use std::ops::Range;

use crate::{
    HeaderValue, Method, Preconditions, Request, Response, StatusCode, Validators,
    header::{
        ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_RANGE,
        RANGE,
    },
    precondition::{only, tags},
};

/// What is known about a file before it is sent.
pub(super) struct About {
    pub(super) length: u64,
    /// With a strong tag.
    pub(super) validators: Validators,
}

/// Fills in the response's head and returns the range of the file to send, or `None` if there is no
/// body to send.
pub(super) fn decide(
    request: &Request,
    about: &About,
    response: &mut Response,
) -> Option<Range<u64>> {
    let headers = response.headers_mut();
    about.validators.set(headers);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(status) = Preconditions::from(request).evaluate(Some(&about.validators)) {
        *response.status_mut() = status;
        response.headers_mut().remove(CONTENT_TYPE);
        if status != StatusCode::NOT_MODIFIED {
            // There is nothing that is coded.
            response.headers_mut().remove(CONTENT_ENCODING);
        }
        return None;
    }
    let whole = 0..about.length;
    let ranged = only(request.headers(), RANGE)
        .filter(|_| *request.method() == Method::GET && unchanged(request, &about.validators));
    let range = match ranged.and_then(|range| parse(range, about.length)) {
        None => whole,
        Some(Ok(range)) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let told = format!("bytes {}-{}/{}", range.start, range.end - 1, about.length);
            response.headers_mut().insert(
                CONTENT_RANGE,
                HeaderValue::from_str(&told).expect("numbers"),
            );
            range
        }
        Some(Err(Unsatisfiable)) => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            let told = format!("bytes */{}", about.length);
            response.headers_mut().insert(
                CONTENT_RANGE,
                HeaderValue::from_str(&told).expect("a number"),
            );
            response.headers_mut().remove(CONTENT_TYPE);
            response.headers_mut().remove(CONTENT_ENCODING);
            return None;
        }
    };
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, (range.end - range.start).into());
    Some(range)
}

/// Whether the file is still the one that the client has a part of (13.1.5).
fn unchanged(request: &Request, validators: &Validators) -> bool {
    if !request.headers().contains_key(IF_RANGE) {
        return true;
    }
    let Some(value) = only(request.headers(), IF_RANGE) else {
        return false;
    };
    let text = value.to_str().unwrap_or("").trim();
    // A date is no strong validator here: the file may have changed twice in that second (8.8.2.2).
    // All files have tags, so a client that knows one has no reason for a date.
    match (tags(text).next(), &validators.etag) {
        (Some((weak, tag)), Some(ours)) => ours.is(weak, tag),
        _ => false,
    }
}

struct Unsatisfiable;

/// Parses a range. Returns `None` if the header must be ignored: it is malformed, has another unit,
/// or asks for several ranges.
/// No range of an empty file can be satisfied, so its header is ignored, as other servers do: then
/// a client that resumes or probes a download learns that there is nothing.
fn parse(value: &HeaderValue, length: u64) -> Option<Result<Range<u64>, Unsatisfiable>> {
    if length == 0 {
        return None;
    }
    let (unit, ranges) = value.to_str().ok()?.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    // An element of a list may be empty (RFC 9110, 5.6.1.2).
    let mut ranges = ranges.split(',').map(str::trim).filter(|it| !it.is_empty());
    let (Some(only), None) = (ranges.next(), ranges.next()) else {
        return None;
    };
    let (first, last) = only.split_once('-')?;
    let number = |text: &str| -> Option<u64> {
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse().unwrap_or(u64::MAX))
    };
    let range = if first.is_empty() {
        // A suffix range: the last bytes.
        let count = number(last)?;
        length.saturating_sub(count)..length
    } else {
        let start = number(first)?;
        let end = if last.is_empty() {
            length
        } else {
            number(last)?.saturating_add(1)
        };
        if start >= end && start < length {
            return None;
        }
        start..end.min(length)
    };
    Some(if range.start < range.end {
        Ok(range)
    } else {
        Err(Unsatisfiable)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Option<Option<Range<u64>>> {
        parse(&value.parse().expect("a value"), 100).map(Result::ok)
    }

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        assert_eq!(of("bytes=0-9"), Some(Some(0..10)));
        assert_eq!(of("bytes=90-"), Some(Some(90..100)));
        assert_eq!(of("bytes=-10"), Some(Some(90..100)));
        assert_eq!(of("bytes=-1000"), Some(Some(0..100)));
        assert_eq!(of("bytes=50-99999999999999999999999"), Some(Some(50..100)));
        assert_eq!(of("bytes=100-"), Some(None));
        assert_eq!(of("bytes=-0"), Some(None));
        assert_eq!(of("bytes=200-300"), Some(None));
        // Names of units have no case: RFC 9110, 14.1.
        assert_eq!(of("Bytes=0-9"), Some(Some(0..10)));
        assert!(parse(&HeaderValue::from_static("bytes=0-"), 0).is_none());
        for ignored in [
            "bytes=5-3",
            "bytes=0-1,5-6",
            "lines=0-1",
            "bytes=a-b",
            "bytes=",
            "bytes=-",
            "bytes=+1-2",
            "bytes=1",
        ] {
            assert_eq!(of(ignored), None, "{ignored}");
        }
    }
}
