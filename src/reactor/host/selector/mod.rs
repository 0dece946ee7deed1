//! All sources behind one object that can be waited for.
//!
//! There are two selectors. On Linux, everything is in one epoll instance, also the deadline, so a
//! host can watch its file descriptor. Elsewhere, the deadline bounds the wait. The configuration
//! `entwined_portable` builds the second on Linux too, so that the conformance suite can run on it:
//! `RUSTFLAGS="--cfg entwined_portable"`.

#[cfg(all(target_os = "linux", not(entwined_portable)))]
mod linux;
#[cfg(any(not(target_os = "linux"), entwined_portable))]
mod portable;

#[cfg(all(target_os = "linux", not(entwined_portable)))]
pub use self::linux::Selector;
#[cfg(all(target_os = "linux", not(entwined_portable)))]
pub(super) use self::linux::Waiter;
#[cfg(any(not(target_os = "linux"), entwined_portable))]
pub use self::portable::Selector;
#[cfg(any(not(target_os = "linux"), entwined_portable))]
pub(super) use self::portable::Waiter;

use std::{
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::Token;

use crate::{
    log,
    reactor::backend::{Event, Interest, Key, Notify, Reactor, Readiness, Source},
};

const WAKER: Token = Token(usize::MAX);

/// Events fetched by one system call.
const EVENTS: usize = 1024;

/// System calls that one `select` may make. Events beyond what these fetch wait in the kernel for
/// the next turn.
const FETCHES: usize = 64;

impl Reactor for Rc<Selector> {
    fn watch(&self, source: Source<'_>, key: Key, interest: Interest) -> io::Result<()> {
        (**self).watch(source, key, interest)
    }

    fn rearm(&self, source: Source<'_>, key: Key, interest: Interest) -> io::Result<()> {
        (**self).rearm(source, key, interest)
    }

    fn unwatch(&self, source: Source<'_>, key: Key) -> io::Result<()> {
        (**self).unwatch(source, key)
    }

    fn select(&self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        (**self).select(timeout, events)
    }

    fn reports_priority(&self) -> bool {
        Selector::REPORTS_PRIORITY
    }

    fn set_deadline(&self, deadline: Option<Instant>) {
        (**self).set_deadline(deadline);
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        (**self).notifier()
    }
}

/// The selector owns the waker: dropping a waker after a wake-up would lose that wake-up.
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

fn token(key: Key) -> Token {
    Token(key.to_u64() as usize)
}

fn interests(interest: Interest) -> mio::Interest {
    match (
        interest.intersects(Interest::READABLE),
        interest.intersects(Interest::WRITABLE),
    ) {
        (true, true) => mio::Interest::READABLE | mio::Interest::WRITABLE,
        (_, false) => mio::Interest::READABLE,
        (false, true) => mio::Interest::WRITABLE,
    }
}

fn event(event: &mio::event::Event) -> Event {
    let bits = [
        (event.is_readable(), Readiness::READABLE),
        (event.is_writable(), Readiness::WRITABLE),
        (event.is_read_closed(), Readiness::READ_CLOSED),
        (event.is_write_closed(), Readiness::WRITE_CLOSED),
        (event.is_error(), Readiness::ERROR),
        (event.is_priority(), Readiness::PRIORITY),
    ];
    let readiness = bits
        .into_iter()
        .filter(|bit| bit.0)
        .fold(Readiness::EMPTY, |all, bit| all | bit.1);
    Event {
        key: Key::from_u64(event.token().0 as u64),
        readiness,
    }
}
