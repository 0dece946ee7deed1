//! Windows.

use std::io;

/// Nothing limits the number of handles before memory does.
pub fn allow_file_descriptors(_: usize) {}

/// Whether this is what the first read of a connection says that nobody serves. Wine ends a
/// connection before it resets it.
pub fn is_turned_away(read: &io::Result<usize>) -> bool {
    matches!(read, Err(_) | Ok(0))
}
