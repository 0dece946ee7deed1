//! The conformance suite on the GLib main loop. Each test has its own main context.

use std::time::{Duration, Instant};

use glib::{MainContext, Priority};

mod host;

use host::{GlibHost, Kind};

/// A frame at 60 Hz.
const FRAME: Duration = Duration::from_micros(16_667);

struct Plain;

impl Kind for Plain {
    const NAME: &'static str = "glib";

    fn context() -> MainContext {
        MainContext::new()
    }

    type Dialog = ();

    fn open_dialog() {}

    /// Uses a timer at the priority of GDK's redraw. GLib's timers have whole milliseconds and
    /// count from when the last one fired, even if that was late.
    fn draw_frames(host: &GlibHost<Self>, mut draw: Box<dyn FnMut() -> bool>) {
        let mut next = Instant::now();
        let look = move || {
            if Instant::now() < next {
                return true;
            }
            next = (next + FRAME).max(Instant::now());
            draw()
        };
        host.every(
            Duration::from_millis(1),
            Priority::from(120),
            Box::new(look),
        );
    }
}

entwined_conformance::conformance!(GlibHost<Plain>);
