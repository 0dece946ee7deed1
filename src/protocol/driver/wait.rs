//! Waiting for the peer, within limits.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use super::{Driver, Step};
use crate::protocol::Lost;

impl Driver {
    /// Notes that the peer has done something, or need not.
    pub(super) fn moved(&self) {
        let shared = &self.connection.shared;
        shared.moved.set(shared.handle.turn_time());
    }

    /// Waits until something moves, or the connection has been idle for too long.
    pub(super) fn wait_for_peer(&mut self, cx: &mut Context<'_>) -> Result<Step, Lost> {
        let shared = &self.connection.shared;
        let limit = shared.config.get().idle_timeout;
        let Some(due) = limit.and_then(|limit| shared.moved.get().checked_add(limit)) else {
            self.idle = None;
            return Ok(Step::Wait);
        };
        let handle = &shared.handle;
        let sleep = self.idle.get_or_insert_with(|| handle.sleep_until(due));
        // It is moved when it fires, not for each byte.
        while Pin::new(&mut *sleep).poll(cx).is_ready() {
            if due <= handle.now() {
                return Err(Lost::Idle);
            }
            sleep.reset(due);
        }
        if due < sleep.deadline() {
            sleep.reset(due);
            cx.waker().wake_by_ref();
        }
        Ok(Step::Wait)
    }

    /// Waits for the peer, within a time limit.
    pub(super) fn wait(
        &mut self,
        cx: &mut Context<'_>,
        limit: Duration,
        too_long: fn() -> Lost,
    ) -> Result<Step, Lost> {
        let handle = &self.connection.shared.handle;
        let patience = self.patience.get_or_insert_with(|| handle.sleep(limit));
        match Pin::new(patience).poll(cx) {
            Poll::Ready(()) => Err(too_long()),
            Poll::Pending => Ok(Step::Wait),
        }
    }

    /// This side has closed, and the peer has not taken everything yet.
    pub(super) fn linger(&mut self, cx: &mut Context<'_>) -> Result<Step, Lost> {
        let limit = self.connection.shared.config.get().close_timeout;
        self.wait(cx, limit, || Lost::Stuck)
    }
}
