//! The conformance suite on the GLib main loop, in a main context of its own for each test.

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

    /// By a timer at the priority of GDK's redraw. GLib's timers are of whole milliseconds and
    /// count from when the last was late.
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
