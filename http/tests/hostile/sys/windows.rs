//! Windows.

/// The standard library has nothing for this.
pub fn give_way() {}

/// Windows does not say.
pub fn steal() -> u64 {
    0
}
