//! Windows.

/// The standard library has nothing for this.
pub fn give_way() {}
