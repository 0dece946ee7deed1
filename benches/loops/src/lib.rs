//! What the benchmarks of this package share: a common interface to our backends, and figures.
//!
//! It needs the system's GLib, which the `peers` package does not.

use entwined::{Handle, Standalone};
use glib::MainContext;

/// A reactor and the loop that it runs in.
pub struct Host {
    /// The reactor's handle.
    pub handle: Handle,
    iterate: Box<dyn FnMut()>,
}

impl Host {
    /// Creates a reactor with its own loop.
    pub fn standalone() -> Self {
        let reactor = Standalone::new().expect("a reactor");
        Host {
            handle: reactor.handle(),
            iterate: Box::new(move || reactor.turn(None).expect("a turn")),
        }
    }

    /// Creates a reactor in a GLib main context.
    pub fn glib() -> Self {
        let context = MainContext::new();
        let attachment = entwined_glib::attach(&context).expect("a reactor");
        Host {
            handle: attachment.handle(),
            iterate: Box::new(move || {
                // The attachment lives as long as the loop does.
                let _ = &attachment;
                context.iteration(true);
            }),
        }
    }

    /// Creates a reactor in a calloop loop.
    pub fn calloop() -> Self {
        let mut event_loop = calloop::EventLoop::<()>::try_new().expect("a loop");
        let attachment = entwined_calloop::attach(&event_loop.handle()).expect("a reactor");
        Host {
            handle: attachment.keep(),
            iterate: Box::new(move || event_loop.dispatch(None, &mut ()).expect("an iteration")),
        }
    }

    /// Iterates the loop until `done` returns true. The loop waits for events if it has nothing to
    /// do.
    pub fn run_until(mut self, done: impl Fn() -> bool) {
        while !done() {
            (self.iterate)();
        }
    }
}

/// A candidate to measure: its name, and the function that measures it.
pub type Contestant<Task, Figures> = (&'static str, fn(Task) -> Figures);

/// Returns the number on the command line, or `default`: how much to measure.
pub fn amount(default: usize) -> usize {
    std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(default)
}

/// Returns the value that this share of all `values` does not exceed. Sorts them.
///
/// # Panics
/// Panics if there are no values.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// Prints a Markdown table: a name in the first column, figures in the others.
pub fn print_table(head: &[&str], rows: &[Vec<String>]) {
    println!("\n| {} |", head.join(" | "));
    println!("|---|{}", "---:|".repeat(head.len() - 1));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_count_from_the_least() {
        let mut values = [3.0, 1.0, 2.0];
        assert_eq!(
            [0.0, 0.5, 0.99].map(|share| percentile(&mut values, share)),
            [1.0, 2.0, 3.0]
        );
    }
}
