//! The names of this crate's work in figures and reports.

use std::sync::OnceLock;

use entwined::reactor::Label;

/// The kinds of work of HTTP servers. They are the same for all servers of the process.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Labels {
    /// One poll of a connection's exchange, and the layers around all handlers; without the
    /// handlers.
    pub connection: Label,
    /// A handler: its call, or one poll of its future. It runs within another callback, and is
    /// timed by itself.
    pub handler: Label,
}

/// The labels of HTTP servers, for [`Metrics::share`](entwined::reactor::Metrics::share).
pub fn labels() -> Labels {
    static LABELS: OnceLock<Labels> = OnceLock::new();
    *LABELS.get_or_init(|| Labels {
        connection: Label::new("HTTP connection"),
        handler: Label::new("HTTP handler"),
    })
}
