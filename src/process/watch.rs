//! Watches for the exit of a process.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::{
    exit::{Exit, ExitError},
    sys::{Child, Exits},
};
use crate::reactor::Handle;

/// Waits for a child. The child is reaped in every case.
pub(super) struct Watch {
    handle: Handle,
    child: Arc<Child>,
    exits: Exits,
    exit: Rc<Exit>,
    /// Whether the child ends with the run.
    kill_on_drop: bool,
    reaped: bool,
}

impl Watch {
    pub(super) fn new(
        handle: &Handle,
        child: Arc<Child>,
        exits: Exits,
        exit: Rc<Exit>,
        kill_on_drop: bool,
    ) -> Self {
        Watch {
            handle: handle.clone(),
            child,
            exits,
            exit,
            kill_on_drop,
            reaped: false,
        }
    }

    pub(super) async fn run(mut self) {
        self.exits.next().await;
        let mut pause = Duration::from_millis(10);
        let status = loop {
            match self.child.try_wait() {
                Some(status) => break status,
                // It has exited, but its debugger has not heard of it yet. A pidfd does not report
                // that.
                None => self.handle.sleep(pause).await,
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
        if self.kill_on_drop {
            self.child.kill_or_warn();
        }
        self.exits.leave();
        self.exit.set(Err(ExitError::Stopped));
    }
}
