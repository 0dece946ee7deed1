//! The client's cookies (RFC 6265), with limits.
//!
//! `cookie_store` parses a cookie and says which requests it is for. It does not bound anything,
//! and without a list of public suffixes it lets `example.co.uk` set cookies for all of `co.uk`.

use std::{borrow::Cow, cmp::Reverse, collections::VecDeque, time::SystemTime};

use cookie_store::{Cookie, RawCookie};
use url::{Host, Url};

use super::date;
use crate::{HeaderMap, header::SET_COOKIE};

/// Maximum bytes of a cookie's name and value, and of its path, together (RFC 6265, 6.1, asks for
/// at least 4,096).
const MAX_COOKIE: usize = 4096;

/// Maximum cookies of one domain (RFC 6265, 6.1: at least 50), of the jar, and the bytes in it.
const MAX_DOMAIN: usize = 50;
const MAX_JAR: usize = 1000;
const MAX_BYTES: usize = 1024 * 1024;

/// Maximum cookies of one response, as in curl. Each is compared with all that are there.
const MAX_SET: usize = 50;

/// Maximum bytes of the header `Cookie`. Servers refuse much longer ones: nginx by default at 8
/// KiB.
const MAX_HEADER: usize = 8 * 1024;

/// The cookies, from the one that was set the longest ago to the newest.
#[derive(Default)]
pub(super) struct Jar {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// How many cookies were made.
    made: u64,
}

struct Entry {
    cookie: Cookie<'static>,
    /// Otherwise each of its characters stands for a byte.
    is_utf8: bool,
    size: usize,
    /// Its place in the order in which they were made. It keeps it when it is set again.
    made: u64,
}

impl Entry {
    /// A name or value of the cookie, as it came.
    fn bytes<'a>(&self, text: &'a str) -> Cow<'a, [u8]> {
        match self.is_utf8 {
            true => text.as_bytes().into(),
            false => text.chars().map(|character| character as u8).collect(),
        }
    }
}

/// Whether nobody on the network sees or changes what is exchanged. The loopback address counts, as
/// in browsers.
fn is_secure(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || loopback
}

impl Jar {
    /// Keeps the cookies of a response. What breaks a limit is left out, as browsers do it.
    pub(super) fn keep(&mut self, url: &Url, headers: &HeaderMap) {
        for value in headers.get_all(SET_COOKIE).iter().take(MAX_SET) {
            // Some servers send names of people, so not ASCII alone. To us they are bytes (RFC
            // 6265, 5.4).
            let (text, is_utf8) = match std::str::from_utf8(value.as_bytes()) {
                Ok(text) => (Cow::Borrowed(text), true),
                Err(_) => {
                    let characters = value.as_bytes().iter().map(|byte| char::from(*byte));
                    (Cow::Owned(characters.collect()), false)
                }
            };
            let Some(cookie) = parse(&text, url) else {
                tracing::debug!(host = url.host_str(), "a cookie is not kept");
                continue;
            };
            self.insert(cookie, is_utf8, url);
        }
    }

    fn insert(&mut self, cookie: Cookie<'static>, is_utf8: bool, url: &Url) {
        let same = |entry: &Entry| {
            let other = &entry.cookie;
            other.name() == cookie.name()
                && other.domain == cookie.domain
                && other.path.as_ref() as &str == cookie.path.as_ref() as &str
        };
        // A network attacker must not replace what was set over TLS, nor put another one of its
        // name before it (RFC 6265bis, 5.7, step 16).
        let mut entries = self.entries.iter();
        if !is_secure(url) && entries.any(|entry| is_hidden(&entry.cookie, &cookie)) {
            return;
        }
        self.made += 1;
        let mut made = self.made;
        let old = self.entries.iter().position(same);
        if let Some(old) = old.and_then(|place| self.remove(place)) {
            made = old.made;
        }
        if cookie.is_expired() {
            return;
        }
        let size = cost(&cookie);
        let alike = |entry: &Entry| entry.cookie.domain == cookie.domain;
        while self.entries.iter().filter(|entry| alike(entry)).count() >= MAX_DOMAIN {
            self.remove_one_of(alike);
        }
        while self.entries.len() >= MAX_JAR || self.bytes + size > MAX_BYTES {
            self.remove_one_of(|_| true);
        }
        self.bytes += size;
        self.entries.push_back(Entry {
            cookie,
            is_utf8,
            size,
            made,
        });
    }

