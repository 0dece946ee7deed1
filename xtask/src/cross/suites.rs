//! The tests that are run for other systems.

use std::path::Path;
use std::process::Command;

use super::bounded::{self, BUILD};
use super::compiler::{self, WINDOWS};
use super::harness;
use super::wine::{self, Wine};
use super::{Table, folder};
use crate::beside::{self, Job};
use crate::{Result, workspace};

/// The conformance suite and the tests of the core on Linux, with the usual compiler, over what
/// other systems have: their selector, and threads that wait for children.
pub fn native(table: &mut Table) {
    const NAME: &str = "portable selector";
    let mut jobs = Vec::new();
    table.row(&format!("{NAME}: build"), || {
        jobs = programs(native_tests)?;
        Ok(format!("{} programs", jobs.len()))
    });
    for job in &jobs {
        let name = format!("{NAME}: {}", program_name(job));
        table.row(&name, || {
            let mut command = again(&job.command);
            command.args(harness::ARGUMENTS);
            Ok(format!("{} passed", harness::run(&name, &command)?))
        });
    }
}

fn native_tests() -> Result<Command> {
    let mut cargo = workspace::cargo();
    cargo
        .args(["test", "--package", "entwined-conformance"])
        .args(["--package", "entwined", "--all-features"])
        .args(["--test", "core"])
        .args(["--test", "standalone"])
        .args(["--test", "interleave"])
        .args(["--test", "poll"])
        .env("RUSTFLAGS", "--cfg entwined_portable")
        .env("CARGO_TARGET_DIR", folder()?.join("native"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env_remove("ENTWINED_CONFORMANCE");
    Ok(cargo)
}

/// The tests for Windows. One command builds all of them, so that each crate is compiled once.
pub fn under_wine(wine: &Wine, table: &mut Table) {
    let mut jobs = Vec::new();
    table.row("Wine: build", || {
        jobs = programs(windows_tests)?;
        Ok(format!("{} programs", jobs.len()))
    });
    for job in &jobs {
        let program = program_name(job);
        let name = match &*program {
            // The suite's, in the crate for message loops.
            "conformance" => "Wine: win32".to_owned(),
            _ => format!("Wine: {program}"),
        };
        table.row(&name, || run_under_wine(&name, &program, job, wine));
        if program == "core" {
            let path = Path::new(job.command.get_program());
            table.row("Wine: Ctrl-C", || wine::ctrl_c(wine, path));
        }
    }
}

fn windows_tests() -> Result<Command> {
    let mut cargo = WINDOWS.cargo("test")?;
    WINDOWS.select(&mut cargo);
    cargo.args(["--all-features", "--lib"]);
    for test in ["standalone", "interleave", "conformance", "core", "http"] {
        cargo.args(["--test", test]);
    }
    Ok(cargo)
}

fn run_under_wine(name: &str, program: &str, job: &Job, wine: &Wine) -> Result<String> {
    let mut runner = Command::new(compiler::wine());
    runner.arg(job.command.get_program());
    let mut command = with_program(runner, &job.command);
    command.args(harness::ARGUMENTS);
    let rows = SKIPPED.iter().filter(|row| row.program == program);
    for row in rows.clone() {
        println!("not run: {}: {}", row.test, row.reason);
        command.args(["--skip", row.test]);
    }
    let passed = harness::run(name, wine.surround(&mut command))?;
    match rows.count() {
        0 => Ok(format!("{passed} passed")),
        skipped => Ok(format!("{passed} passed; rows not run: {skipped}")),
    }
}

/// Builds the test programs of a command of Cargo, and returns what it would run.
fn programs(cargo: impl Fn() -> Result<Command>) -> Result<Vec<Job>> {
    bounded::succeed(BUILD, cargo()?.arg("--no-run"))?;
    beside::programs(&mut cargo()?)
}

fn program_name(job: &Job) -> String {
    let path = job.command.get_program().to_string_lossy();
    let file = path.rsplit('/').next().unwrap_or_default();
    // What follows the last hyphen is a hash.
    file.rsplit_once('-')
        .map_or(file, |(name, _)| name)
        .to_owned()
}

/// A copy of a command, without its streams.
fn again(command: &Command) -> Command {
    with_program(Command::new(command.get_program()), command)
}

/// Lets `runner` run what `command` would have run.
fn with_program(mut runner: Command, command: &Command) -> Command {
    runner.args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        runner.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            runner.env(name, value);
        }
    }
    runner
}

/// Tests that cannot pass under Wine.
struct Skipped {
    program: &'static str,
    /// A part of their names.
    test: &'static str,
    reason: &'static str,
}

const fn skipped(program: &'static str, test: &'static str, reason: &'static str) -> Skipped {
    Skipped {
        program,
        test,
        reason,
    }
}

/// A blocking receive of the standard library is not told either.
const REFUSALS: &str = "Wine 8 forgets that a datagram was refused";

/// Its server spins while a polled socket has bytes that nobody has read. A bare mio loop that has
/// 1,000 of them and reads 16 before each wait reads 112 in half a minute.
const MANY: &str = "Wine 8 takes minutes for a thousand polled connections with unread bytes";

const WHOLE: &str = "a thread waits for the timer, in whole milliseconds, and then wakes the loop";

const BUSY: &str = "a wait is in whole milliseconds, so on a busy machine half of them are later";

const PROGRAM: &str = "the peer is a program for Linux";

const SKIPPED: &[Skipped] = &[
    skipped("interleave", "b11_late_by_less", WHOLE),
    skipped("standalone", "b11_late_by_less", BUSY),
    skipped("core", "datagram::a_refusal_is_told", REFUSALS),
    skipped("core", "datagram::an_error_in_a_batch", REFUSALS),
    skipped("core", "framing::twisted_speaks_the_same", PROGRAM),
    skipped("http", "client::peers", PROGRAM),
    skipped("http", "https::", PROGRAM),
    skipped(
        "http",
        "server::compressed::a_compressed_live_body",
        PROGRAM,
    ),
    skipped("http", "server::compressed::head_is_answered", PROGRAM),
    skipped(
        "http",
        "server::connections::no_limit_is_too_large",
        PROGRAM,
    ),
    skipped("http", "server::held_host::a_thousand", MANY),
    skipped("http", "server::held_host::more_streams", MANY),
    skipped("http", "server::http2::curl_is_served", PROGRAM),
    skipped("http", "server::http2::many_streams", PROGRAM),
    skipped("http", "server::layers::bodies_are_compressed", PROGRAM),
    skipped("http", "server::layers::who_is_not_known", PROGRAM),
    skipped("http", "server::multipart::curl_uploads", PROGRAM),
    skipped("http", "server::peers", PROGRAM),
    skipped("http", "server::results::a_response_whose", PROGRAM),
    skipped("http", "server::results::a_status_that_is_not", PROGRAM),
    skipped("http", "server::results::headers_about", PROGRAM),
    skipped("http", "tower::a_service_at_the_root", PROGRAM),
    skipped("http", "tower::an_axum_router", PROGRAM),
    skipped("http", "websocket::ours_talks_to_pythons", PROGRAM),
    skipped("http", "websocket::over_http2_a_websocket", PROGRAM),
    skipped("http", "websocket::pythons_websockets", PROGRAM),
];
