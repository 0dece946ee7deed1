//! Netstrings.
#![no_main]

use entwined::framing::Netstrings;
use fuzz::{Case, reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|case: Case<'_>| {
    let limit = case.limit.bytes().min(usize::MAX / 2);
    let framing = Netstrings::new(case.limit.bytes());
    case.check(
        &framing,
        limit,
        limit.to_string().len() + 1,
        reference::netstrings(limit, case.input),
    );
});