    /// Removes one that has expired; or else the oldest that was not set over TLS, so that nobody
    /// on the network can push out those that were (RFC 6265bis, 5.7); or else the oldest.
    fn remove_one_of(&mut self, among: impl Fn(&Entry) -> bool) {
        let (entries, now) = (&self.entries, SystemTime::now().into());
        let oldest = |wanted: &dyn Fn(&Entry) -> bool| {
            let mut places = 0..entries.len();
            places.find(|place| among(&entries[*place]) && wanted(&entries[*place]))
        };
        let place = oldest(&|entry| entry.cookie.expires_by(&now))
            .or_else(|| oldest(&|entry| !of_tls(&entry.cookie)))
            .or_else(|| oldest(&|_| true));
        if let Some(place) = place {
            self.remove(place);
        }
    }

    fn remove(&mut self, place: usize) -> Option<Entry> {
        let entry = self.entries.remove(place)?;
        self.bytes -= entry.size;
        Some(entry)
    }

    /// The value of `Cookie` for a request; empty if there is none. The most specific path comes
    /// first, and then what was made first (RFC 6265, 5.4). What does not fit into 8 KiB is left
    /// out.
    pub(super) fn header(&self, url: &Url) -> Vec<u8> {
        // One look at the clock: a thousand take as long as all the rest.
        let now = SystemTime::now().into();
        let mut entries: Vec<_> = self
            .entries
            .iter()
            .filter(|Entry { cookie, .. }| !cookie.expires_by(&now) && cookie.matches(url))
            .collect();
        entries.sort_by_key(|entry| (Reverse(path(&entry.cookie).len()), entry.made));
        let mut header = Vec::new();
        for entry in entries {
            let name = entry.bytes(entry.cookie.name());
            let value = entry.bytes(entry.cookie.value());
            let more = name.len() + value.len() + 3;
            if header.len() + more > MAX_HEADER {
                continue;
            }
            if !header.is_empty() {
                header.extend(b"; ");
            }
            header.extend(&*name);
            header.push(b'=');
            header.extend(&*value);
        }
        header
    }
}

fn of_tls(cookie: &Cookie<'static>) -> bool {
    cookie.secure().unwrap_or(false)
}

/// Whether a new cookie would be sent before, or instead of, one that was set over TLS.
fn is_hidden(old: &Cookie<'static>, new: &Cookie<'static>) -> bool {
    fn domain<'a>(cookie: &'a Cookie<'static>) -> Cow<'a, str> {
        cookie.domain.as_cow().unwrap_or_default()
    }
    let below = |one: &str, other: &str, between: char| {
        one.strip_suffix(other)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with(between))
    };
    let (one, other) = (domain(old), domain(new));
    let rest = path(new).strip_prefix(path(old));
    old.name() == new.name()
        && of_tls(old)
        && (below(&one, &other, '.') || below(&other, &one, '.'))
        && rest.is_some_and(|rest| {
            rest.is_empty() || rest.starts_with('/') || path(old).ends_with('/')
        })
}

fn path<'a>(cookie: &'a Cookie<'static>) -> &'a str {
    cookie.path.as_ref()
}

fn cost(cookie: &Cookie<'static>) -> usize {
    let domain = cookie.domain.as_cow().map_or(0, |domain| domain.len());
    cookie.name().len() + cookie.value().len() + path(cookie).len() + domain
}

