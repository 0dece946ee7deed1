//! The project's tasks, the same for a developer and for CI. `cargo xtask` alone lists them.

mod bench;
mod beside;
mod columns;
mod conformance;
mod cross;
mod debian;
mod demo;
mod display;
mod layers;
mod packages;
mod pages;
mod process;
mod programs;
mod steps;
mod test;
mod toolkits;
mod workspace;

use std::error::Error;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
cargo xtask demo [standalone|gtk|winit] [-- OPTIONS]
    Build and run one of the apps (default: standalone), with OPTIONS for the app.
    If there is no display, the apps with windows start one in memory and take a screenshot.
cargo xtask test
    All checks that must pass before a change is merged: format, lints, docs, tests.
cargo xtask packages
    What is published: each crate without features and with each feature by itself, and its package.
cargo xtask toolkits [NAME ...]
    The hosts whose toolkits are not Rust crates, such as Qt and Cocoa: lints, tests, the
    conformance suite on each of their loops, and a window of each, with its picture. With
    names, only the suites and windows whose names contain one of them.
cargo xtask programs [--faults] [NAME ...]
    The example programs: lints, and tests in which clients that others wrote use them. With
    --faults only the tests of what breaks, 50 times each, with their figures: processes that are
    killed at random moments, full disks, slow readers.
cargo xtask cross [native|checks|tests|window ...]
    Systems other than Linux: the conformance suite over their selector, on Linux; the types for
    Windows, macOS and FreeBSD; the tests for Windows under Wine; a window there, with its picture.
    With names, only these steps.
cargo xtask pages
    The pages of the example programs and of the control room in a browser: contrast, keyboard,
    names, a phone's width; with pictures in screenshots/.
cargo xtask layers [--write]
    Checks docs/layers.txt: which module may import which. --write puts the picture into
    ARCHITECTURE.md.
cargo xtask conformance
    h2spec and Autobahn's fuzzing client against each app. If they are missing, it says how
    to get them.
cargo xtask bench [http|gui|web|windows] [--rounds N] [--seconds N] [--connections N]
    http      HTTP servers side by side: CPU time per request, requests per second (the default)
    gui       windows that serve and draw, ours and what others would write:
              requests, and gaps between frames
    web       ours on each backend, and hyper, axum, nginx, libsoup and Twisted:
              a word, JSON, a file, idle connections
    windows   the windows of the example programs, idle and busy: gaps between frames
cargo xtask bench soak [--minutes N]
    A window with a server of each kind, while peers that behave and misbehave come and go by the
    thousand (default: 20 minutes). Fails if anything of them remains, and on a quiet machine if
    frames are lost.
cargo xtask bench check
    Format, lints and tests of the benchmarks themselves, which are a workspace of their own.
cargo xtask bench strangers
    The program chat in one to three processes with Redis, beside gevent and Twisted.
cargo xtask bench post|timers|deferred|BENCH [-- OPTIONS]
    post      from another thread to the loop, on each backend and elsewhere;
              after -- the number of posts
    timers    the cost of timers and how late they fire;
              after -- the number of timers whose lateness is measured
    deferred  callback chains, compared with futures and Twisted; OPTIONS are criterion's
    BENCH     the benchmark of this name

Missing Debian packages that a command needs are installed first.";

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
    // Arguments after `--` go to the program that is run.
    let (ours, theirs) = match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[][..]),
    };
    let ours: Vec<&str> = ours.iter().map(String::as_str).collect();
    match ours.as_slice() {
        ["demo"] => demo::run("standalone", theirs),
        ["demo", name] => demo::run(name, theirs),
        ["test"] if theirs.is_empty() => test::run(),
        ["packages"] if theirs.is_empty() => packages::run(),
        // What follows is an option for the program: Cargo's own `--quiet`.
        ["record", file, program, ..] => beside::record(file, program),
        ["toolkits", names @ ..] if theirs.is_empty() => toolkits::run(names),
        ["programs", names @ ..] if theirs.is_empty() => programs::run(names),
        ["cross", names @ ..] if theirs.is_empty() => cross::run(names),
        ["pages"] if theirs.is_empty() => pages::run(),
        ["layers"] if theirs.is_empty() => layers::run(false),
        ["layers", "--write"] if theirs.is_empty() => layers::run(true),
        ["conformance"] if theirs.is_empty() => conformance::run(),
        ["bench", options @ ..] => bench::run(options, theirs),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(format!("unknown command {arguments:?}\n\n{USAGE}").into()),
    }
}
