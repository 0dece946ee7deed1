//! The reactor watches a child's pidfd, as it does any fd.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use super::{child::Child, reaper};
use crate::reactor::{Direction, Handle, Interest, Registration};

/// Hears of the exit of a child.
pub(in crate::process) struct Exits(Registration<Arc<Child>>);

impl Exits {
    pub(in crate::process) fn new(handle: &Handle, child: &Arc<Child>) -> io::Result<Self> {
        let watched = Registration::new(handle, child.clone(), Interest::READABLE)?;
        Ok(Exits(watched))
    }

    /// Waits until the child has exited.
    pub(in crate::process) async fn next(&self) {
        self.0.ready(Direction::Read).await;
    }

    /// Leaves the child to the thread that reaps what outlives its reactor's run.
    pub(in crate::process) fn leave(&self) {
        reaper::reap(self.0.object().clone());
    }
}

/// Its pidfd, which is readable once it has exited.
impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.identity.as_fd()
    }
}
