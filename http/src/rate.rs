//! How fast a peer has to be.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::config::Config;
use entwined::{reactor::Handle, task::Sleep};

/// The least rate, and how long a peer may be below it.
#[derive(Clone, Copy)]
pub(super) struct Least {
    bytes: u32,
    grace: Duration,
}

impl Least {
    pub(super) fn of(config: &Config) -> Self {
        Least {
            bytes: config.min_rate,
            grace: config.rate_grace,
        }
    }

    /// When a peer that has moved so many bytes since then must have moved another one; never
    /// without a limit.
    pub(super) fn due(self, since: Instant, moved: u64) -> Option<Instant> {
        if self.bytes == 0 {
            return None;
        }
        since
            .checked_add(self.grace + Duration::from_secs_f64(moved as f64 / f64::from(self.bytes)))
    }
}

/// Follows one transfer, as long as it waits for its peer.
pub(super) struct Meter {
    least: Least,
    moved: u64,
    /// Since it has first waited.
    since: Option<Instant>,
    sleep: Option<Sleep>,
}

impl Meter {
    pub(super) fn new(least: Least) -> Self {
        Meter {
            least,
            moved: 0,
            since: None,
            sleep: None,
        }
    }

    pub(super) fn moved(&mut self, bytes: usize) {
        self.moved += bytes as u64;
    }

    /// The transfer waits for its peer: ready when that is too slow.
    pub(super) fn poll_too_slow(&mut self, cx: &mut Context<'_>, handle: &Handle) -> Poll<()> {
        let now = handle.now();
        let since = *self.since.get_or_insert(now);
        let Some(due) = self.least.due(since, self.moved) else {
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| handle.sleep_until(due));
        if sleep.deadline() != due {
            sleep.reset(due);
        }
        Pin::new(sleep).poll(cx)
    }
}
