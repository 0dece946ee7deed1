//! Tracks when the windows draw, so that the network does not delay them.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    time::Duration,
};

use entwined::{Handle, reactor::FrameClock};
use winit::{
    event::WindowEvent,
    event_loop::{ActiveEventLoop, ControlFlow},
    window::WindowId,
};

/// Used if the display does not report its rate: 60 Hz.
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 60);

pub(crate) struct Frames {
    handle: Handle,
    windows: RefCell<HashMap<WindowId, FrameClock>>,
    /// The clock for when the application wants the thread.
    wanted: FrameClock,
    /// The frame interval of the fastest monitor; `None` until it is needed.
    interval: Cell<Option<Duration>>,
}

impl Frames {
    pub(crate) fn new(handle: Handle) -> Self {
        let wanted = handle.frame_clock();
        Frames {
            handle,
            windows: RefCell::default(),
            wanted,
            interval: Cell::new(None),
        }
    }

    /// Passes an event to a window, and times it if it is a redraw.
    pub(crate) fn during(
        &self,
        event_loop: &ActiveEventLoop,
        window: WindowId,
        event: WindowEvent,
        give: impl FnOnce(WindowEvent),
    ) {
        match event {
            WindowEvent::RedrawRequested => {
                let interval = self.interval(event_loop);
                self.windows
                    .borrow_mut()
                    .entry(window)
                    .or_insert_with(|| self.handle.frame_clock())
                    .begin(interval);
                give(event);
                if let Some(clock) = self.windows.borrow().get(&window) {
                    clock.end();
                }
            }
            WindowEvent::Destroyed => {
                self.windows.borrow_mut().remove(&window);
                give(event);
            }
            // The window may be on another monitor now.
            WindowEvent::ScaleFactorChanged { .. } => {
                self.interval.take();
                give(event);
            }
            event => give(event),
        }
    }

    /// Records when the application wants to be called again.
    pub(crate) fn wants(&self, control_flow: ControlFlow) {
        self.wanted.expect(match control_flow {
            ControlFlow::WaitUntil(at) => Some(at),
            ControlFlow::Wait | ControlFlow::Poll => None,
        });
    }

    fn interval(&self, event_loop: &ActiveEventLoop) -> Duration {
        let ask = || {
            let rates = event_loop
                .available_monitors()
                .filter_map(|monitor| monitor.refresh_rate_millihertz());
            let fastest = rates.max().filter(|&rate| rate > 0);
            fastest.map_or(INTERVAL, |rate| {
                Duration::from_secs_f64(1e3 / f64::from(rate))
            })
        };
        let interval = self.interval.get().unwrap_or_else(ask);
        self.interval.set(Some(interval));
        interval
    }
}
