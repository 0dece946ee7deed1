//! Signals of Unix: the process's handler writes to a pipe that the reactor watches.

use std::{
    io::{self, Read},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

/// A signal. Real-time signals have no constant here.
pub use rustix::process::Signal;
use signal_hook::{SigId, flag, low_level};

use crate::{
    reactor::{Direction, Handle, Interest, Registration},
    table::Table,
};

/// The system's half of [`Signals`](super::Signals).
pub(super) struct Signals {
    source: Registration<UnixStream>,
    notice: Notice,
}

impl Signals {
    pub(super) fn new(handle: &Handle, signal: Signal) -> io::Result<Self> {
        let (source, notified) = UnixStream::pair()?;
        source.set_nonblocking(true)?;
        let source = Registration::new(handle, source, Interest::READABLE)?;
        Ok(Signals {
            source,
            notice: Notice::new(signal, notified.into())?,
        })
    }

    pub(super) fn signal(&self) -> Signal {
        self.notice.signal
    }

    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut arrivals = [0; 256];
        ready!(
            self.source
                .poll_io(cx, Direction::Read, |mut pipe| pipe.read(&mut arrivals))
        )?;
        Poll::Ready(Ok(()))
    }
}

/// A pipe that the process's signal handler writes to.
struct Notice {
    signal: Signal,
    id: SigId,
}

impl Notice {
    fn new(signal: Signal, pipe: OwnedFd) -> io::Result<Self> {
        let number = signal.as_raw();
        if signal_hook::consts::FORBIDDEN.contains(&number) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "this signal cannot be watched",
            ));
        }
        let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        if !watched.contains(&number) {
            let default = Arc::new(AtomicBool::new(true));
            if has_default_effect(number) {
                flag::register_conditional_default(number, default.clone())?;
            }
            watched.insert(
                number,
                Watchers {
                    number: AtomicUsize::new(0),
                    default,
                },
            );
        }
        let registered = low_level::pipe::register_raw(number, pipe);
        if let Some(entry) = watched.get(&number) {
            entry.count(|number| number + usize::from(registered.is_ok()));
        }
        let id = registered?;
        Ok(Notice { signal, id })
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        low_level::unregister(self.id);
        if let Some(entry) = watched.get(&self.signal.as_raw()) {
            entry.count(|number| number - 1);
        }
    }
}

/// A signal handler belongs to the process and cannot be removed. So what it does while nobody
/// watches is stored for the whole process.
static WATCHED: Mutex<Table<i32, Watchers>> = Mutex::new(Table::new());

struct Watchers {
    /// Changed only while the table is locked.
    number: AtomicUsize,
    /// Whether the handler makes the signal take its default effect.
    default: Arc<AtomicBool>,
}

impl Watchers {
    fn count(&self, change: impl FnOnce(usize) -> usize) {
        let number = change(self.number.load(Ordering::SeqCst));
        self.number.store(number, Ordering::SeqCst);
        self.default.store(number == 0, Ordering::SeqCst);
    }
}

/// Returns whether the program neither handles nor ignores the signal (proc(5), `SigIgn` and
/// `SigCgt`). Where nothing says so, as on macOS, it is taken for true: Ctrl-C must end a program
/// that no longer watches it.
fn has_default_effect(signal: i32) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return true;
    };
    let is_in = |set: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(set)?.strip_prefix(':'));
        let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
    };
    !is_in("SigIgn") && !is_in("SigCgt")
}
