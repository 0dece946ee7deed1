//! Reports the frame clocks of GTK's windows to the reactor.

use std::{cell::Cell, rc::Rc, time::Duration};

use entwined::Handle;
use gtk4::{Window, gio, prelude::*};

pub(crate) struct Frames {
    network: Handle,
    following: Cell<bool>,
}

impl Frames {
    pub(crate) fn new(network: Handle) -> Rc<Self> {
        Rc::new(Frames {
            network,
            following: Cell::new(false),
        })
    }

    /// Follows all current and future windows. GTK must be initialized.
    pub(crate) fn follow(self: &Rc<Self>) {
        if self.following.replace(true) {
            return;
        }
        let windows = Window::toplevels();
        self.follow_windows(&windows, 0..windows.n_items());
        let frames = Rc::downgrade(self);
        windows.connect_items_changed(move |windows, position, _, added| {
            if let Some(frames) = frames.upgrade() {
                frames.follow_windows(windows, position..position + added);
            }
        });
    }

    fn follow_windows(self: &Rc<Self>, windows: &gio::ListModel, positions: std::ops::Range<u32>) {
        for window in
            positions.filter_map(|position| windows.item(position)?.downcast::<Window>().ok())
        {
            if window.is_realized() {
                self.follow_clock(&window);
            }
            // A window gets another clock each time it is realized.
            let frames = Rc::downgrade(self);
            window.connect_realize(move |window| {
                if let Some(frames) = frames.upgrade() {
                    frames.follow_clock(window);
                }
            });
        }
    }

    fn follow_clock(&self, window: &Window) {
        let Some(surface) = window.surface() else {
            return;
        };
        // Owned by GDK's clock, and dropped with it.
        let clock = Rc::new(self.network.frame_clock());
        let source = surface.frame_clock();
        source.connect_before_paint({
            let clock = clock.clone();
            move |source| {
                let (interval, _) = source.refresh_info(source.frame_time());
                clock.begin(Duration::from_micros(interval.unsigned_abs()));
            }
        });
        source.connect_after_paint(move |_| clock.end());
    }
}
