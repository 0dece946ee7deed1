//! A thread for each child, which waits for its exit and tells the reactor of it. The thread reaps
//! the child only if the reactor's run is over: as long as it goes on, that is the reactor's, so
//! that nothing is sent to an ID that was reaped.

use std::{
    future::poll_fn,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::Child;
use crate::{notice::Notice, reactor::Handle, sys::take_no_signals};

/// The waiting thread makes a few calls.
const STACK: usize = 128 * 1024;

/// Hears of the exit of a child.
pub(in crate::process) struct Exits {
    child: Arc<Child>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    notice: Notice,
    /// The child has exited, or nobody can tell.
    over: AtomicBool,
    /// The run is over, and the child is the thread's.
    left: AtomicBool,
}

impl Exits {
    pub(in crate::process) fn new(_: &Handle, child: &Arc<Child>) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (theirs, waited_for) = (shared.clone(), child.clone());
        thread::Builder::new()
            .name("entwined-exit".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                take_no_signals();
                waited_for.wait();
                theirs.over.store(true, Ordering::SeqCst);
                theirs.notice.tell();
                if theirs.left.load(Ordering::SeqCst) {
                    waited_for.try_wait();
                }
            })?;
        let child = child.clone();
        Ok(Exits { child, shared })
    }

    /// Waits until the child has exited.
    pub(in crate::process) async fn next(&self) {
        poll_fn(|cx| self.shared.notice.poll(cx)).await;
    }

    /// Leaves the child to the thread.
    pub(in crate::process) fn leave(&self) {
        self.shared.left.store(true, Ordering::SeqCst);
        // The thread may have looked at that before it was set.
        if self.shared.over.load(Ordering::SeqCst) {
            self.child.try_wait();
        }
    }
}
