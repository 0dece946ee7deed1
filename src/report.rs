//! How errors print when `main` returns them.

use std::{error::Error, fmt};

/// Formats an error for `Debug`: its message, and those causes that the message does not contain.
///
/// `fn main() -> Result<(), Box<dyn Error>>` prints an error with `Debug`. The derived output shows
/// fields instead of the message, so errors that often reach `main` use this function.
pub(crate) fn debug(error: &dyn Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    f.write_str(&text)
}
