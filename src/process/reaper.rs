//! Reaps children that outlive their reactor's run, so that none of them stays a zombie. One thread
//! waits for all of them. It starts with the first child and ends with the last.

use std::{
    io,
    os::fd::OwnedFd,
    process::Child,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

static ORPHANS: Mutex<Orphans> = Mutex::new(Orphans {
    children: Vec::new(),
    bell: None,
});

struct Orphans {
    /// The children with their pidfds, which report their exits.
    children: Vec<(Arc<OwnedFd>, Child)>,
    /// Wakes the thread, if it runs, when a child is added.
    bell: Option<Arc<OwnedFd>>,
}

/// Reaps a child as soon as it has exited.
pub(super) fn reap(mut child: Child, pidfd: &OwnedFd) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    let result = pidfd.try_clone().and_then(|pidfd| {
        let mut orphans = lock();
        orphans.children.push((Arc::new(pidfd), child));
        match &orphans.bell {
            Some(bell) => drop(rustix::io::write(bell, &1_u64.to_ne_bytes())?),
            None => {
                let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
                let heard = bell.clone();
                thread::Builder::new()
                    .name("entwined-reaper".to_owned())
                    .spawn(move || wait(&heard))?;
                orphans.bell = Some(bell);
            }
        }
        Ok::<_, io::Error>(())
    });
    if let Err(error) = result {
        tracing::error!(%error, "cannot watch a child process; it may become a zombie");
    }
}

fn wait(bell: &OwnedFd) {
    loop {
        let mut orphans = lock();
        orphans
            .children
            .retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
        if orphans.children.is_empty() {
            orphans.bell = None;
            return;
        }
        let pidfds: Vec<_> = orphans
            .children
            .iter()
            .map(|(pidfd, _)| pidfd.clone())
            .collect();
        drop(orphans);
        let mut fds: Vec<_> = pidfds
            .iter()
            .map(|pidfd| PollFd::new(&**pidfd, PollFlags::IN))
            .collect();
        fds.push(PollFd::new(bell, PollFlags::IN));
        // Whatever `poll` reports, the loop checks the children next.
        let rung = poll(&mut fds, None).is_ok()
            && fds.pop().is_some_and(|bell| !bell.revents().is_empty());
        if rung {
            let _ = rustix::io::read(bell, &mut [0_u8; 8]);
        }
    }
}

fn lock() -> MutexGuard<'static, Orphans> {
    ORPHANS.lock().unwrap_or_else(PoisonError::into_inner)
}