/// Parses `Set-Cookie` (RFC 6265, 5.2 and 5.3). Returns `None` for a cookie that is not allowed.
fn parse(text: &str, url: &Url) -> Option<Cookie<'static>> {
    let mut raw = RawCookie::parse(with_dates(text)).ok()?;
    if raw.domain().is_some_and(str::is_empty) {
        // Nothing but a dot, which is no domain (RFC 6265, 5.2.3).
        raw.unset_domain();
    }
    if raw.domain().is_some_and(|domain| is_public(domain, url)) {
        if raw.domain().map(normal) != url.host_str().map(str::to_owned) {
            return None;
        }
        // The host is a public suffix itself: the cookie is for this host only.
        raw.unset_domain();
    }
    let secure = raw.secure().unwrap_or(false);
    let strict = raw.domain().is_none() && raw.path() == Some("/");
    if secure && !is_secure(url)
        || has_prefix(raw.name(), "__Secure-") && !secure
        || has_prefix(raw.name(), "__Host-") && !(secure && strict)
    {
        return None;
    }
    let cookie = Cookie::try_from_raw_cookie(&raw, url).ok()?.into_owned();
    (cost(&cookie) <= MAX_COOKIE).then_some(cookie)
}

/// Writes its dates in the usual form. What is not a date is ignored (RFC 6265, 5.2.1).
fn with_dates(text: &str) -> String {
    let mut parts = text.split(';');
    let mut whole = parts.next().unwrap_or("").to_owned();
    for part in parts {
        match part.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("expires") => {
                if let Some(time) = date::parse(value) {
                    whole.push_str("; Expires=");
                    whole.push_str(&httpdate::fmt_http_date(time));
                }
            }
            _ => {
                whole.push(';');
                whole.push_str(part);
            }
        }
    }
    whole
}

/// Whether the name has this prefix, which promises something about the cookie (RFC 6265bis,
/// 4.1.3).
fn has_prefix(name: &str, prefix: &str) -> bool {
    let begin = name.as_bytes().get(..prefix.len());
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(prefix.as_bytes()))
}

fn normal(domain: &str) -> String {
    let domain = domain.strip_prefix('.').unwrap_or(domain);
    match Host::parse(domain) {
        Ok(host) => host.to_string(),
        Err(_) => domain.to_ascii_lowercase(),
    }
}

