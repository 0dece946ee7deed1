//! The canonical form of a path: what routers, handlers and files see of it.
//!
//! Two spellings of one path must lead to the same place, or a guard that knows one of them is
//! passed with the other. So there is one form (RFC 3986, 6.2.2), and a request has it before
//! anything matches on it:
//!
//! - What a segment may contain as it is (RFC 3986, 3.3: letters, digits, `-._~!$&'()*+,;=:@`) is
//!   not percent-encoded. Everything else is, with upper-case digits.
//! - Several slashes are one.
//! - `.` and `..` are resolved (5.2.4), however they were encoded.
//!
//! A path without such a form is refused: malformed percent-encoding, bytes that are not UTF-8
//! (overlong forms are not), and `/`, `\` and NUL inside a segment, encoded or not. Programs that
//! decode a segment and use it as a name would take these for something else.
//!
//! `;` has no meaning of its own: it belongs to the segment.

use std::{borrow::Cow, fmt::Write};

/// Returns the canonical form of a path, or `None` if it has none.
pub(super) fn canonical(path: &str) -> Option<Cow<'_, str>> {
    if is_canonical(path) {
        return Some(Cow::Borrowed(path));
    }
    let mut segments = Vec::new();
    let mut is_folder = false;
    for segment in path.strip_prefix('/')?.split('/') {
        let segment = decode(segment)?;
        is_folder = matches!(segment.as_str(), "" | "." | "..");
        match segment.as_str() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let mut canonical = String::with_capacity(path.len());
    for segment in &segments {
        canonical.push('/');
        encode(segment, &mut canonical);
    }
    if is_folder || segments.is_empty() {
        canonical.push('/');
    }
    Some(Cow::Owned(canonical))
}

/// Returns the form in which a route's path matches canonical paths: its fixed parts are canonical,
/// its parameters stay as they are. `None` if no canonical path could ever match it.
pub(super) fn pattern(path: &str) -> Option<String> {
    let mut pattern = String::with_capacity(path.len());
    let (mut literal, mut rest) = (String::new(), path);
    while let Some(character) = rest.chars().next() {
        let length = character.len_utf8();
        // A doubled brace is the character.
        if matches!(character, '{' | '}') && rest[1..].starts_with(character) {
            write!(literal, "%{:02X}", character as u32).expect("a string takes everything");
            rest = &rest[2..];
        } else if character == '{' {
            encode_parts(&literal, &mut pattern)?;
            literal.clear();
            // The tree reports a brace that is not closed.
            let end = rest.find('}').map_or(rest.len(), |end| end + 1);
            pattern.push_str(&rest[..end]);
            rest = &rest[end..];
        } else {
            literal.push(character);
            rest = &rest[length..];
        }
    }
    encode_parts(&literal, &mut pattern)?;
    let Some(below) = pattern.strip_prefix('/') else {
        return Some(pattern);
    };
    let mut segments = below.split('/').rev();
    // Only the last may be empty.
    let last = segments.next().unwrap_or("");
    let wrong =
        matches!(last, "." | "..") || segments.any(|segment| matches!(segment, "" | "." | ".."));
    (!wrong).then_some(pattern)
}

fn encode_parts(literal: &str, pattern: &mut String) -> Option<()> {
    for (place, part) in literal.split('/').enumerate() {
        if place > 0 {
            pattern.push('/');
        }
        encode(&decode(part)?, pattern);
    }
    Some(())
}

fn is_canonical(path: &str) -> bool {
    let Some(below) = path.strip_prefix('/') else {
        return false;
    };
    // The usual path has neither "//" nor "/.".
    let (mut before, mut dots) = (b'/', false);
    for byte in below.bytes() {
        match byte {
            b'/' if before == b'/' => return false,
            b'/' => {}
            b'.' => dots |= before == b'/',
            _ if PLAIN[usize::from(byte)] => {}
            _ => return false,
        }
        before = byte;
    }
    !dots || has_no_dots(below)
}

fn has_no_dots(below: &str) -> bool {
    let mut segments = below.split('/').rev();
    !matches!(segments.next(), Some("." | ".."))
        && segments.all(|segment| !matches!(segment, "" | "." | ".."))
}

/// Undoes the percent-encoding of a segment. `None` if it has no canonical form.
fn decode(segment: &str) -> Option<String> {
    let decoded = super::percent::decode(segment)?;
    (!decoded.contains(['/', '\\', '\0'])).then_some(decoded)
}

fn encode(segment: &str, into: &mut String) {
    for byte in segment.bytes() {
        if PLAIN[usize::from(byte)] {
            into.push(byte.into());
        } else {
            write!(into, "%{byte:02X}").expect("a string takes everything");
        }
    }
}

/// The bytes that a segment may contain as they are: `pchar` in RFC 3986, 3.3.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~!$&'()*+,;=:@";
    let mut place = 0;
    while place < others.len() {
        table[others[place] as usize] = true;
        place += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_form_or_none() {
        for (path, form) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/%61%2D%7e", "/a-~"),
            ("/a%3bb;c%3Dd%40%3a", "/a;b;c=d@:"),
            ("/a%c3%a9é b", "/a%C3%A9%C3%A9%20b"),
            ("/%3f%23%25%7b", "/%3F%23%25%7B"),
            // Decoded once, and only once.
            ("/%2570rivate", "/%2570rivate"),
            ("/.", "/"),
            ("/..", "/"),
            ("/../..//a", "/a"),
            ("/a/./b/../c", "/a/c"),
            ("/a/%2e%2E/%2e/c/.", "/c/"),
            ("/a/b/..", "/a/"),
            ("/a//../b", "/b"),
            ("/...", "/..."),
            ("/.git/.a.", "/.git/.a."),
            ("/..;/a", "/..;/a"),
        ] {
            assert_eq!(canonical(path).as_deref(), Some(form), "{path:?}");
            assert_eq!(canonical(form), Some(Cow::Borrowed(form)), "{form:?}");
        }
        for path in [
            "",
            "a",
            "*",
            "/%",
            "/%4",
            "/%zz",
            "/%+1",
            "/%ff",
            "/%c0%af",
            "/%e0%80%af",
            "/%c0%ae",
            "/%ed%a0%80",
            "/%2f",
            "/a%2Fb",
            "/%5c",
            "/a\\b",
            "/%00",
            "/a\0",
        ] {
            assert_eq!(canonical(path), None, "{path:?}");
        }
    }

    #[test]
    fn a_route_is_matched_in_the_canonical_form() {
        for (path, form) in [
            ("/", "/"),
            ("/a/", "/a/"),
            ("/é b/{é b}/{*rest}", "/%C3%A9%20b/{é b}/{*rest}"),
            ("/%61/{a}x%2d", "/a/{a}x-"),
            ("/{{a}}", "/%7Ba%7D"),
            ("/{a", "/{a"),
            ("/{a}.{b}", "/{a}.{b}"),
        ] {
            assert_eq!(pattern(path).as_deref(), Some(form), "{path:?}");
        }
        for path in ["//a", "/a//b", "/a/..", "/%2e/a", "/a%2fb", "/a\\b", "/%zz"] {
            assert_eq!(pattern(path), None, "{path:?}");
        }
    }
}
