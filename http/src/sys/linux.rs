//! Linux: getrandom(2), which needs no other crate.

/// Fills `bytes` with bytes that nobody can guess.
pub(crate) fn fill_random(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        // It blocks until the system's generator is seeded, which happens before programs start.
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .unwrap_or(0);
    }
}
