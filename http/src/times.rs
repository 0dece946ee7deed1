//! Times that no clock reaches, and times that are over at once.

use std::time::{Duration, Instant};

/// Thirty years: within the range of every clock.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// The shortest time between two looks at something that is late after a while, however short that
/// is.
pub(super) const MIN_LOOK: Duration = Duration::from_millis(10);

/// How long a peer to which nothing can be written is still heard: it may have said why.
#[cfg(any(feature = "client", feature = "websocket"))]
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

/// The instant `delay` after another. A limit may be [`Duration::MAX`], which means for ever.
pub(super) fn later(instant: Instant, delay: Duration) -> Instant {
    instant
        .checked_add(delay)
        .unwrap_or_else(|| instant + FOREVER)
}
