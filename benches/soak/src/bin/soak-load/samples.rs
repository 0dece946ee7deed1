//! The window's process once a second, and the verdict.

use std::{fmt, fs, net::SocketAddr, time::Duration};

use entwined::Handle;
use entwined_http::client::Client;
use soak::Figures;

use crate::Outcome;

/// How much more memory the process may have in the last rest than in the first one, in KiB.
const MEMORY: u64 = 32 * 1024;

/// Frames may be lost at this rate, one in so many. `bench gui` loses none, with a load that is
/// even.
const FRAMES_TO_LOSE_ONE: u64 = 1_000;

/// If the window's thread waited for a processor for more than this share of the time, others had
/// it, and nothing is said about frames and about peers that were served late.
const BUSY: f64 = 0.05;

/// Frames count only in seconds without steal: on a virtual machine, others may have had the
/// processors in all the rest. Nothing is said about frames if less than this share of the time is
/// left.
const OWN: f64 = 0.25;

/// What the window's process has at one time.
#[derive(Clone, Copy, Default)]
pub struct Sample {
    /// In KiB.
    memory: u64,
    fds: usize,
    children: usize,
    threads: u64,
    /// For how many clock ticks others have had the processors of this system: steal in
    /// proc_stat(5).
    steal: u64,
    figures: Figures,
}

impl Sample {
    /// Whether nothing of the load is left, as far as can be told from one sample: the only
    /// connection is the sampler's.
    pub fn is_at_rest(&self) -> bool {
        self.figures.connections <= 1 && self.children == 0
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sample {
            memory,
            fds,
            children,
            threads,
            steal,
            figures,
        } = self;
        write!(
            f,
            "{memory} KiB, {fds} fds, {children} children, {threads} threads, {} tasks, \
             {} timers, {} sources, {} connections of {}, {} frames, {} lost, {:.0} ms waited, \
             {steal} ticks of steal",
            figures.tasks,
            figures.timers,
            figures.sources,
            figures.connections,
            figures.opened,
            figures.drawn,
            figures.lost,
            figures.waited,
        )
    }
}

/// Looks at the window's process.
pub struct Sampler {
    process: u32,
    base: String,
    client: Client,
}

impl Sampler {
    pub fn new(handle: &Handle, process: u32, http: SocketAddr) -> Self {
        Sampler {
            process,
            base: format!("http://{http}"),
            client: Client::builder(handle)
                .response_timeout(Duration::from_secs(20))
                .build(),
        }
    }

    pub async fn sample(&self) -> Outcome<Sample> {
        let url = format!("{}/figures", self.base);
        let figures = self.client.get(&url).send().await?.json().await?;
        let folder = format!("/proc/{}", self.process);
        let status = fs::read_to_string(format!("{folder}/status"))?;
        let number = |name: &str| -> Outcome<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let line = line.ok_or_else(|| format!("no {name} in the status"))?;
            Ok(line.trim().trim_end_matches(" kB").parse()?)
        };
        let mut children = 0;
        for thread in fs::read_dir(format!("{folder}/task"))? {
            // A thread may end meanwhile.
            let text = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
            children += text.split_whitespace().count();
        }
        Ok(Sample {
            memory: number("VmRSS:")?,
            fds: fs::read_dir(format!("{folder}/fd"))?.count(),
            children,
            threads: number("Threads:")?,
            steal: steal()?,
            figures,
        })
    }

    /// What the window has, in words.
    pub async fn census(&self) -> Outcome<String> {
        let url = format!("{}/census", self.base);
        Ok(self.client.get(&url).send().await?.text().await?)
    }

    /// Asks the window to close.
    pub async fn end(&self) -> Outcome {
        self.client
            .post(&format!("{}/end", self.base))
            .send()
            .await?;
        Ok(())
    }
}

/// All samples, and those at the end of each minute's rest.
#[derive(Default)]
pub struct Samples {
    all: Vec<Sample>,
    rests: Vec<Sample>,
}

