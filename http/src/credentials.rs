//! The user name and the password in a URL, as a header.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{HeaderValue, percent};

/// Returns the value of `Authorization`, if there is a name or a password. A URL has them
/// percent-encoded (RFC 3986, 3.2.1), the header has not (RFC 7617).
///
/// # Errors
/// What is wrong with them.
pub(super) fn basic(name: &str, password: &str) -> Result<Option<HeaderValue>, &'static str> {
    if name.is_empty() && password.is_empty() {
        return Ok(None);
    }
    let decoded = |text: &str| percent::decode(text).unwrap_or_else(|| text.to_owned());
    pair(&decoded(name), &decoded(password)).map(Some)
}

/// The same for a name and a password that are not encoded.
///
/// # Errors
/// As [`basic`].
pub(super) fn pair(name: &str, password: &str) -> Result<HeaderValue, &'static str> {
    if name.contains(':') {
        // The server would take what comes behind it for a part of the password (RFC 7617, 2).
        return Err("a user name cannot contain a colon");
    }
    if [name, password]
        .iter()
        .any(|text| text.contains(|it: char| it.is_ascii_control()))
    {
        return Err("a user name and a password cannot contain control characters");
    }
    let pair = STANDARD.encode(format!("{name}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {pair}")).expect("Base64 is ASCII");
    value.set_sensitive(true);
    Ok(value)
}
