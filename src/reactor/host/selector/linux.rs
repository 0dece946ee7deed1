//! All sources behind one file descriptor: epoll, with a timerfd and an eventfd in it.

use std::{
    cell::RefCell,
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Token, unix::SourceFd};
use rustix::{
    event::{PollFd, PollFlags, poll},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

use super::{EVENTS, FETCHES, MioNotify, WAKER, event, interests, token};
use crate::{
    log,
    reactor::backend::{Event, Interest, Key, Notify},
};

const TIMER: Token = Token(usize::MAX - 1);

/// A [`mio::Poll`] that contains everything a reactor needs: the watched sources, a deadline and a
/// notifier.
///
/// The selector itself is one file descriptor ([`AsFd`]). It is readable exactly while there are
/// events inside it that have not been fetched. A host's loop watches this fd **level-triggered**
/// (a nested epoll instance loses events if it is watched edge-triggered), and makes a turn when it
/// is readable. The deadline is a timerfd (timerfd_create(2)) in the set, so it has the kernel
/// timer's precision, whatever the precision of the host's own sleep.
///
/// A shared selector (`Rc<Selector>`) is a [`Reactor`](crate::reactor::Reactor). Keep a clone of it
/// for the loop.
pub struct Selector {
    inner: RefCell<Inner>,
    /// A second fd for the same epoll instance: sources come and go while `inner` is borrowed, and
    /// the host can borrow this fd.
    registry: mio::Registry,
    waker: Arc<MioNotify>,
    timer: OwnedFd,
}

struct Inner {
    poll: mio::Poll,
    events: mio::Events,
}

impl Selector {
    pub(super) const REPORTS_PRIORITY: bool = true;

    /// Makes an empty selector.
    ///
    /// # Errors
    /// Fails if the process or the system is out of file descriptors. A selector uses four.
    pub fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let waker = Arc::new(MioNotify(mio::Waker::new(poll.registry(), WAKER)?));
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        poll.registry().register(
            &mut SourceFd(&timer.as_raw_fd()),
            TIMER,
            mio::Interest::READABLE,
        )?;
        let registry = poll.registry().try_clone()?;
        let inner = RefCell::new(Inner {
            poll,
            events: mio::Events::with_capacity(EVENTS),
        });
        Ok(Selector {
            inner,
            registry,
            waker,
            timer,
        })
    }

    /// See [`Reactor::watch`](crate::reactor::Reactor::watch).
    pub fn watch(&self, fd: BorrowedFd<'_>, key: Key, interest: Interest) -> io::Result<()> {
        let mut interests = interests(interest);
        if interests.is_readable() {
            interests |= mio::Interest::PRIORITY;
        }
        self.registry
            .register(&mut SourceFd(&fd.as_raw_fd()), token(key), interests)
    }

    /// See [`Reactor::rearm`](crate::reactor::Reactor::rearm). Does nothing: events are edges here.
    // It is fallible on other systems.
    pub fn rearm(&self, _fd: BorrowedFd<'_>, _key: Key, _interest: Interest) -> io::Result<()> {
        Ok(())
    }

    /// See [`Reactor::unwatch`](crate::reactor::Reactor::unwatch).
    pub fn unwatch(&self, fd: BorrowedFd<'_>, _key: Key) -> io::Result<()> {
        self.registry.deregister(&mut SourceFd(&fd.as_raw_fd()))
    }

    /// See [`Reactor::select`](crate::reactor::Reactor::select).
    pub fn select(&self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let Inner {
            poll,
            events: taken,
        } = &mut *self.inner.borrow_mut();
        let mut timeout = timeout;
        // Fetch everything now, because deadlines are checked afterwards: data whose event is still
        // in the kernel would count as not received.
        for _ in 0..FETCHES {
            match poll.poll(taken, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
                result => result?,
            }
            // The waker and the timer have served their purpose by ending the wait.
            let sources = taken
                .iter()
                .filter(|event| event.token() != WAKER && event.token() != TIMER);
            events.extend(sources.map(event));
            if taken.iter().count() < EVENTS {
                break;
            }
            timeout = Some(Duration::ZERO);
        }
        Ok(())
    }

    /// See [`Reactor::set_deadline`](crate::reactor::Reactor::set_deadline).
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        // A zero value would disarm the timer, so a deadline in the past becomes one nanosecond.
        let value = deadline.map_or(Duration::ZERO, |at| {
            at.saturating_duration_since(Instant::now())
                .max(Duration::from_nanos(1))
        });
        // The kernel counts seconds in an i64; a longer delay is cut to that.
        let seconds = i64::try_from(value.as_secs()).unwrap_or(i64::MAX);
        let spec = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: seconds,
                tv_nsec: value.subsec_nanos().into(),
            },
        };
        if let Err(error) = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec) {
            log::error(format_args!(
                "the timer of a selector cannot be set, so timers will be late: {error}"
            ));
        }
    }

    /// See [`Reactor::notifier`](crate::reactor::Reactor::notifier).
    pub fn notifier(&self) -> Arc<dyn Notify> {
        self.waker.clone()
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selector")
            .field("fd", &self.as_raw_fd())
            .finish_non_exhaustive()
    }
}

impl AsFd for Selector {
    /// The fd that a host watches. It stays the same, and open, for the lifetime of the selector.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registry.as_fd()
    }
}

impl AsRawFd for Selector {
    /// The raw number of [`as_fd`](AsFd::as_fd), for FFI.
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// What a thread other than the loop's waits for.
pub(in crate::reactor::host) struct Waiter(OwnedFd);

impl Waiter {
    pub(in crate::reactor::host) fn new(selector: &Selector) -> io::Result<Self> {
        Ok(Waiter(selector.as_fd().try_clone_to_owned()?))
    }

    /// Waits until the selector has events. They stay there.
    pub(in crate::reactor::host) fn wait(&self) -> io::Result<()> {
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None)?;
        Ok(())
    }
}
