//! Conditional requests and ranges: RFC 9110, 13 and 14.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use super::super::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH,
        IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
    },
};

/// What is known about a file before it is sent.
pub(super) struct About {
    pub(super) length: u64,
    /// A strong tag, in quotes.
    pub(super) tag: String,
    pub(super) modified: Option<SystemTime>,
}

/// Fills in the response's head and returns the range of the file to send, or `None` if there is no
/// body to send.
pub(super) fn decide(
    request: &Request,
    about: &About,
    response: &mut Response,
) -> Option<Range<u64>> {
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&about.tag) {
        headers.insert(ETAG, tag);
    }
    // A time in the future would make caches keep the file forever.
    let modified = about.modified.map(|time| time.min(SystemTime::now()));
    if let Some(date) =
        modified.and_then(|time| HeaderValue::from_str(&httpdate::fmt_http_date(time)).ok())
    {
        headers.insert(LAST_MODIFIED, date);
    }
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(status) = precondition(request.headers(), about, modified) {
        *response.status_mut() = status;
        response.headers_mut().remove(CONTENT_TYPE);
        return None;
    }
    let whole = 0..about.length;
    let ranged = request
        .headers()
        .get(RANGE)
        .filter(|_| *request.method() == Method::GET && unchanged(request, about, modified));
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
            return None;
        }
    };
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, (range.end - range.start).into());
    Some(range)
}

/// Evaluates the preconditions in the order of RFC 9110, 13.2.2. Returns a status if the request
/// ends here.
fn precondition(
    headers: &HeaderMap,
    about: &About,
    modified: Option<SystemTime>,
) -> Option<StatusCode> {
    let seconds = modified.and_then(to_seconds);
    if headers.contains_key(IF_MATCH) {
        if !matches(headers, IF_MATCH, about, false) {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
    } else if let (Some(since), Some(seconds)) = (date(headers, IF_UNMODIFIED_SINCE), seconds) {
        if seconds > since {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
    }
    if headers.contains_key(IF_NONE_MATCH) {
        return matches(headers, IF_NONE_MATCH, about, true).then_some(StatusCode::NOT_MODIFIED);
    }
    let (since, seconds) = (date(headers, IF_MODIFIED_SINCE)?, seconds?);
    (seconds <= since).then_some(StatusCode::NOT_MODIFIED)
}

fn matches(headers: &HeaderMap, name: HeaderName, about: &About, weakly: bool) -> bool {
    let values = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| {
            let tag = if weakly {
                tag.strip_prefix("W/").unwrap_or(tag)
            } else {
                tag
            };
            tag == "*" || tag == about.tag
        })
}

/// HTTP dates have a resolution of one second.
fn to_seconds(time: SystemTime) -> Option<Duration> {
    let time = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(time.as_secs()))
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<Duration> {
    let value = headers.get(name)?.to_str().ok()?;
    to_seconds(httpdate::parse_http_date(value).ok()?)
}

/// Whether the file is still the one that the client has a part of (13.1.5).
fn unchanged(request: &Request, about: &About, modified: Option<SystemTime>) -> bool {
    let Some(value) = request.headers().get(IF_RANGE) else {
        return true;
    };
    match value.to_str() {
        Ok(tag) if tag.starts_with('"') => tag == about.tag,
        Ok(tag) if tag.starts_with("W/") => false,
        Ok(_) => date(request.headers(), IF_RANGE)
            .is_some_and(|date| modified.and_then(to_seconds) == Some(date)),
        Err(_) => false,
    }
}

struct Unsatisfiable;

/// Parses a range. Returns `None` if the header must be ignored: it is malformed, has another unit,
/// or asks for several ranges.
fn parse(value: &HeaderValue, length: u64) -> Option<Result<Range<u64>, Unsatisfiable>> {
    let ranges = value.to_str().ok()?.strip_prefix("bytes=")?;
    let (first, last) = ranges.trim().split_once('-')?;
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