/// A column of the table: its name, and its value.
type Column = (&'static str, fn(&Sample) -> u64);

/// What must be as it was after the first minute.
const RETURNING: [Column; 6] = [
    ("fds", |sample| sample.fds as u64),
    ("children", |sample| sample.children as u64),
    ("tasks", |sample| sample.figures.tasks as u64),
    ("timers", |sample| sample.figures.timers as u64),
    ("sources", |sample| sample.figures.sources as u64),
    ("connections", |sample| sample.figures.connections as u64),
];

impl Samples {
    pub fn add(&mut self, sample: Sample) {
        self.all.push(sample);
    }

    pub fn rested(&mut self, sample: Sample) {
        self.rests.push(sample);
    }

    fn first(&self) -> Sample {
        self.rests.first().copied().unwrap_or_default()
    }

    fn last(&self) -> Sample {
        self.rests.last().copied().unwrap_or_default()
    }

    pub fn print(&self) {
        println!("\n| | after the first minute | at the end | largest |\n|---|---:|---:|---:|");
        let row = |name: &str, value: &dyn Fn(&Sample) -> String, largest: String| {
            println!(
                "| {name} | {} | {} | {largest} |",
                value(&self.first()),
                value(&self.last())
            );
        };
        let others: [Column; 2] = [
            ("memory KiB", |sample| sample.memory),
            ("threads", |sample| sample.threads),
        ];
        for (name, value) in others.into_iter().chain(RETURNING) {
            let largest = self.all.iter().map(value).max().unwrap_or_default();
            row(
                name,
                &|sample| value(sample).to_string(),
                largest.to_string(),
            );
        }
        let all = self.all.iter().map(|sample| sample.figures.gap_p99);
        row(
            "frame gap p99 in a second, ms",
            &|sample| format!("{:.1}", sample.figures.gap_p99),
            format!("{:.1}", all.fold(0.0, f64::max)),
        );
        let (all, own) = (self.frames(|_, _| true), self.own_frames());
        println!(
            "\n{all}; the thread waited for a processor for {:.1} % of the time",
            self.waited() * 100.0
        );
        println!(
            "{own}, in the {:.0} % of the time without steal",
            own.time / all.time * 100.0
        );
    }

    /// For what share of the time the window's thread waited for a processor.
    fn waited(&self) -> f64 {
        let first = self.all.first().copied().unwrap_or_default().figures;
        let last = self.last().figures;
        (last.waited - first.waited) / (last.time - first.time).max(1.0)
    }

    /// The frames between those samples that `counts` holds for.
    fn frames(&self, counts: fn(&Sample, &Sample) -> bool) -> Frames {
        let mut frames = Frames::default();
        for pair in self.all.windows(2) {
            if counts(&pair[0], &pair[1]) {
                let (before, after) = (pair[0].figures, pair[1].figures);
                frames.drawn += after.drawn - before.drawn;
                frames.lost += after.lost - before.lost;
                frames.time += after.time - before.time;
            }
        }
        frames
    }

    /// The frames of the seconds in which nobody took a processor away.
    fn own_frames(&self) -> Frames {
        self.frames(|before, after| before.steal == after.steal)
    }

    /// What is wrong. `late` is how many peers that behaved well were not served in time.
    pub fn complaints(&self, late: u64) -> Vec<String> {
        let (first, last) = (self.first(), self.last());
        let mut complaints = Vec::new();
        for (name, value) in RETURNING {
            let (before, after) = (value(&first), value(&last));
            if after > before {
                complaints.push(format!(
                    "{name}: {before} after the first minute, {after} at the end"
                ));
            }
        }
        let grown = last.memory.saturating_sub(first.memory);
        if grown > MEMORY {
            complaints.push(format!(
                "the memory grew by {grown} KiB, by more than {MEMORY}"
            ));
        }
        if !last.is_at_rest() {
            complaints.push(format!("the window is not at rest: {last}"));
        }
        if self.waited() > BUSY {
            println!(
                "The machine was busy: nothing is said about lost frames and {late} late answers."
            );
            return complaints;
        }
        if late > 0 {
            complaints.push(format!(
                "{late} peers that behaved well were served too late"
            ));
        }
        let own = self.own_frames();
        if own.time < self.frames(|_, _| true).time * OWN {
            println!("There was too much steal: nothing is said about lost frames.");
            return complaints;
        }
        let allowed = own.drawn / FRAMES_TO_LOSE_ONE;
        if own.lost > allowed {
            complaints.push(format!(
                "{} frames were lost without steal, at most {allowed} may be",
                own.lost
            ));
        }
        complaints
    }
}

/// Frames of some time.
#[derive(Default)]
struct Frames {
    drawn: u64,
    lost: u64,
    /// In milliseconds.
    time: f64,
}

impl fmt::Display for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frames drawn, {} lost", self.drawn, self.lost)
    }
}

/// For how many clock ticks others have had the processors of this system since it started.
fn steal() -> Outcome<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    let ticks = text.split_whitespace().nth(8);
    Ok(ticks.ok_or("no steal in /proc/stat")?.parse()?)
}
