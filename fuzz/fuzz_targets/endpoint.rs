//! Endpoint descriptions.
#![no_main]

use entwined::endpoint::{self, ParseError};
use libfuzzer_sys::fuzz_target;

fn check(error: &ParseError, text: &str) {
    assert_eq!(error.text, text);
    assert!(
        text.is_char_boundary(error.at),
        "{} is not a position in {text:?}",
        error.at
    );
    assert!(!error.what.is_empty());
    let told = error.to_string();
    assert_eq!(told.lines().count(), 3, "{told}");
}

fuzz_target!(|text: &str| {
    if let Err(error) = endpoint::server(text) {
        check(&error, text);
    }
    if let Err(error) = endpoint::client(text) {
        check(&error, text);
    }
});
