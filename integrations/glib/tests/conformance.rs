//! The conformance suite on the GLib main loop, in a main context of its own for each test.

use std::time::Duration;

use glib::{MainContext, Priority};

mod host;

use host::{GlibHost, Kind};

struct Plain;

impl Kind for Plain {
    const NAME: &'static str = "glib";

    fn context() -> MainContext {
        MainContext::new()
    }

    type Dialog = ();

    fn open_dialog() {}

    /// By a timer at the priority of GDK's redraw.
    fn draw_frames(host: &GlibHost<Self>, draw: Box<dyn FnMut() -> bool>) {
        host.every(Duration::from_millis(16), Priority::from(120), draw);
    }
}

entwined::conformance!(GlibHost<Plain>);
