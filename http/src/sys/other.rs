//! Other systems.

/// Fills `bytes` with bytes that nobody can guess.
///
/// # Panics
/// If the system has none.
pub(crate) fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("random bytes from the system");
}
