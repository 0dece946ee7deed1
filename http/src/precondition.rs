//! Conditional requests: RFC 9110, 8.8 and 13.

use std::{
    borrow::Cow,
    fmt::{self, Write},
    time::{Duration, SystemTime},
};

use super::{
    FromParts, HeaderMap, HeaderName, HeaderValue, IntoResponse, Method, Request, Response,
    StatusCode,
    header::{
        ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
    },
};

/// An entity tag (RFC 9110, 8.8.3): a name for one state of a resource. Two states with the same
/// strong tag are the same byte for byte; with the same weak tag, they mean the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ETag {
    weak: bool,
    /// With the quotes.
    tag: String,
}

impl ETag {
    /// Makes a strong tag of a text without quotes: a hash of the content, or a version number.
    /// Characters that a tag cannot have are percent-encoded, and so is `%`: different texts make
    /// different tags.
    pub fn strong(text: &str) -> Self {
        let mut tag = String::with_capacity(text.len() + 2);
        tag.push('"');
        for byte in text.bytes() {
            match byte {
                b'%' => tag.push_str("%25"),
                b'!' | b'#'..=b'~' => tag.push(byte.into()),
                _ => write!(tag, "%{byte:02X}").expect("a string takes everything"),
            }
        }
        tag.push('"');
        ETag { weak: false, tag }
    }

    /// Makes a weak tag of a text without quotes.
    pub fn weak(text: &str) -> Self {
        ETag {
            weak: true,
            ..ETag::strong(text)
        }
    }

    /// Whether the tag is weak.
    pub fn is_weak(&self) -> bool {
        self.weak
    }

    /// The tag without quotes, as it is sent.
    pub fn text(&self) -> &str {
        &self.tag[1..self.tag.len() - 1]
    }

    /// Whether both are strong and the same.
    pub(super) fn is(&self, weak: bool, tag: &str) -> bool {
        !self.weak && !weak && self.tag == tag
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.weak { "W/" } else { "" })?;
        f.write_str(&self.tag)
    }
}

impl From<ETag> for HeaderValue {
    fn from(tag: ETag) -> Self {
        HeaderValue::try_from(tag.to_string()).expect("a tag has only visible characters")
    }
}

/// What the current state of a resource is told apart by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// The tag of the state.
    pub etag: Option<ETag>,
    /// When the resource was changed last. HTTP dates have a resolution of one second.
    pub modified: Option<SystemTime>,
}

impl From<ETag> for Validators {
    fn from(tag: ETag) -> Self {
        Validators {
            etag: Some(tag),
            modified: None,
        }
    }
}

impl From<SystemTime> for Validators {
    fn from(modified: SystemTime) -> Self {
        Validators {
            etag: None,
            modified: Some(modified),
        }
    }
}

impl Validators {
    /// Sets `ETag` and `Last-Modified`.
    pub fn set(&self, headers: &mut HeaderMap) {
        if let Some(tag) = &self.etag {
            headers.insert(ETAG, tag.clone().into());
        }
        let date = self.modified().map(httpdate::fmt_http_date);
        if let Some(date) = date.and_then(|date| HeaderValue::try_from(date).ok()) {
            headers.insert(LAST_MODIFIED, date);
        }
    }

    /// A time in the future would make caches keep the resource for ever. HTTP has no dates before
    /// 1970, for which httpdate panics.
    fn modified(&self) -> Option<SystemTime> {
        let time = self.modified?.min(SystemTime::now());
        (time >= SystemTime::UNIX_EPOCH).then_some(time)
    }

    /// The time of the last change in whole seconds.
    pub(super) fn seconds(&self) -> Option<Duration> {
        to_seconds(self.modified()?)
    }
}

