//! Systems other than Linux: kinds that they do not have are errors that say so.

use super::super::{Arguments, Kinds, ParseError};

#[cfg(unix)]
const ABSENT: &[&str] = &["fd", "systemd"];
#[cfg(windows)]
const ABSENT: &[&str] = &["fd", "stdio", "systemd", "unix"];

pub(super) fn add(kinds: &mut Kinds) {
    #[cfg(unix)]
    super::unix::add(kinds);
    for kind in ABSENT {
        kinds.add_server(kind, absent);
        kinds.add_client(kind, absent);
    }
}

fn absent<T>(arguments: &mut Arguments<'_>) -> Result<T, ParseError> {
    let what = format!("there are no such endpoints on {}", std::env::consts::OS);
    Err(arguments.error(0, what))
}
