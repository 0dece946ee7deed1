//! The names of this crate's work in metrics and reports.

use std::sync::OnceLock;

use entwined::reactor::Label;

/// The labels of HTTP servers. All servers of the process share them.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Labels {
    /// One poll of a connection's exchange, including the layers around all handlers but not the
    /// handlers.
    pub connection: Label,
    /// A handler: its call, or one poll of its future. It runs inside another callback, and is
    /// timed separately.
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
