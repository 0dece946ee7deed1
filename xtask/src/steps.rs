//! The steps of a gate, one after another, until one fails.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Result, process};

/// The steps that are done, and how long each took.
#[derive(Default)]
pub struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    pub fn command(&mut self, name: &str, command: &mut Command) -> Result<()> {
        self.run(name, || process::succeed(command.stdin(Stdio::null())))
    }

    pub fn run(&mut self, name: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("== {name}");
        let start = Instant::now();
        let result = step();
        let time = start.elapsed();
        println!(
            "== {name}: {} after {:.1} s",
            if result.is_ok() { "passed" } else { "FAILED" },
            time.as_secs_f64()
        );
        self.done.push((name.to_owned(), time));
        result
    }

    pub fn report(&self) {
        println!("\nAll steps passed:");
        for (name, time) in &self.done {
            println!("{name:>10} {:8.1} s", time.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, time)| *time).sum();
        println!("{:>10} {:8.1} s", "total", total.as_secs_f64());
    }
}