/// The preconditions of a request (RFC 9110, 13.1): an argument of a handler that knows the state
/// of its resource. It saves the transfer of what a client has already, and keeps two clients from
/// overwriting each other's changes.
///
/// ```
/// use std::{cell::RefCell, rc::Rc};
/// use entwined_http::{ETag, IntoResponse, Preconditions, Response, Router, State, header, layers};
///
/// type Note = Rc<RefCell<(u64, String)>>;
///
/// /// Answers 304 if the client has this version.
/// async fn read(State(note): State<Note>, asked: Preconditions) -> Result<Response, Response> {
///     let (version, text) = note.borrow().clone();
///     let tag = ETag::strong(&version.to_string());
///     asked.check(tag.clone())?;
///     Ok(([(header::ETAG, tag)], text).into_response())
/// }
///
/// /// Answers 412 if somebody else was faster (`If-Match`).
/// async fn write(
///     State(note): State<Note>,
///     asked: Preconditions,
///     text: String,
/// ) -> Result<(), Response> {
///     let version = note.borrow().0;
///     asked.check(ETag::strong(&version.to_string()))?;
///     note.replace((version + 1, text));
///     Ok(())
/// }
///
/// let note = Note::default();
/// let router = Router::new().get("/note", read).put("/note", write).layer(layers::state(note));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Preconditions {
    /// Whether the method is GET or HEAD.
    reads: bool,
    /// Only those of the preconditions.
    headers: HeaderMap,
}

impl From<&Request> for Preconditions {
    fn from(request: &Request) -> Self {
        let mut headers = HeaderMap::new();
        for name in [
            IF_MATCH,
            IF_NONE_MATCH,
            IF_MODIFIED_SINCE,
            IF_UNMODIFIED_SINCE,
        ] {
            for value in request.headers().get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        Preconditions {
            reads: matches!(*request.method(), Method::GET | Method::HEAD),
            headers,
        }
    }
}

impl FromParts for Preconditions {
    fn from_parts(request: &mut Request) -> Result<Self, Response> {
        Ok(Preconditions::from(&*request))
    }
}

impl Preconditions {
    /// Whether the request has none.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// Whether the client says that it has the state with this strong tag, and not with the weak
    /// one of the same text.
    #[cfg(feature = "compression")]
    pub(super) fn has_strong(&self, tag: Option<&HeaderValue>) -> bool {
        let ours = tag.and_then(|tag| tag.to_str().ok()).unwrap_or("");
        let values = self.headers.get_all(IF_NONE_MATCH).into_iter();
        let lists: Vec<_> = values.map(text).collect();
        let mut named = lists
            .iter()
            .flat_map(|list| tags(list))
            .filter(|(_, tag)| *tag == ours)
            .peekable();
        named.peek().is_some() && named.all(|(weak, _)| !weak)
    }

    /// Evaluates them in the order of RFC 9110, 13.2.2, for a resource in this state.
    ///
    /// # Errors
    /// The response if the handler must not do what was asked: 412, or 304 (with the validators) if
    /// the client has this state already.
    // A response is large, but rare here.
    #[expect(clippy::result_large_err)]
    pub fn check(&self, current: impl Into<Validators>) -> Result<(), Response> {
        let current = current.into();
        let Some(status) = self.evaluate(Some(&current)) else {
            return Ok(());
        };
        let mut response = status.into_response();
        if status == StatusCode::NOT_MODIFIED {
            current.set(response.headers_mut());
        }
        Err(response)
    }

    /// Evaluates them for a resource that does not exist: `If-Match` fails, and `If-None-Match: *`
    /// is what a client sends that wants to create it.
    ///
    /// # Errors
    /// The response 412.
    #[expect(clippy::result_large_err)]
    pub fn check_missing(&self) -> Result<(), Response> {
        match self.evaluate(None) {
            Some(status) => Err(status.into_response()),
            None => Ok(()),
        }
    }

