//! The tests that are run for other systems.

use std::process::Command;

use super::bounded::{self, BUILD};
use super::compiler::{self, WINDOWS};
use super::harness;
use super::wine::Wine;
use super::{Table, folder};
use crate::beside::{self, Job};
use crate::{Result, workspace};

/// The conformance suite on Linux over the selector of other systems, with the usual compiler.
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
        .args(["--features", "http,tls"])
        .args(["--test", "standalone"])
        .args(["--test", "interleave"])
        .args(["--test", "poll"])
        .env("RUSTFLAGS", "--cfg entwined_portable")
        .env("CARGO_TARGET_DIR", folder()?.join("native"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env_remove("ENTWINED_CONFORMANCE");
    Ok(cargo)
}

/// The tests for Windows.
pub fn under_wine(wine: &Wine, table: &mut Table) {
    for tests in TEST_RUNS {
        let name = format!("Wine: {}", tests.name);
        let mut jobs = Vec::new();
        table.row(&format!("{name}: build"), || {
            jobs = programs(|| tests.cargo())?;
            Ok(format!("{} programs", jobs.len()))
        });
        for job in &jobs {
            let name = format!("{name}: {}", program_name(job));
            table.row(&name, || tests.run(&name, job, wine));
        }
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

/// Tests that run under Wine.
struct Tests {
    name: &'static str,
    package: &'static str,
    arguments: &'static [&'static str],
    /// Parts of names of tests that cannot pass under Wine, each with the reason.
    skipped: &'static [(&'static str, &'static str)],
}

/// A blocking receive of the standard library is not told either.
const REFUSALS: &str = "Wine 8 forgets that a datagram was refused";

/// Its server spins while a polled socket has bytes that nobody has read. A bare mio loop that has
/// 1,000 of them and reads 16 before each wait reads 112 in half a minute.
const MANY: &str = "Wine 8 takes minutes for a thousand polled connections with unread bytes";

const PROGRAM: &str = "the peer is a program for Linux";

const TEST_RUNS: &[Tests] = &[
    Tests {
        name: "suite, standalone",
        package: "entwined-conformance",
        arguments: &["--features", "http,tls", "--test", "standalone"],
        skipped: &[],
    },
    Tests {
        name: "suite, win32",
        package: "entwined-win32",
        arguments: &["--tests"],
        skipped: &[],
    },
    Tests {
        name: "core",
        package: "entwined",
        arguments: &["--all-features", "--lib", "--test", "core"],
        skipped: &[
            ("datagram::a_refusal_is_told", REFUSALS),
            ("datagram::an_error_in_a_batch", REFUSALS),
            ("framing::twisted_speaks_the_same", PROGRAM),
        ],
    },
    Tests {
        name: "http",
        package: "entwined-http",
        arguments: &["--all-features", "--lib", "--test", "http"],
        skipped: &[
            ("client::peers", PROGRAM),
            ("https::", PROGRAM),
            ("server::compressed::a_compressed_live_body", PROGRAM),
            ("server::compressed::head_is_answered", PROGRAM),
            ("server::held_host::a_thousand", MANY),
            ("server::held_host::more_streams", MANY),
            ("server::http2::curl_is_served", PROGRAM),
            ("server::http2::many_streams", PROGRAM),
            ("server::layers::bodies_are_compressed", PROGRAM),
            ("server::layers::who_is_not_known", PROGRAM),
            ("server::multipart::curl_uploads", PROGRAM),
            ("server::peers", PROGRAM),
            ("tower::a_service_at_the_root", PROGRAM),
            ("tower::an_axum_router", PROGRAM),
            ("websocket::ours_talks_to_pythons", PROGRAM),
            ("websocket::over_http2_a_websocket", PROGRAM),
            ("websocket::pythons_websockets", PROGRAM),
        ],
    },
];

impl Tests {
    fn cargo(&self) -> Result<Command> {
        let mut cargo = WINDOWS.cargo("test")?;
        cargo.args(["--package", self.package]).args(self.arguments);
        Ok(cargo)
    }

    fn run(&self, name: &str, job: &Job, wine: &Wine) -> Result<String> {
        let mut runner = Command::new(compiler::wine());
        runner.arg(job.command.get_program());
        let mut command = with_program(runner, &job.command);
        command.args(harness::ARGUMENTS);
        for (name, reason) in self.skipped {
            println!("not run: {name}: {reason}");
            command.args(["--skip", name]);
        }
        let passed = harness::run(name, wine.surround(&mut command))?;
        Ok(format!("{passed} passed"))
    }
}
