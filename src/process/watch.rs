//! Watches for the exit of a process.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::{
    child::Child,
    exit::{Exit, ExitError},
    reaper,
};
use crate::reactor::{Direction, Registration};

/// Waits for a child. The child is reaped in every case.
pub(super) struct Watch {
    child: Registration<Arc<Child>>,
    exit: Rc<Exit>,
    /// Whether the child ends with the run.
    kill_on_drop: bool,
    reaped: bool,
}

impl Watch {
    pub(super) fn new(child: Registration<Arc<Child>>, exit: Rc<Exit>, kill_on_drop: bool) -> Self {
        Watch {
            child,
            exit,
            kill_on_drop,
            reaped: false,
        }
    }

    pub(super) async fn run(mut self) {
        self.child.ready(Direction::Read).await;
        let mut pause = Duration::from_millis(10);
        let status = loop {
            match self.child.object().try_wait() {
                Some(status) => break status,
                // It has exited, but its debugger has not heard of it yet. The pidfd does not
                // report that.
                None => self.child.handle().sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_secs(1));
        };
        self.reaped = true;
        self.exit.set(status);
    }
}

impl Drop for Watch {
    /// Unless the child is reaped, the reactor's run is over.
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        let child = self.child.object();
        if self.kill_on_drop {
            child.kill_or_warn();
        }
        reaper::reap(child.clone());
        self.exit.set(Err(ExitError::Stopped));
    }
}
