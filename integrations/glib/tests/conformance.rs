//! The conformance suite on the GLib main loop, in a main context of its own for each test.

use entwined::testing::Harness;
use glib::MainContext;

mod host;

use host::GlibHost;

#[derive(Clone)]
struct Glib(GlibHost);

impl Harness for Glib {
    const NAME: &'static str = "glib";

    fn new() -> Self {
        Glib(GlibHost::new(&MainContext::new()))
    }

    fn another(&self) -> Self {
        Glib(self.0.another())
    }

    host::forward!();

    /// By a loop inside the loop, as a modal dialog makes it.
    fn nest(&self, end: entwined::testing::End) -> Result<(), entwined::reactor::Stopped> {
        self.0.nest(end, || ())
    }
}

entwined::conformance!(Glib);
