//! The minimum rate of a peer.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    config::Config,
    unread::{Grace, Unread},
};
use entwined::{reactor::Handle, task::Sleep};

/// The minimum rate, and how long a peer may stay below it.
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

    /// When a peer that has moved this many bytes since `since` must have moved the next one.
    /// `None` if there is no limit.
    pub(super) fn due(self, since: Instant, moved: u64) -> Option<Instant> {
        if self.bytes == 0 {
            return None;
        }
        since
            .checked_add(self.grace)?
            .checked_add(Duration::from_secs_f64(
                moved as f64 / f64::from(self.bytes),
            ))
    }
}

/// Measures one transfer while it waits for its peer.
pub(super) struct Meter {
    least: Least,
    moved: u64,
    /// When the transfer first had to wait.
    since: Option<Instant>,
    sleep: Option<Sleep>,
    unread: Rc<Unread>,
    grace: Grace,
}

impl Meter {
    pub(super) fn new(least: Least, unread: Rc<Unread>) -> Self {
        Meter {
            least,
            moved: 0,
            since: None,
            sleep: None,
            unread,
            grace: Grace::default(),
        }
    }

    pub(super) fn moved(&mut self, bytes: usize) {
        self.moved += bytes as u64;
    }

    /// Called when the transfer waits for its peer. Ready if the peer is too slow.
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
        if Pin::new(sleep).poll(cx).is_pending() {
            self.grace.reset();
            return Poll::Pending;
        }
        self.grace.poll_late(cx, handle, &self.unread)
    }
}
