//! What the windows of `cargo xtask bench gui` share: their options, the measurement of their
//! frames, and tokio's thread.
//!
//! Each window is the shortest fair program of its kind. A request's handler sets a label (or, if
//! the toolkit has none, the text that the next frame draws), and answers when that is done. The
//! window draws each frame in any case.

mod hopping;
mod load;

use std::{
    cell::{Cell, RefCell},
    error::Error,
    net::SocketAddr,
    time::{Duration, Instant},
};

pub use hopping::{Said, Told, serve as serve_on_tokio};
pub use load::begin as begin_load;
use rustix::time::{ClockId, clock_gettime};

/// Which server runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// None.
    Idle,
    /// Entwined, in the window's thread.
    Ours,
    /// hyper on tokio in a separate thread. It asks the window's thread to set the label, and
    /// answers when that is done.
    Tokio,
    /// The same, but it answers at once; the label is set some time later.
    TokioPosts,
}

/// Work besides requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// None.
    None,
    /// 200,000 calls posted by another thread, once a second.
    Posts,
    /// A task that is always ready, in steps of 20 µs.
    Task,
}

/// The command line.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Which server runs.
    pub who: Who,
    /// The address to serve on.
    pub http: SocketAddr,
    /// How long the window stays open.
    pub seconds: u64,
    /// Extra processor time that each frame takes.
    pub cost: Duration,
    /// Work besides requests.
    pub load: Load,
    /// How often the display shows a frame in a second.
    pub hertz: f64,
}

impl Options {
    /// Parses this process's arguments.
    ///
    /// # Errors
    /// Returns what is wrong with them.
    pub fn parse() -> Result<Self, Box<dyn Error>> {
        let mut arguments = std::env::args().skip(1);
        let who = match arguments.next().as_deref() {
            Some("idle") => Who::Idle,
            Some("ours") => Who::Ours,
            Some("tokio") => Who::Tokio,
            Some("tokio-posts") => Who::TokioPosts,
            other => {
                return Err(
                    format!("who serves: idle, ours, tokio or tokio-posts, not {other:?}").into(),
                );
            }
        };
        let http = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut options = Options {
            who,
            http,
            seconds: 10,
            cost: Duration::ZERO,
            load: Load::None,
            hertz: 60.0,
        };
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--http" => options.http = value.parse()?,
                "--seconds" => options.seconds = value.parse()?,
                "--hertz" => options.hertz = value.parse()?,
                "--cost" => options.cost = Duration::from_millis(value.parse()?),
                "--load" => {
                    options.load = match value.as_str() {
                        "none" => Load::None,
                        "posts" => Load::Posts,
                        "task" => Load::Task,
                        other => return Err(format!("no such load: {other}").into()),
                    }
                }
                other => return Err(format!("unknown option {other:?}").into()),
            }
        }
        Ok(options)
    }
}

/// Does the work of an animation's frame: uses this much processor time on this thread.
pub fn spend(cost: Duration) {
    let used = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
    let start = used();
    while used() - start < cost {}
}

/// The frames of a window.
#[derive(Default)]
pub struct Frames {
    drawn: RefCell<Vec<Instant>>,
    number: Cell<u64>,
}

/// Nothing is measured at the beginning and at the end, while the window opens and the load starts
/// and stops.
const BEFORE: Duration = Duration::from_millis(1_500);
const AFTER: Duration = Duration::from_millis(1_000);

impl Frames {
    /// Records that a frame was drawn.
    pub fn drawn(&self) {
        self.number.set(self.number.get() + 1);
        self.drawn.borrow_mut().push(Instant::now());
    }

    /// Returns the number of frames.
    pub fn number(&self) -> u64 {
        self.number.get()
    }

    /// Prints the gaps between frames as one line of JSON. `hertz` is how many the display shows in
    /// a second.
    pub fn report(&self, hertz: f64) {
        let drawn = self.drawn.borrow();
        let (Some(&first), Some(&last)) = (drawn.first(), drawn.last()) else {
            return;
        };
        let counts = |at: &Instant| *at >= first + BEFORE && *at + AFTER <= last;
        let counted: Vec<_> = drawn.iter().filter(|at| counts(at)).collect();
        let mut gaps: Vec<f64> = counted
            .windows(2)
            .map(|pair| (*pair[1] - *pair[0]).as_secs_f64() * 1e3)
            .collect();
        gaps.sort_by(f64::total_cmp);
        let at = |share: f64| {
            gaps.get((gaps.len() as f64 * share) as usize)
                .copied()
                .unwrap_or_default()
        };
        let lost: u64 = gaps
            .iter()
            .map(|gap| ((gap * hertz / 1e3).round() as u64).saturating_sub(1))
            .sum();
        println!(
            r#"{{"frames":{},"lost":{lost},"p50":{:.2},"p99":{:.2},"max":{:.2}}}"#,
            gaps.len(),
            at(0.5),
            at(0.99),
            gaps.last().copied().unwrap_or_default(),
        );
    }
}
