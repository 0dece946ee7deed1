//! `cargo xtask cross`: systems other than Linux, as far as that can be shown here.
//!
//! - The selector of those systems on Linux: the conformance suite over it, natively.
//! - Windows: the tests, built with Debian's compiler and run under Wine, and a window.
//! - macOS and FreeBSD: the types are checked. Nothing can be linked or run for them here.
//!
//! Debian's compiler has its own standard library's source, which is built once for each target.
//!
//! Everything that is run has a limit of time, so a hang ends by itself.

mod bounded;
mod compiler;
mod harness;
mod suites;
mod wine;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::debian::{self, Group};
use crate::display::Display;
use crate::{Result, workspace};

use self::wine::Wine;

/// What the steps for systems other than this one need.
const CROSS: &[&Group] = &[&debian::CROSS, &debian::DISPLAY];

/// The steps, by name: arguments of the command pick some of them.
const NATIVE: &str = "native";
const CHECKS: &str = "checks";
const TESTS: &str = "tests";
const WINDOW: &str = "window";

pub fn run(names: &[&str]) -> Result<ExitCode> {
    let known = [NATIVE, CHECKS, TESTS, WINDOW];
    if let Some(name) = names.iter().find(|name| !known.contains(name)) {
        return Err(format!(
            "there is no step {name:?}; the steps are: {}",
            known.join(", ")
        )
        .into());
    }
    let wanted = |name: &str| names.is_empty() || names.contains(&name);
    let mut needs = Vec::new();
    if wanted(NATIVE) {
        // The core's tests have peers that are not ours.
        needs.push(&debian::TESTS);
    }
    let other = wanted(CHECKS) || wanted(TESTS) || wanted(WINDOW);
    if other {
        needs.extend(CROSS);
    }
    debian::ensure(&needs)?;
    if other {
        compiler::require()?;
    }
    let mut table = Table::default();
    if wanted(NATIVE) {
        suites::native(&mut table);
    }
    if wanted(CHECKS) {
        for target in compiler::TARGETS {
            table.row(&format!("types: {}", target.name), || target.check());
        }
    }
    if wanted(TESTS) || wanted(WINDOW) {
        let display = Display::start(None)?;
        let wine = Wine::prepare(&folder()?.join("wine"), &display)?;
        if wanted(TESTS) {
            suites::under_wine(&wine, &mut table);
        }
        if wanted(WINDOW) {
            table.row("Wine: a window", || wine::window(&wine, &display));
        }
    }
    table.report()
}

/// What is built here. It is kept apart from other builds, whose compiler is another.
fn folder() -> Result<PathBuf> {
    Ok(workspace::target()?.join("cross"))
}

/// What was run. A row that fails does not keep the others from being run.
#[derive(Default)]
struct Table {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    /// What was seen, or why it failed.
    outcome: std::result::Result<String, String>,
    time: Duration,
}

impl Table {
    /// Runs what a row is about. It returns what was seen, in a few words.
    fn row(&mut self, name: &str, run: impl FnOnce() -> Result<String>) {
        println!("== {name}");
        let start = Instant::now();
        let outcome = run().map_err(|error| error.to_string());
        let time = start.elapsed();
        let seconds = time.as_secs_f64();
        match &outcome {
            Ok(seen) => println!("== {name}: {seen}, after {seconds:.1} s"),
            Err(error) => println!("== {name}: FAILED after {seconds:.1} s: {error}"),
        }
        self.rows.push(Row {
            name: name.to_owned(),
            outcome,
            time,
        });
    }

    fn report(self) -> Result<ExitCode> {
        println!("\n{:<38} {:>8}  seen", "what was run", "seconds");
        for Row {
            name,
            outcome,
            time,
        } in &self.rows
        {
            let seen = outcome.as_deref().unwrap_or("FAILED");
            println!("{name:<38} {:>8.1}  {seen}", time.as_secs_f64());
        }
        let total: Duration = self.rows.iter().map(|row| row.time).sum();
        println!("{:<38} {:>8.1}", "total", total.as_secs_f64());
        let failed: Vec<_> = self
            .rows
            .iter()
            .filter_map(|row| {
                let error = row.outcome.as_ref().err()?;
                // What failed may be as long as a compiler's output, which was shown.
                let line = error.lines().last().unwrap_or_default();
                Some(format!("{}: {line}", row.name))
            })
            .collect();
        match failed.is_empty() {
            true => Ok(ExitCode::SUCCESS),
            false => Err(format!("these failed:\n{}", failed.join("\n")).into()),
        }
    }
}
