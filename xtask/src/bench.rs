//! `cargo xtask bench`: servers side by side, in one run, so that a slow machine is slow for all of
//! them.
//!
//! The server has processor 0 to itself and the load runs on processor 1. The figure to compare is
//! processor time per request: unlike requests per second it does not depend on how fast the load
//! generator is.

mod alternating;
mod deferred;
mod figures;
mod gui;
mod http;
mod python;
mod server;
mod soak;
mod web;
mod windows;
mod wrk;

use std::path::PathBuf;
use std::process::ExitCode;

use self::server::Sample;
use crate::steps::Steps;
use crate::{Result, debian, process, programs, workspace};

/// The processor of the server under test.
const SERVER: usize = 0;
/// The processor of everything else: the load generator, the X server.
const OTHERS: usize = 1;

#[derive(Clone, Copy)]
struct Options {
    rounds: usize,
    /// How long each server is under load in a round.
    seconds: u32,
    connections: u32,
}

pub fn run(arguments: &[&str], theirs: &[String]) -> Result<ExitCode> {
    let (name, options) = match arguments.split_first() {
        Some((name, options)) if !name.starts_with('-') => (*name, options),
        _ => ("http", arguments),
    };
    match name {
        "http" | "gui" | "web" | "windows" | "soak" | "check" if !theirs.is_empty() => {
            return Err(format!("bench {name} takes nothing after --").into());
        }
        "http" => http::run(parse(options)?)?,
        "gui" => {
            let (names, options) = options.split_at(names_in(options));
            gui::run(names, parse(options)?)?;
        }
        "windows" => {
            let (names, options) = options.split_at(names_in(options));
            windows::run(names, parse(options)?)?;
        }
        "web" => web::run(parse(options)?)?,
        "soak" => soak::run(options)?,
        "check" => check()?,
        _ if !options.is_empty() => {
            return Err(format!("bench {name} takes its options after --").into());
        }
        "deferred" => deferred::run(theirs)?,
        "echo" | "udp" | "connections" | "unread" => {
            let program = workspace::build_to_measure("streams", "streams")?;
            process::succeed(process::tied(&program, Some(OTHERS)).arg(name))?;
        }
        "chat" => {
            let program = workspace::build_to_measure("streams", "streams")?;
            let mut measure = process::tied(&program, Some(OTHERS));
            measure.arg(name);
            match python::with(&["gevent", "twisted"]) {
                Ok(python) => {
                    measure.arg(python);
                }
                Err(error) => {
                    eprintln!("Skipping the Python servers, which need venv, pip and PyPI: {error}")
                }
            }
            process::succeed(&mut measure)?;
        }
        "strangers" => {
            debian::ensure(&[&debian::STRANGERS])?;
            let mut cargo = programs::programs("build");
            cargo.args(["--release", "--package", "chat"]);
            process::succeed(workspace::aligned(&mut cargo)?)?;
            let chat = workspace::target()?.join("bench/release/chat");
            let program = workspace::build_to_measure("streams", "streams")?;
            let mut measure = process::tied(&program, Some(OTHERS));
            process::succeed(measure.arg(name).arg(chat))?;
        }
        "post" | "timers" => {
            debian::ensure(&[&debian::GLIB])?;
            cargo_bench(&["--package", "loops"], name, theirs)?;
        }
        _ => cargo_bench(&["--workspace"], name, theirs)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Format, lints and tests of the benchmarks. Nothing is measured.
fn check() -> Result<()> {
    let mut steps = Steps::default();
    steps.run("packages", || {
        debian::ensure(&[&debian::GTK, &debian::WINIT])
    })?;
    // The usual target folder, so that what both workspaces need is built once.
    let target = workspace::target()?;
    let step = |arguments: &[&str]| {
        let mut cargo = workspace::bench_cargo();
        cargo.args(arguments).env("CARGO_TARGET_DIR", &target);
        cargo
    };
    steps.command("format", &mut step(&["fmt", "--all", "--check"]))?;
    let lints = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    steps.command("lints", &mut step(&lints))?;
    steps.command("tests", &mut step(&["test", "--workspace"]))?;
    steps.report();
    Ok(())
}

/// Runs a Cargo benchmark.
fn cargo_bench(packages: &[&str], name: &str, arguments: &[String]) -> Result<()> {
    let mut cargo = workspace::bench_cargo();
    cargo
        .arg("bench")
        .args(packages)
        .args(["--bench", name, "--"])
        .args(arguments);
    process::succeed(workspace::aligned(&mut cargo)?)
}

/// How many arguments come before the options.
fn names_in(arguments: &[&str]) -> usize {
    let options = arguments.iter().position(|word| word.starts_with('-'));
    options.unwrap_or(arguments.len())
}

fn parse(arguments: &[&str]) -> Result<Options> {
    let mut options = Options {
        rounds: 3,
        seconds: 5,
        connections: 64,
    };
    for pair in arguments.chunks(2) {
        let &[name, value] = pair else {
            return Err(format!("{} needs a number", pair[0]).into());
        };
        let number: u32 = match value.parse() {
            Ok(number) if number > 0 => number,
            _ => return Err(format!("{name} needs a positive number, not {value:?}").into()),
        };
        match name {
            "--rounds" => options.rounds = number as usize,
            "--seconds" => options.seconds = number,
            "--connections" => options.connections = number,
            _ => return Err(format!("unknown option {name:?} of bench").into()),
        }
    }
    Ok(options)
}

/// Indices into [`peers`].
const BARE: usize = 0;
const HYPER: usize = 1;

/// Builds the servers that ours are measured against; returns each one's name and program.
fn peers() -> Result<Vec<(&'static str, PathBuf)>> {
    Ok(vec![
        (
            "bare mio",
            workspace::build_to_measure("peers", "bare-mio-http")?,
        ),
        (
            "hyper on tokio",
            workspace::build_to_measure("peers", "hyper-tokio-http")?,
        ),
    ])
}

/// Prints one server's sample as soon as it is taken.
fn announce(round: usize, name: &str, sample: Sample) {
    println!(
        "round {round}: {name:<20} {:6.2} µs/request {:9.0} requests/s",
        sample.microseconds_per_request, sample.requests_per_second
    );
}
