//! Sleeps and timeouts for futures.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use crate::{
    reactor::{Handle, WakeTimer},
    share,
};

impl Handle {
    /// A future that ends after `delay`.
    pub fn sleep(&self, delay: Duration) -> Sleep {
        self.sleep_until(self.after(delay))
    }

    /// A future that ends at an instant of the reactor's [clock](Handle::now).
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep::new(self.clone(), deadline)
    }

    /// Gives `future` so much time: the result is [`Elapsed`](crate::task::Elapsed) when it has not
    /// ended by then, and it is dropped with the [`Timeout`].
    pub fn timeout<F: Future>(&self, limit: Duration, future: F) -> Timeout<F> {
        self.timeout_at(self.after(limit), future)
    }

    /// Gives `future` time until an instant; see [`timeout`](Handle::timeout).
    pub fn timeout_at<F: Future>(&self, deadline: Instant, future: F) -> Timeout<F> {
        Timeout::new(future, self.sleep_until(deadline))
    }
}

/// Waits until an instant. Made by [`Handle::sleep`] and [`Handle::sleep_until`].
#[must_use = "a future does nothing until it is awaited"]
pub struct Sleep {
    timer: WakeTimer,
    deadline: Instant,
}

impl Sleep {
    pub(crate) fn new(handle: Handle, deadline: Instant) -> Self {
        Sleep {
            timer: WakeTimer::new(handle),
            deadline,
        }
    }

    /// Returns the instant at which the sleep ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Moves the deadline earlier or later, even if it has passed. Moving it later costs almost
    /// nothing.
    pub fn reset(&mut self, deadline: Instant) {
        self.deadline = deadline;
        self.timer.reset(deadline);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        // The turn that expires the timer has its own time at least at the deadline.
        if self.timer.handle().turn_time() >= deadline {
            return Poll::Ready(());
        }
        self.timer.wait(deadline, cx.waker());
        Poll::Pending
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("deadline", &self.deadline)
            .finish()
    }
}

pin_project_lite::pin_project! {
    /// A future with a timeout. Created by [`Handle::timeout`] and [`Handle::timeout_at`].
    ///
    /// The future is polled first: if its result is available, it counts, even after the deadline.
    #[must_use = "a future does nothing until it is awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        sleep: Sleep,
        // Whether it was polled after the deadline when the task had no share left.
        extended: bool,
    }
}

impl<F> Timeout<F> {
    pub(crate) fn new(future: F, sleep: Sleep) -> Self {
        Timeout {
            future,
            sleep,
            extended: false,
        }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(value) = this.future.poll(cx) {
            return Poll::Ready(Ok(value));
        }
        ready!(Pin::new(this.sleep).poll(cx));
        // Its result may be there, and the task may have had no share left to take it. Once more,
        // with a new one; a future that uses that up as well is late.
        if !*this.extended && !share::spend(0) {
            *this.extended = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Err(Elapsed))
    }
}

/// The timeout expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit passed")
    }
}

impl std::error::Error for Elapsed {}
