//! The canonical form of a host and its port: what routers and handlers see of it.

use std::{borrow::Cow, net::Ipv6Addr};

/// Returns the canonical form of a host with an optional port (RFC 3986, 3.2.2, 3.2.3 and 6.2):
/// lower case, without percent-encoding, without the dot that may end a name, IPv6 addresses as in
/// RFC 5952, the port without leading zeros and without its colon if it is empty. The host may be
/// empty. `None` if the text is not a host, or has user information.
pub(super) fn canonical(text: &str) -> Option<Cow<'_, str>> {
    if is_usual(text.as_bytes()) {
        return Some(Cow::Borrowed(text));
    }
    let (host, port) = split(text)?;
    let number: Option<u16> = match port {
        None | Some("") => None,
        // `parse` takes a sign.
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok()?),
        Some(_) => return None,
    };
    let mut canonical = match host {
        "" => String::new(),
        _ => name(host)?,
    };
    if let Some(number) = number {
        canonical.push_str(&format!(":{number}"));
    }
    Some(Cow::Owned(canonical))
}

/// Whether it is the canonical form of a usual host: labels of letters, digits and hyphens, and a
/// port. Each request needs this, so it is a single pass.
pub(super) fn is_usual(text: &[u8]) -> bool {
    let mut before = b'.';
    for (place, &byte) in text.iter().enumerate() {
        if !IN_LABEL[usize::from(byte)] {
            match byte {
                b'.' if before != b'.' => {}
                b':' => return before != b'.' && is_usual_port(&text[place + 1..]),
                _ => return false,
            }
        }
        before = byte;
    }
    before != b'.'
}

/// The bytes of labels in canonical form.
const IN_LABEL: [bool; 256] = {
    let mut table = [false; 256];
    let bytes = b"abcdefghijklmnopqrstuvwxyz0123456789-";
    let mut place = 0;
    while place < bytes.len() {
        table[bytes[place] as usize] = true;
        place += 1;
    }
    table
};

/// Whether it is a number without a leading zero, up to 65,535.
fn is_usual_port(text: &[u8]) -> bool {
    matches!(text.first(), Some(b'1'..=b'9'))
        && text.iter().all(u8::is_ascii_digit)
        && (text.len() < 5 || (text.len() == 5 && text <= b"65535".as_slice()))
}

/// Separates the host from the text after its colon.
pub(super) fn split(text: &str) -> Option<(&str, Option<&str>)> {
    let end = match text.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(end);
    match rest.strip_prefix(':') {
        Some(port) => Some((host, Some(port))),
        None if rest.is_empty() => Some((host, None)),
        None => None,
    }
}

/// The canonical form of a host.
fn name(host: &str) -> Option<String> {
    if let Some(literal) = host.strip_prefix('[') {
        let literal = literal.strip_suffix(']')?;
        if let Ok(address) = literal.parse::<Ipv6Addr>() {
            return Some(format!("[{address}]"));
        }
        // An address of a later version: `v1.` and what that version defines.
        let (version, address) = literal.strip_prefix(['v', 'V'])?.split_once('.')?;
        let fine = |byte: u8| is_name(byte) || byte == b':';
        let is_future = !version.is_empty()
            && version.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !address.is_empty()
            && address.bytes().all(fine);
        return is_future.then(|| host.to_ascii_lowercase());
    }
    let mut name = super::percent::decode(host)?.to_ascii_lowercase();
    if !name.bytes().all(is_name) {
        return None;
    }
    if name.ends_with('.') {
        name.pop();
    }
    // An empty label names nothing.
    name.split('.')
        .all(|label| !label.is_empty())
        .then_some(name)
}

/// The canonical form of a host that a program names: with or without a port, an IPv6 address with
/// or without its brackets. `None` if it is not a host.
pub(super) fn host(text: &str) -> Option<String> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some(format!("[{address}]"));
    }
    let form = canonical(text)?;
    let (host, _) = split(&form)?;
    (!host.is_empty()).then(|| host.to_owned())
}

/// What a name may contain: `unreserved` and `sub-delims`.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

/// Whether two canonical hosts with ports are the same for URLs of this scheme.
pub(super) fn same(scheme: &str, one: &str, other: &str) -> bool {
    let default = match scheme {
        "https" | "wss" => "443",
        _ => "80",
    };
    let parts = |text| split(text).map(|(host, port)| (host, port.unwrap_or(default)));
    parts(one) == parts(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_form_or_none() {
        for (text, form) in [
            ("", ""),
            ("a", "a"),
            ("A.Example.ORG.", "a.example.org"),
            ("a.b-c_d", "a.b-c_d"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("localhost:65535", "localhost:65535"),
            ("localhost:9", "localhost:9"),
            ("127.0.0.1.:80", "127.0.0.1:80"),
            ("a:", "a"),
            ("a:0080", "a:80"),
            ("a:0", "a:0"),
            ("[::1]", "[::1]"),
            ("[0:0::0:1]:8080", "[::1]:8080"),
            ("[FE80::A]:", "[fe80::a]"),
            ("[V1.a:B]", "[v1.a:b]"),
            ("%41", "a"),
            ("a,b", "a,b"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(form), "{text:?}");
            assert_eq!(
                canonical(form),
                Some(Cow::Owned(form.to_owned())),
                "{form:?}"
            );
        }
        for text in [
            "a b",
            "a/b",
            "u@a",
            "a:b",
            "a:1:2",
            "::1",
            "[::1",
            "[]",
            "[a/b]",
            "[::1]a",
            "a?b",
            "a#b",
            "ü",
            "\t",
            ".",
            "..",
            "a..",
            ".a",
            "a..b",
            "a:65536",
            "a:100000",
            "a:+1",
            "%00",
            "%2F",
            "%zz",
            "%40a",
            "[::1%25lo]",
            "[fe80::1%lo]",
            "a%2e%2e",
            "[v.a]",
        ] {
            assert_eq!(canonical(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_port_may_be_the_default_of_its_scheme() {
        assert!(same("http", "a", "a:80") && same("https", "a:443", "a"));
        assert!(same("https", "[::1]", "[::1]:443") && same("http", "a:8080", "a:8080"));
        assert!(!same("http", "a", "a:443") && !same("http", "a", "b"));
    }
}