    /// Returns the status if the request ends here. `None` as the state is one that does not exist.
    pub(super) fn evaluate(&self, current: Option<&Validators>) -> Option<StatusCode> {
        let seconds = current.and_then(Validators::seconds);
        let seen = if self.reads {
            StatusCode::NOT_MODIFIED
        } else {
            StatusCode::PRECONDITION_FAILED
        };
        if self.headers.contains_key(IF_MATCH) {
            if !self.matches(IF_MATCH, current, false) {
                return Some(StatusCode::PRECONDITION_FAILED);
            }
        } else if let (Some(since), Some(seconds)) =
            (date(&self.headers, IF_UNMODIFIED_SINCE), seconds)
        {
            if seconds > since {
                return Some(StatusCode::PRECONDITION_FAILED);
            }
        }
        if self.headers.contains_key(IF_NONE_MATCH) {
            return self.matches(IF_NONE_MATCH, current, true).then_some(seen);
        }
        if !self.reads {
            return None;
        }
        let (since, seconds) = (date(&self.headers, IF_MODIFIED_SINCE)?, seconds?);
        (seconds <= since).then_some(seen)
    }

    /// Whether one of the listed tags is the current one. `*` is any that exists.
    fn matches(&self, name: HeaderName, current: Option<&Validators>, weakly: bool) -> bool {
        let Some(current) = current else {
            return false;
        };
        let values = self.headers.get_all(name).into_iter();
        values.map(text).any(|value| {
            if value.trim() == "*" {
                return true;
            }
            let Some(ours) = &current.etag else {
                return false;
            };
            tags(&value).any(|(weak, tag)| {
                if weakly {
                    ours.tag == tag
                } else {
                    ours.is(weak, tag)
                }
            })
        })
    }
}

/// The text of a list of tags. Those of others may have any bytes from 0x80 on (RFC 9110, 8.8.3);
/// ours have none, so it does not matter what these become.
fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

/// The tags of a list, each with its quotes, and whether it is weak. A tag may contain commas. What
/// is not a tag ends the list.
pub(super) fn tags(mut list: &str) -> impl Iterator<Item = (bool, &str)> {
    std::iter::from_fn(move || {
        list = list.trim_start_matches([' ', '\t', ',']);
        let (weak, rest) = match list.strip_prefix("W/") {
            Some(rest) => (true, rest),
            None => (false, list),
        };
        let end = rest.strip_prefix('"')?.find('"')? + 2;
        list = &rest[end..];
        Some((weak, &rest[..end]))
    })
}

/// HTTP dates have a resolution of one second.
fn to_seconds(time: SystemTime) -> Option<Duration> {
    let time = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(time.as_secs()))
}

/// The date in a header, in whole seconds.
pub(super) fn date(headers: &HeaderMap, name: HeaderName) -> Option<Duration> {
    let value = only(headers, name)?.to_str().ok()?;
    to_seconds(httpdate::parse_http_date(value).ok()?)
}

