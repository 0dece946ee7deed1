//! Frames that end in a delimiter.
#![no_main]

use entwined::framing::Delimited;
use fuzz::{Case, reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], Case<'_>)| {
    let (delimiter, case) = input;
    if delimiter.is_empty() {
        return;
    }
    let limit = case.limit.bytes();
    let framing = Delimited::new(delimiter, limit);
    case.check(
        &framing,
        limit,
        delimiter.len(),
        reference::delimited(delimiter, limit, case.input),
    );
});
