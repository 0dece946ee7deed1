//! Lines, with raw bytes between them.
#![no_main]

use entwined::framing::Lines;
use fuzz::{Case, reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|case: Case<'_>| {
    let limit = case.limit.bytes();
    // A CR may be kept too.
    case.check(
        &Lines::new(limit),
        limit,
        1,
        reference::lines(limit, case.input),
    );
});
