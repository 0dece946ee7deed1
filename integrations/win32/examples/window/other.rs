//! Systems other than Windows.

use std::error::Error;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    Err("this window is one of Windows; `cargo xtask cross` runs it under Wine".into())
}