/// The value of a header that is there once. Several are a list (RFC 9110, 5.3).
pub(super) fn only(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut all = headers.get_all(name).into_iter();
    all.next().filter(|_| all.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn asked(reads: bool, fields: &[(HeaderName, &str)]) -> Preconditions {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value.parse().expect("a value"));
        }
        Preconditions { reads, headers }
    }

    #[test]
    fn the_order_and_the_statuses_are_those_of_the_rfc() {
        let now = Validators {
            etag: Some(ETag::strong("a,b")),
            modified: httpdate::parse_http_date(OLD).ok(),
        };
        let (earlier, later) = (
            "Sun, 06 Nov 1994 08:49:36 GMT",
            "Sun, 06 Nov 1994 08:49:38 GMT",
        );
        for (reads, fields, expected) in [
            (true, vec![], None),
            (true, vec![(IF_MATCH, "\"a,b\"")], None),
            (true, vec![(IF_MATCH, "\"x\", \"a,b\"")], None),
            (true, vec![(IF_MATCH, "*")], None),
            (true, vec![(IF_MATCH, "\"x\"")], Some(412)),
            // The comparison of If-Match is strong, that of If-None-Match weak.
            (false, vec![(IF_MATCH, "W/\"a,b\"")], Some(412)),
            (true, vec![(IF_NONE_MATCH, "W/\"a,b\"")], Some(304)),
            (true, vec![(IF_NONE_MATCH, "\"a\", \"b\"")], None),
            (true, vec![(IF_NONE_MATCH, "*")], Some(304)),
            (false, vec![(IF_NONE_MATCH, "*")], Some(412)),
            (true, vec![(IF_UNMODIFIED_SINCE, earlier)], Some(412)),
            (true, vec![(IF_UNMODIFIED_SINCE, OLD)], None),
            (true, vec![(IF_MODIFIED_SINCE, OLD)], Some(304)),
            (true, vec![(IF_MODIFIED_SINCE, later)], Some(304)),
            (true, vec![(IF_MODIFIED_SINCE, earlier)], None),
            (false, vec![(IF_MODIFIED_SINCE, later)], None),
            // A tag wins over a date.
            (
                true,
                vec![(IF_MATCH, "\"a,b\""), (IF_UNMODIFIED_SINCE, earlier)],
                None,
            ),
            (
                true,
                vec![(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, later)],
                None,
            ),
        ] {
            let status = asked(reads, &fields).evaluate(Some(&now));
            assert_eq!(status.map(|status| status.as_u16()), expected, "{fields:?}");
        }
    }

    #[test]
    fn what_does_not_exist_matches_nothing() {
        assert!(
            asked(false, &[(IF_NONE_MATCH, "*")])
                .check_missing()
                .is_ok()
        );
        let refused = asked(false, &[(IF_MATCH, "*")]).check_missing();
        assert_eq!(refused.expect_err("refused").status(), 412);
    }

    #[test]
    fn a_tag_has_only_what_a_header_may_have() {
        let tag = ETag::weak("a\"b\"\n\u{e9}%c");
        assert_eq!(tag.to_string(), "W/\"a%22b%22%0A%C3%A9%25c\"");
        assert_eq!(tag.text(), "a%22b%22%0A%C3%A9%25c");
        assert_eq!(HeaderValue::from(tag), "W/\"a%22b%22%0A%C3%A9%25c\"");
    }

    /// Or a client keeps what has changed, or overwrites what it has not seen.
    #[test]
    fn different_states_have_different_tags() {
        let names = ["1", "1 ", "\"1", "\u{fc}1", "\u{e4}1", "%201", "%22"];
        for (place, one) in names.iter().enumerate() {
            for other in &names[place + 1..] {
                assert_ne!(ETag::strong(one), ETag::strong(other));
            }
        }
    }

    /// A tag may have any bytes from 0x80 on (RFC 9110, 8.8.3): those of other servers in a list
    /// must not hide ours, or a client overwrites what it has not seen.
    #[test]
    fn a_tag_that_is_not_ascii_hides_no_others() {
        let now = Validators::from(ETag::strong("a"));
        for list in [&b"\"\xfc\", \"a\""[..], b"\"a\", W/\"\xc3\xbc\""] {
            let asked = |reads, name| {
                let mut headers = HeaderMap::new();
                headers.insert(name, HeaderValue::from_bytes(list).expect("a value"));
                Preconditions { reads, headers }
            };
            let status = |reads, name| asked(reads, name).evaluate(Some(&now));
            assert_eq!(status(false, IF_MATCH), None, "{list:?}");
            assert_eq!(
                status(false, IF_NONE_MATCH),
                Some(StatusCode::PRECONDITION_FAILED)
            );
            assert_eq!(status(true, IF_NONE_MATCH), Some(StatusCode::NOT_MODIFIED));
        }
    }

    /// RFC 9110, 13.1.3 and 13.1.4: it is not one date, so it is none.
    #[test]
    fn a_date_that_comes_twice_is_none() {
        let now = Validators::from(httpdate::parse_http_date(OLD).expect("a date"));
        let (earlier, later) = (
            "Sun, 06 Nov 1994 08:49:36 GMT",
            "Sun, 06 Nov 1994 08:49:38 GMT",
        );
        for fields in [
            [(IF_MODIFIED_SINCE, later), (IF_MODIFIED_SINCE, earlier)],
            [(IF_UNMODIFIED_SINCE, earlier), (IF_UNMODIFIED_SINCE, later)],
        ] {
            assert_eq!(
                asked(true, &fields).evaluate(Some(&now)),
                None,
                "{fields:?}"
            );
        }
    }
}
