//! The project's chores, the same for a developer and for CI. `cargo xtask` alone lists them.

mod bench;
mod conformance;
mod debian;
mod demo;
mod display;
mod process;
mod test;
mod workspace;

use std::error::Error;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
cargo xtask demo [standalone|gtk|winit] [-- OPTIONS]
    Build and run one of the apps (default: standalone), with OPTIONS for the app.
    The windowed ones make a display of their own if there is none, and a screenshot of it.
cargo xtask test
    Everything that must hold before a change is merged: format, lints, docs, tests.
cargo xtask ci
    The same, as the continuous integration runs it.
cargo xtask conformance
    h2spec and Autobahn's fuzzing client against each app; it says how to get them.
cargo xtask bench [http|gui|web] [--rounds N] [--seconds N] [--connections N]
    http      HTTP servers side by side: CPU time for a request, requests a second (the default)
    gui       windows that serve and draw, ours and what others would write: requests, and gaps between frames
    web       ours on each backend beside hyper, axum, nginx, libsoup and Twisted: a word, JSON, a file, idle connections
cargo xtask bench post|timers|deferred|BENCH [-- OPTIONS]
    post      from another thread to the loop, on each backend and elsewhere; after -- the number of posts
    timers    what timers cost and how late they are; after -- the number of timers whose lateness is taken
    deferred  callback chains beside futures and Twisted; OPTIONS are criterion's
    BENCH     the benchmark of this name

Debian packages that a command needs and that are missing are installed first.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    // What follows `--` is for the program that is run, not for us.
    let (ours, theirs) = match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[][..]),
    };
    let ours: Vec<&str> = ours.iter().map(String::as_str).collect();
    match ours.as_slice() {
        ["demo"] => demo::run("standalone", theirs),
        ["demo", name] => demo::run(name, theirs),
        ["test" | "ci"] if theirs.is_empty() => test::run(),
        ["conformance"] if theirs.is_empty() => conformance::run(),
        ["bench", options @ ..] => bench::run(options, theirs),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(format!("cannot make sense of {arguments:?}\n\n{USAGE}").into()),
    }
}
