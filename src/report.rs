//! How errors print when `main` returns them.

use std::{error::Error, fmt};

/// Writes an error as `Debug`: its message, and the causes that the message does not contain.
///
/// `fn main() -> Result<(), Box<dyn Error>>` prints an error by `Debug`. The derived text shows
/// fields instead of the message, so the errors that usually end there use this.
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
