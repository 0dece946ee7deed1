//! All sources behind one file descriptor.

use std::{
    cell::RefCell,
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Token, unix::SourceFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::{
    log,
    reactor::backend::{Event, Interest, Key, Notify, Reactor, Readiness},
};

const WAKER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

/// Events fetched by one system call.
const EVENTS: usize = 1024;

/// System calls that one select may take. More events than these fetch wait in the kernel for the
/// next turn.
const FETCHES: usize = 64;

/// A [`mio::Poll`] with everything a reactor needs inside it: the watched sources, a deadline and a
/// notifier.
///
/// The selector is itself one file descriptor ([`AsFd`]), readable exactly while something inside
/// it has happened that was not yet fetched. A host loop watches that one fd, **level-triggered**
/// (a selector inside another loses events when it is watched by edges), and makes a turn when it
/// is readable. The deadline is a timerfd (timerfd_create(2)) in the set, so it is precise to the
/// kernel's timer, whatever the precision of the host's own sleep.
///
/// A shared one (`Rc<Selector>`) is a whole [`Reactor`] for a loop that asks
/// [`Driver::next_turn`](super::Driver::next_turn) each time before it sleeps.
pub struct Selector {
    inner: RefCell<Inner>,
    /// Another fd of the same epoll instance: sources come and go while `inner` is borrowed, and a
    /// host can borrow it.
    registry: mio::Registry,
    waker: Arc<MioNotify>,
    timer: OwnedFd,
}

struct Inner {
    poll: mio::Poll,
    events: mio::Events,
}

impl Selector {
    /// A selector with nothing in it.
    ///
    /// # Errors
    /// When the process or the system is out of file descriptors (it takes four).
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
        let interest = match (
            interest.intersects(Interest::READABLE),
            interest.intersects(Interest::WRITABLE),
        ) {
            (true, true) => mio::Interest::READABLE | mio::Interest::WRITABLE,
            (_, false) => mio::Interest::READABLE,
            (false, true) => mio::Interest::WRITABLE,
        };
        let token = Token(key.to_u64() as usize);
        self.registry
            .register(&mut SourceFd(&fd.as_raw_fd()), token, interest)
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
        // All that is there, since deadlines are judged after it: what was left in the kernel would
        // look as if it had not come.
        for _ in 0..FETCHES {
            match poll.poll(taken, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
                result => result?,
            }
            // The waker and the timer have done their work by ending the wait.
            let sources = taken
                .iter()
                .filter(|event| event.token() != WAKER && event.token() != TIMER);
            events.extend(sources.map(|event| Event {
                key: Key::from_u64(event.token().0 as u64),
                readiness: readiness(event),
            }));
            if taken.iter().count() < EVENTS {
                break;
            }
            timeout = Some(Duration::ZERO);
        }
        Ok(())
    }

    /// See [`Reactor::set_deadline`](crate::reactor::Reactor::set_deadline).
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        // A zero time would disarm the timer, so what is past due is due in a nanosecond.
        let value = deadline.map_or(Duration::ZERO, |at| {
            at.saturating_duration_since(Instant::now())
                .max(Duration::from_nanos(1))
        });
        // The kernel counts seconds in an i64; a deadline beyond that is none.
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
    /// The fd that a host watches. It stays the same, and open, as long as the selector lives.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registry.as_fd()
    }
}

impl AsRawFd for Selector {
    /// The number of [`as_fd`](AsFd::as_fd), for foreign functions.
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Reactor for Rc<Selector> {
    fn watch(&self, fd: BorrowedFd<'_>, key: Key, interest: Interest) -> io::Result<()> {
        (**self).watch(fd, key, interest)
    }

    fn unwatch(&self, fd: BorrowedFd<'_>, key: Key) -> io::Result<()> {
        (**self).unwatch(fd, key)
    }

    fn select(&self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        (**self).select(timeout, events)
    }

    fn set_deadline(&self, deadline: Option<Instant>) {
        (**self).set_deadline(deadline);
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        (**self).notifier()
    }

    /// Nothing of this thread runs between the answer of
    /// [`Driver::next_turn`](super::Driver::next_turn) and the sleep.
    fn request_turn(&self) {}
}

/// The selector owns the waker: one that is dropped after a wake-up would take the wake-up with it.
struct MioNotify(mio::Waker);

impl Notify for MioNotify {
    fn notify(&self) {
        if let Err(error) = self.0.wake() {
            log::error(format_args!(
                "a reactor could not be woken from another thread: {error}"
            ));
        }
    }
}

fn readiness(event: &mio::event::Event) -> Readiness {
    let bits = [
        (event.is_readable(), Readiness::READABLE),
        (event.is_writable(), Readiness::WRITABLE),
        (event.is_read_closed(), Readiness::READ_CLOSED),
        (event.is_write_closed(), Readiness::WRITE_CLOSED),
        (event.is_error(), Readiness::ERROR),
    ];
    bits.into_iter()
        .filter(|bit| bit.0)
        .fold(Readiness::EMPTY, |all, bit| all | bit.1)
}
