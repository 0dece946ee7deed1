//! Unix.

use std::io;

/// Raises this process's limit if it is too low for a test.
pub fn allow_file_descriptors(count: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let count = count as u64;
    if limit.current.is_some_and(|current| current < count) {
        let raised = Rlimit {
            current: Some(count),
            ..limit
        };
        setrlimit(Resource::Nofile, raised)
            .unwrap_or_else(|error| panic!("{count} file descriptors are needed: {error}"));
    }
}

/// Whether this is what the first read of a connection says that nobody serves.
pub fn is_turned_away(read: &io::Result<usize>) -> bool {
    read.is_err()
}
