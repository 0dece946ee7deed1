//! Errors and warnings that no caller can receive.

use std::{
    fmt,
    io::{self, Write},
};

use tracing::{dispatcher, subscriber::NoSubscriber};

pub(crate) fn error(what: fmt::Arguments<'_>) {
    tracing::error!("{what}");
    to_stderr(what);
}

pub(crate) fn warning(what: fmt::Arguments<'_>) {
    tracing::warn!("{what}");
    to_stderr(what);
}

/// Writes a line to standard error if this thread has no `tracing` subscriber, so that no error
/// goes unseen because a program does not use `tracing`.
///
/// The line is written in one call, so that lines of several threads do not mix.
fn to_stderr(what: fmt::Arguments<'_>) {
    if dispatcher::get_default(|dispatch| dispatch.is::<NoSubscriber>()) {
        // If this fails, there is no other place to report to.
        let _ = io::stderr().write_all(format!("entwined: {what}\n").as_bytes());
    }
}
