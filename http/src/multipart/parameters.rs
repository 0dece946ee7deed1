//! The values of headers with parameters: RFC 9110, 5.6.6, and RFC 8187.

use std::fmt;

/// What is wrong with a form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong(pub(super) &'static str);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The parameters of a header; names in lower case, each of them once.
pub(super) struct Parameters(Vec<(String, String)>);

/// More parameters than anybody sends. It keeps the search for a second one of a name short.
const MAX_PARAMETERS: usize = 32;

impl Parameters {
    /// Splits a header into what comes first, and its parameters.
    pub(super) fn parse(value: &str) -> Result<(&str, Self), Wrong> {
        let (kind, mut rest) = value.split_once(';').unwrap_or((value, ""));
        let mut all: Vec<(String, String)> = Vec::new();
        loop {
            rest = rest.trim_start_matches([' ', '\t', ';']);
            if rest.is_empty() {
                return Ok((kind.trim(), Parameters(all)));
            }
            let (name, after) = rest
                .split_once('=')
                .ok_or(Wrong("a parameter has no value"))?;
            let name = name.trim().to_ascii_lowercase();
            if name.is_empty() || name.contains([' ', '\t', '"', ';', ',']) {
                return Err(Wrong("a parameter has a malformed name"));
            }
            let after = after.trim_start();
            let (text, after) = match after.strip_prefix('"') {
                Some(quoted) => unquote(quoted)?,
                None => {
                    let end = after.find(';').unwrap_or(after.len());
                    (after[..end].trim_end().to_owned(), &after[end..])
                }
            };
            if all.len() == MAX_PARAMETERS || all.iter().any(|(other, _)| *other == name) {
                return Err(Wrong("a header has a parameter twice, or too many"));
            }
            all.push((name, text));
            rest = after.trim_start();
            if !rest.is_empty() && !rest.starts_with(';') {
                return Err(Wrong("a parameter is followed by something else"));
            }
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(other, _)| other == name)?;
        Some(&found.1)
    }

    /// A value with a charset and percent-encoding: RFC 8187, 3.2. `None` if it is malformed.
    pub(super) fn find_extended(&self, name: &str) -> Option<String> {
        let (charset, rest) = self.find(name)?.split_once('\'')?;
        let (_language, text) = rest.split_once('\'')?;
        let bytes = crate::percent::decode_bytes(text)?;
        if charset.eq_ignore_ascii_case("utf-8") {
            String::from_utf8(bytes).ok()
        } else if charset.eq_ignore_ascii_case("iso-8859-1") {
            Some(bytes.into_iter().map(char::from).collect())
        } else {
            None
        }
    }
}

/// Reads a quoted string from behind its first quote; returns what comes after it. A backslash is
/// only taken away before a quote or another one: some clients send paths of Windows as they are.
/// Nor is it before the last quote: browsers escape no backslash, so a name may end in one.
fn unquote(text: &str) -> Result<(String, &str), Wrong> {
    let mut unquoted = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return Ok((unquoted, &text[place + 1..])),
            '\\' => match characters.next_if(|(place, next)| match next {
                '"' => text[place + 1..].contains('"'),
                next => *next == '\\',
            }) {
                Some((_, escaped)) => unquoted.push(escaped),
                None => unquoted.push('\\'),
            },
            _ => unquoted.push(character),
        }
    }
    Err(Wrong("a quoted string has no end"))
}
