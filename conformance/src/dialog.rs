//! A modal dialog, for harnesses.

use std::{cell::Cell, rc::Rc};

use entwined::{Handle, reactor::WaitError};

use super::End;

/// Runs a modal dialog of the host inside a callback of the reactor, for
/// [`Harness::nest`](super::Harness::nest).
///
/// `exec` shows the dialog and returns when it is closed, as Qt's `QDialog::exec` does. Meanwhile
/// it runs the host's loop. `close` closes the dialog, and wakes its loop if that may be asleep. It
/// is called inside that loop, when `end` is ready or when the reactor's run ends.
///
/// # Errors
/// Returns [`WaitError::Stopped`] if the reactor's run ended first.
pub fn nest_in_dialog(
    handle: &Handle,
    end: End,
    exec: impl FnOnce(),
    close: impl FnOnce() + 'static,
) -> Result<(), WaitError> {
    if !handle.is_running() {
        return Err(WaitError::Stopped);
    }
    let ended = Rc::new(Cell::new(false));
    let (close, tell) = (OnDrop(Some(close)), ended.clone());
    handle.spawn(async move {
        // Dropped with the task at the end of the run at the latest.
        let _close = close;
        end.await;
        tell.set(true);
    });
    exec();
    if ended.get() {
        Ok(())
    } else {
        Err(WaitError::Stopped)
    }
}

struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(function) = self.0.take() {
            function();
        }
    }
}
