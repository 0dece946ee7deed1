//! PROXY protocol headers.
#![no_main]

use entwined::proxy::Header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(Some((header, length))) = Header::parse(input) else {
        return;
    };
    assert_eq!(
        Header::parse(&input[..length]),
        Ok(Some((header.clone(), length))),
        "the bytes after it matter"
    );
    for end in 0..length {
        assert_eq!(
            Header::parse(&input[..end]),
            Ok(None),
            "the first {end} bytes are enough, or wrong"
        );
    }
    let mut written = Vec::new();
    header
        .encode_v2(&mut written)
        .expect("it was short enough to be read");
    assert_eq!(
        Header::parse(&written),
        Ok(Some((header, written.len()))),
        "it is not read as it was written"
    );
});
