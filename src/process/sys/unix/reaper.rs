//! Reaps children that outlive their reactor's run, so that none of them stays a zombie. One thread
//! waits for all of them. It starts with the first child and ends with the last.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::child::Child;
use crate::sys;

static ORPHANS: Mutex<Orphans> = Mutex::new(Orphans {
    children: Vec::new(),
    bell: None,
});

struct Orphans {
    children: Vec<Arc<Child>>,
    /// Wakes the thread, if it runs, when a child is added.
    bell: Option<Arc<OwnedFd>>,
}

/// Reaps a child as soon as it has exited.
pub(super) fn reap(child: Arc<Child>) {
    if child.try_wait().is_some() {
        return;
    }
    let mut orphans = lock();
    orphans.children.push(child);
    let result = match &orphans.bell {
        Some(bell) => rustix::io::write(bell, &1_u64.to_ne_bytes())
            .map(drop)
            .map_err(io::Error::from),
        None => start().map(|bell| orphans.bell = Some(bell)),
    };
    if let Err(error) = result {
        tracing::error!(%error, "cannot watch a child process; it may become a zombie");
    }
}

/// Starts the thread. Returns its bell.
fn start() -> io::Result<Arc<OwnedFd>> {
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
    let heard = bell.clone();
    thread::Builder::new()
        .name("entwined-reaper".to_owned())
        .spawn(move || {
            sys::take_no_signals();
            wait(&heard)
        })?;
    Ok(bell)
}

fn wait(bell: &OwnedFd) {
    let mut waited_for = 0;
    loop {
        let mut orphans = lock();
        orphans.children.retain(|child| child.try_wait().is_none());
        if orphans.children.is_empty() {
            orphans.bell = None;
            return;
        }
        let children = orphans.children.clone();
        drop(orphans);
        if waited_for == children.len() {
            // One has exited, but its debugger has not heard of it yet. Its pidfd is readable all
            // the while.
            ring(bell, &[], Some(&RETRY));
            waited_for = 0;
            continue;
        }
        waited_for = match ring(bell, &children, None) {
            true => 0,
            false => children.len(),
        };
    }
}

/// How long to wait for a debugger.
const RETRY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Waits for the bell and the exits of `children`. Returns whether the bell has rung.
fn ring(bell: &OwnedFd, children: &[Arc<Child>], limit: Option<&Timespec>) -> bool {
    let mut fds = vec![PollFd::new(bell, PollFlags::IN)];
    fds.extend(
        children
            .iter()
            .map(|child| PollFd::new(&**child, PollFlags::IN)),
    );
    // Whatever `poll` reports, the caller checks the children next.
    let rung = poll(&mut fds, limit).is_ok() && !fds[0].revents().is_empty();
    if rung {
        let _ = rustix::io::read(bell, &mut [0_u8; 8]);
    }
    rung
}

fn lock() -> MutexGuard<'static, Orphans> {
    ORPHANS.lock().unwrap_or_else(PoisonError::into_inner)
}
