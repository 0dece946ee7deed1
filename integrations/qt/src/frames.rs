//! Reports the frames of Qt's windows to the reactor.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use entwined::{Handle, reactor::FrameClock};

/// Used if the screen does not report its rate.
const HERTZ: f64 = 60.0;

pub(crate) struct Frames {
    network: Handle,
    /// By address.
    windows: RefCell<HashMap<usize, FrameClock>>,
}

impl Frames {
    pub(crate) fn new(network: Handle) -> Self {
        Frames {
            network,
            windows: RefCell::default(),
        }
    }

    /// A window begins to draw, on a screen with this rate, or 0 if that is not known.
    pub(crate) fn begin(&self, window: usize, hertz: f64) {
        let hertz = if hertz >= 1.0 { hertz } else { HERTZ };
        self.windows
            .borrow_mut()
            .entry(window)
            .or_insert_with(|| self.network.frame_clock())
            .begin(Duration::from_secs_f64(1.0 / hertz));
    }

    pub(crate) fn end(&self, window: usize) {
        if let Some(clock) = self.windows.borrow().get(&window) {
            clock.end();
        }
    }

    pub(crate) fn forget(&self, window: usize) {
        let clock = self.windows.borrow_mut().remove(&window);
        drop(clock);
    }
}
