//! Ctrl-C, which Windows tells a thread of its own.

use std::{
    io,
    process::exit,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use crate::{notice::Notice, reactor::Handle};

/// A signal: only Ctrl-C.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Signal(());

impl Signal {
    /// Ctrl-C or Ctrl-Break in the program's console. If the console's window is closed, Windows
    /// ends the program at once.
    pub const INT: Signal = Signal(());
}

/// The exit status of a program that Ctrl-C has ended: STATUS_CONTROL_C_EXIT.
const ENDED_BY_CTRL_C: i32 = 0xC000_013A_u32 as i32;

/// The system's half of [`Signals`](super::Signals).
pub(super) struct Signals(Arc<Notice>);

impl Signals {
    pub(super) fn new(_: &Handle, _: Signal) -> io::Result<Self> {
        let mut watched = lock(&WATCHED);
        if !watched.has_handler {
            ctrlc::try_set_handler(tell_all).map_err(io::Error::other)?;
            watched.has_handler = true;
        }
        let notice = Arc::<Notice>::default();
        watched.notices.push(notice.clone());
        Ok(Signals(notice))
    }

    pub(super) fn signal(&self) -> Signal {
        Signal::INT
    }

    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll(cx).map(Ok)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        lock(&WATCHED)
            .notices
            .retain(|notice| !Arc::ptr_eq(notice, &self.0));
    }
}

/// The handler belongs to the process and is never removed. So it does itself what Windows would do
/// while nobody watches.
static WATCHED: Mutex<Watched> = Mutex::new(Watched {
    has_handler: false,
    notices: Vec::new(),
});

struct Watched {
    has_handler: bool,
    notices: Vec<Arc<Notice>>,
}

fn tell_all() {
    let notices = lock(&WATCHED).notices.clone();
    if notices.is_empty() {
        exit(ENDED_BY_CTRL_C);
    }
    for notice in notices {
        notice.tell();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