/// Whether many owners share the names below this domain, so that no cookie may be for all of it
/// (RFC 6265, 5.3, step 5). The list is the one that browsers use, as it was when the crate `psl`
/// was published; unknown names of one label count too.
fn is_public(domain: &str, url: &Url) -> bool {
    let domain = normal(domain);
    match url.host() {
        Some(Host::Domain(_)) => {
            let name = domain.trim_end_matches('.');
            psl::suffix(name.as_bytes()).is_none_or(|suffix| suffix == name)
        }
        // Addresses have no names below them.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HeaderValue;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    /// Keeps `set` of `from`, and returns the header for `to`.
    fn sent(from: &str, set: &str, to: &str) -> String {
        let mut jar = Jar::default();
        keep(&mut jar, from, set);
        cookies(&jar, &url(to))
    }

    fn cookies(jar: &Jar, url: &Url) -> String {
        String::from_utf8(jar.header(url)).expect("UTF-8")
    }

    fn keep(jar: &mut Jar, from: &str, set: &str) {
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, HeaderValue::from_str(set).expect("a header"));
        jar.keep(&url(from), &headers);
    }

    #[test]
    fn a_cookie_is_for_no_more_than_its_owner() {
        let cases = [
            (
                "https://a.example.com/",
                "n=v",
                "https://a.example.com/x",
                "n=v",
            ),
            (
                "https://a.example.com/",
                "n=v",
                "https://b.a.example.com/",
                "",
            ),
            (
                "https://a.example.com/",
                "n=v; Domain=example.com",
                "https://b.example.com/",
                "n=v",
            ),
            (
                "https://a.example.com/",
                "n=v; Domain=.Example.COM",
                "https://example.com/",
                "n=v",
            ),
            (
                "https://a.example.com/",
                "n=v; Domain=other.com",
                "https://other.com/",
                "",
            ),
            (
                "https://a.example.com/",
                "n=v; Domain=b.a.example.com",
                "https://b.a.example.com/",
                "",
            ),
            (
                "https://a.example.com/",
                "n=v; Domain=com",
                "https://b.com/",
                "",
            ),
            (
                "https://a.co.uk/",
                "n=v; Domain=co.uk",
                "https://b.co.uk/",
                "",
            ),
            (
                "https://a.co.uk/",
                "n=v; Domain=.CO.UK",
                "https://a.co.uk/",
                "",
            ),
            (
                "https://a.co.uk/",
                "n=v; Domain=a.co.uk",
                "https://b.a.co.uk/",
                "n=v",
            ),
            (
                "https://a.github.io/",
                "n=v; Domain=github.io",
                "https://b.github.io/",
                "",
            ),
            (
                "https://github.io/",
                "n=v; Domain=github.io",
                "https://github.io/",
                "n=v",
            ),
            (
                "https://github.io/",
                "n=v; Domain=github.io",
                "https://b.github.io/",
                "",
            ),
            (
                "https://x.local/",
                "n=v; Domain=local",
                "https://y.local/",
                "",
            ),
            (
                "http://localhost/",
                "n=v; Domain=localhost",
                "http://localhost/",
                "n=v",
            ),
            ("http://localhost:1/", "n=v", "http://localhost:2/", "n=v"),
            (
                "http://127.0.0.1/",
                "n=v; Domain=127.0.0.1",
                "http://127.0.0.1/",
                "n=v",
            ),
            (
                "http://127.0.0.1/",
                "n=v; Domain=0.0.1",
                "http://10.0.0.1/",
                "",
            ),
            ("http://[::1]/", "n=v", "http://[::1]/", "n=v"),
            (
                "http://a.example.com/",
                "n=v; Secure",
                "https://a.example.com/",
                "",
            ),
            (
                "https://a.example.com/",
                "n=v; Secure",
                "http://a.example.com/",
                "",
            ),
            (
                "https://a.example.com/",
                "__Secure-n=v",
                "https://a.example.com/",
                "",
            ),
            (
                "https://a.example.com/",
                "__Host-n=v; Secure; Path=/; Domain=example.com",
                "https://a.example.com/",
                "",
            ),
            (
                "https://a.example.com/",
                "__Host-n=v; Secure; Path=/",
                "https://a.example.com/",
                "__Host-n=v",
            ),
            (
                "https://a.example.com/",
                "n=v; Max-Age=0",
                "https://a.example.com/",
                "",
            ),
            (
                "https://a.example.com/",
                "n=v; Path=/a",
                "https://a.example.com/ab",
                "",
            ),
            (
                "https://a.example.com/",
                "n=v; Path=/a",
                "https://a.example.com/a/b",
                "n=v",
            ),
        ];
        for (from, set, to, expected) in cases {
            assert_eq!(sent(from, set, to), expected, "{set} of {from} to {to}");
        }
    }

    #[test]
    fn a_name_set_over_tls_is_not_replaced_without_it() {
        let mut jar = Jar::default();
        keep(&mut jar, "https://a.example.com/", "n=good; Secure");
        keep(&mut jar, "http://a.example.com/", "n=bad");
        assert_eq!(cookies(&jar, &url("https://a.example.com/")), "n=good");
        keep(&mut jar, "https://a.example.com/", "n=; Max-Age=0");
        assert_eq!(cookies(&jar, &url("https://a.example.com/")), "");
    }

    /// RFC 6265bis, 5.7, step 16: nor is it put before another one of the same name.
    #[test]
    fn a_name_set_over_tls_is_not_hidden_behind_one_set_without_it() {
        for bad in [
            "n=bad; Path=/login",
            "n=bad; Domain=example.com",
            "n=bad; Domain=a.example.com; Path=/login/x",
        ] {
            let mut jar = Jar::default();
            keep(&mut jar, "https://a.example.com/", "n=good; Secure; Path=/");
            keep(&mut jar, "http://a.example.com/login/x", bad);
            let sent = cookies(&jar, &url("https://a.example.com/login/x"));
            assert_eq!(sent, "n=good", "{bad}");
        }
        // Another path, another host, another name: these hide nothing.
        for other in [
            "n=o; Path=/",
            "m=o; Path=/b",
            "n=o; Domain=b.example.com; Path=/b",
        ] {
            let mut jar = Jar::default();
            keep(
                &mut jar,
                "https://a.example.com/b/",
                "n=good; Secure; Path=/b",
            );
            let from = if other.contains("Domain") { "b" } else { "a" };
            keep(&mut jar, &format!("http://{from}.example.com/"), other);
            let to = format!("http://{from}.example.com/b");
            assert!(cookies(&jar, &url(&to)).contains("=o"), "{other}");
        }
    }

    /// A server that ends a session writes a date that is over, in one of many forms.
    #[test]
    fn a_cookie_ends_by_a_date_in_any_form() {
        for over in [
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "Thu, 1 Jan 1970 00:00:00 GMT",
            "Thu Jan 1 00:00:00 GMT 1970",
            "Thu, 01-Jan-1970 00:00:00 UTC",
            "Thu, 01 Jan 1970 00:00:00 +0000",
        ] {
            let mut jar = Jar::default();
            keep(&mut jar, "https://a.example.com/", "n=v");
            keep(
                &mut jar,
                "https://a.example.com/",
                &format!("n=; Expires={over}"),
            );
            assert_eq!(cookies(&jar, &url("https://a.example.com/")), "", "{over}");
        }
        for kept in [
            "n=v; Expires=Fri Feb 2 11:56:27 GMT 2035",
            "n=v; Expires=0",
            "n=v; expires=Thu, 01 Jan 1970 00:00:00 UTC; Max-Age=60",
        ] {
            let header = sent("https://a.example.com/", kept, "https://a.example.com/");
            assert_eq!(header, "n=v", "{kept}");
        }
    }

    /// A page without TLS that sets many must not push out what was set with it.
    #[test]
    fn what_was_set_over_tls_goes_last() {
        let mut jar = Jar::default();
        keep(&mut jar, "https://a.example.com/", "good=1; Secure");
        for number in 0..1_200 {
            let host = format!("http://h{number}.example.com/");
            keep(&mut jar, &host, &format!("n{number}=x; Domain=example.com"));
            keep(&mut jar, "http://a.example.com/", &format!("n{number}=x"));
            keep(&mut jar, &host, &format!("n{number}=x"));
        }
        assert!(cookies(&jar, &url("https://a.example.com/")).contains("good=1"));
    }

    #[test]
    fn an_empty_domain_is_that_of_the_host() {
        for set in ["n=v; Domain=", "n=v; Domain", "n=v; Domain=."] {
            assert_eq!(
                sent("https://a.example.com/", set, "https://a.example.com/"),
                "n=v"
            );
            assert_eq!(
                sent("https://a.example.com/", set, "https://b.a.example.com/"),
                ""
            );
        }
    }

    /// They are bytes to the client (RFC 6265, 5.4).
    #[test]
    fn a_cookie_need_not_be_ascii() {
        let (mut jar, mut headers) = (Jar::default(), HeaderMap::new());
        for set in ["name=J\u{fc}rgen; Path=/", "\u{e9}t\u{e9}=1"] {
            let value = HeaderValue::from_bytes(set.as_bytes()).expect("a header");
            headers.append(SET_COOKIE, value);
        }
        jar.keep(&url("https://a.example.com/"), &headers);
        let header = cookies(&jar, &url("https://a.example.com/"));
        assert_eq!(header, "name=J\u{fc}rgen; \u{e9}t\u{e9}=1");
    }

    #[test]
    fn the_jar_and_the_header_have_an_end() {
        let (mut jar, long) = (Jar::default(), "x".repeat(4_000));
        for number in 0..10_000 {
            let set = format!("n{number}={long}; Domain=example.com");
            keep(&mut jar, "https://a.example.com/", &set);
        }
        assert_eq!(jar.entries.len(), MAX_DOMAIN);
        let some = cookies(&jar, &url("https://b.example.com/"));
        assert!(some.len() <= MAX_HEADER && some.len() > 8_000);
        for number in 0..3_000 {
            let host = format!("https://h{number}.example.com/");
            keep(&mut jar, &host, &format!("n={long}"));
        }
        assert!(jar.bytes <= MAX_BYTES && jar.entries.len() <= MAX_JAR);
        let bytes: usize = jar.entries.iter().map(|entry| entry.size).sum();
        assert_eq!(bytes, jar.bytes);
        // The newest are still there.
        let header = cookies(&jar, &url("https://h2999.example.com/"));
        assert!(header.starts_with("n=xxx"));
        assert_eq!(
            sent(
                "https://a.de/",
                &format!("n={}", "x".repeat(4_096)),
                "https://a.de/"
            ),
            ""
        );
    }

    /// RFC 6265, 5.2.2: what is too large is the latest time that there is.
    #[test]
    fn a_cookie_may_last_for_any_number_of_seconds() {
        let from = "https://a.example.com/";
        for kept in [
            "n=v; Max-Age=9223372036854775807",
            "n=v; Max-Age=99999999999999999999999",
            "n=v; Max-Age=10000000000000",
            "n=v; Max-Age=x; Expires=Fri, 01 Jan 2100 00:00:00 GMT",
            "n=v; Max-Age=; Path=/",
            "n=v; Max-Age=+60",
        ] {
            assert_eq!(sent(from, kept, from), "n=v", "{kept}");
        }
        for over in [
            "n=v; Max-Age=-1",
            "n=v; Max-Age=-9223372036854775809",
            "n=v; Max-Age=-99999999999999999999999",
            "n=v; Max-Age=60; Max-Age=0",
        ] {
            assert_eq!(sent(from, over, from), "", "{over}");
        }
    }

    #[test]
    fn of_an_attribute_that_comes_twice_the_last_one_counts() {
        let from = "https://a.example.com/x/y";
        for (set, to, expected) in [
            ("n=v; Path=/a; Path=/x", from, "n=v"),
            ("n=v; Path=/x; Path=/a", from, ""),
            ("n=v; Path=/a; Path=a", from, "n=v"),
            (
                "n=v; Domain=other.com; Domain=example.com",
                "https://b.example.com/x/y",
                "n=v",
            ),
            ("n=v; Domain=example.com; Domain=other.com", from, ""),
        ] {
            assert_eq!(sent(from, set, to), expected, "{set}");
        }
    }

    /// They are bytes: Latin-1 is not UTF-8.
    #[test]
    fn a_cookie_need_not_be_utf8() {
        let (mut jar, mut headers) = (Jar::default(), HeaderMap::new());
        let value = HeaderValue::from_bytes(b"name=J\xfcrgen; Path=/").expect("a header");
        headers.append(SET_COOKIE, value);
        jar.keep(&url("https://a.example.com/"), &headers);
        keep(&mut jar, "https://a.example.com/", "other=\u{fc}");
        let header = jar.header(&url("https://a.example.com/"));
        assert_eq!(header, b"name=J\xfcrgen; other=\xc3\xbc");
    }
}
