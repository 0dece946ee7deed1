//! Frames with a length prefix.
#![no_main]

use entwined::framing::{Prefixed, Width};
use fuzz::{Case, reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, Case<'_>)| {
    let (width, case) = input;
    let (width, bytes, most) = match width % 3 {
        0 => (Width::U8, 1, usize::from(u8::MAX)),
        1 => (Width::U16, 2, usize::from(u16::MAX)),
        _ => (Width::U32, 4, u32::MAX as usize),
    };
    let limit = case.limit.bytes().min(most).min(usize::MAX / 2);
    let framing = Prefixed::new(width, case.limit.bytes());
    case.check(
        &framing,
        limit,
        bytes,
        reference::prefixed(bytes, limit, case.input),
    );
});
