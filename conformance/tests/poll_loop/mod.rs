//! A backend over poll(2): level-triggered, without a selector or a timer in the kernel. Readiness
//! is reported once, and then not polled again until [`rearm`](Reactor::rearm) is called.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use entwined::{
    Handle, Reactor,
    reactor::{Driver, Event, Interest, Key, LifeError, Notify, Readiness},
};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
};

/// A loop of its own over poll(2).
pub struct PollLoop {
    driver: Driver,
}

impl PollLoop {
    pub fn new() -> io::Result<Self> {
        Ok(PollLoop {
            driver: Driver::new(Poll::new()?, ()),
        })
    }

    pub fn handle(&self) -> Handle {
        self.driver.handle()
    }

    pub fn turn(&self, wait: Option<Duration>) -> Result<(), LifeError> {
        if !self.driver.is_running() {
            self.driver.start()?;
        }
        self.driver.turn(wait).expect("poll(2) works");
        Ok(())
    }

    pub fn run(&self) -> Result<(), LifeError> {
        self.driver.start()?;
        while self.driver.is_running() {
            self.turn(None)?;
        }
        Ok(())
    }
}

struct Poll {
    sources: RefCell<BTreeMap<Key, Source>>,
    deadline: Cell<Option<Instant>>,
    wake: Arc<Wake>,
}

struct Source {
    /// A duplicate, because the borrowed fd cannot be kept.
    fd: OwnedFd,
    /// The directions to poll. A reported direction is removed until it is armed again.
    armed: Interest,
}

impl Poll {
    fn new() -> io::Result<Self> {
        let wake = Wake(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        Ok(Poll {
            sources: RefCell::default(),
            deadline: Cell::new(None),
            wake: Arc::new(wake),
        })
    }

    /// How long to sleep: at most `timeout`, and not past the deadline.
    fn sleep(&self, timeout: Option<Duration>) -> Option<Timespec> {
        let until_deadline = self
            .deadline
            .get()
            .map(|at| at.saturating_duration_since(Instant::now()));
        let sleep = [timeout, until_deadline].into_iter().flatten().min()?;
        // Centuries count as forever.
        let seconds = i64::try_from(sleep.as_secs()).ok()?;
        Some(Timespec {
            tv_sec: seconds,
            tv_nsec: sleep.subsec_nanos().into(),
        })
    }
}

impl Reactor for Poll {
    fn watch(&self, fd: BorrowedFd<'_>, key: Key, interest: Interest) -> io::Result<()> {
        let source = Source {
            fd: fd.try_clone_to_owned()?,
            armed: interest,
        };
        self.sources.borrow_mut().insert(key, source);
        Ok(())
    }

    fn rearm(&self, _fd: BorrowedFd<'_>, key: Key, interest: Interest) -> io::Result<()> {
        let mut sources = self.sources.borrow_mut();
        let source = sources.get_mut(&key).ok_or(io::ErrorKind::NotFound)?;
        source.armed = source.armed | interest;
        Ok(())
    }

    fn unwatch(&self, _fd: BorrowedFd<'_>, key: Key) -> io::Result<()> {
        self.sources.borrow_mut().remove(&key);
        Ok(())
    }

    fn select(&self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let mut sources = self.sources.borrow_mut();
        // A source with nothing armed is left out, or a hangup would be reported again and again.
        let armed: Vec<_> = sources
            .iter()
            .filter(|source| !source.1.armed.is_empty())
            .collect();
        let mut fds = vec![PollFd::new(&self.wake.0, PollFlags::IN)];
        fds.extend(
            armed
                .iter()
                .map(|(_, source)| PollFd::new(&source.fd, flags(source.armed))),
        );
        match poll(&mut fds, self.sleep(timeout).as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if !fds[0].revents().is_empty() {
            self.wake.clear();
        }
        let told = armed
            .iter()
            .zip(&fds[1..])
            .filter(|(_, fd)| !fd.revents().is_empty());
        let first = events.len();
        events.extend(told.map(|((key, _), fd)| Event {
            key: **key,
            readiness: readiness(fd.revents()),
        }));
        for event in &events[first..] {
            if let Some(source) = sources.get_mut(&event.key) {
                source.armed = source.armed.without(told_interest(event.readiness));
            }
        }
        Ok(())
    }

    fn set_deadline(&self, deadline: Option<Instant>) {
        self.deadline.set(deadline);
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        self.wake.clone()
    }
}

fn flags(interest: Interest) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(
        PollFlags::IN | PollFlags::RDHUP,
        interest.intersects(Interest::READABLE),
    );
    flags.set(PollFlags::OUT, interest.intersects(Interest::WRITABLE));
    flags
}

fn readiness(flags: PollFlags) -> Readiness {
    let bits = [
        (PollFlags::IN, Readiness::READABLE),
        (PollFlags::OUT, Readiness::WRITABLE),
        (PollFlags::RDHUP, Readiness::READ_CLOSED),
        (
            PollFlags::HUP,
            Readiness::READ_CLOSED | Readiness::WRITE_CLOSED,
        ),
        (PollFlags::ERR | PollFlags::NVAL, Readiness::ERROR),
    ];
    bits.into_iter()
        .filter(|bit| flags.intersects(bit.0))
        .fold(Readiness::EMPTY, |all, bit| all | bit.1)
}

/// The directions that the core now assumes to be ready.
fn told_interest(readiness: Readiness) -> Interest {
    let readable = if readiness.is_readable() {
        Interest::READABLE
    } else {
        Interest::EMPTY
    };
    let writable = if readiness.is_writable() {
        Interest::WRITABLE
    } else {
        Interest::EMPTY
    };
    readable | writable
}

/// Wakes the loop: an eventfd(2) that is readable while somebody has asked for a turn.
struct Wake(OwnedFd);

impl Wake {
    fn clear(&self) {
        // It does not matter if it is empty.
        let _ = rustix::io::read(self.0.as_fd(), &mut [0; 8]);
    }
}

impl Notify for Wake {
    fn notify(&self) {
        // If it is full, it is already readable.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}
