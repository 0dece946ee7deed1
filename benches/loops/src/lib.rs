//! What the benchmarks of this package share: our backends behind one face, and figures.
//!
//! It needs the system's GLib, which the package beside it (`peers`) does without.

use entwined::{Handle, Standalone};
use glib::MainContext;

/// A reactor and the loop that it lives in.
pub struct Host {
    /// Of the reactor.
    pub handle: Handle,
    iterate: Box<dyn FnMut()>,
}

impl Host {
    /// The reactor with a loop of its own.
    pub fn standalone() -> Self {
        let reactor = Standalone::new().expect("a reactor");
        Host {
            handle: reactor.handle(),
            iterate: Box::new(move || reactor.turn(None).expect("a turn")),
        }
    }

    /// In a GLib main context.
    pub fn glib() -> Self {
        let context = MainContext::new();
        let attachment = entwined_glib::attach(&context).expect("a reactor");
        Host {
            handle: attachment.handle(),
            iterate: Box::new(move || {
                // It lives as long as the loop does.
                let _ = &attachment;
                context.iteration(true);
            }),
        }
    }

    /// In a calloop loop.
    pub fn calloop() -> Self {
        let mut event_loop = calloop::EventLoop::<()>::try_new().expect("a loop");
        let inserted = entwined_calloop::insert(&event_loop.handle()).expect("a reactor");
        Host {
            handle: inserted.handle,
            iterate: Box::new(move || event_loop.dispatch(None, &mut ()).expect("an iteration")),
        }
    }

    /// Iterates the loop, which waits for events when it has nothing to do, until `done` says so.
    pub fn run_until(mut self, done: impl Fn() -> bool) {
        while !done() {
            (self.iterate)();
        }
    }
}

/// What is measured: its name, and how.
pub type Contestant<Task, Figures> = (&'static str, fn(Task) -> Figures);

/// The number on the command line, if there is one: how much to measure.
pub fn amount(default: usize) -> usize {
    std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(default)
}

/// The value that this share of all `values` does not exceed. Sorts them.
///
/// # Panics
/// When there are none.
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
