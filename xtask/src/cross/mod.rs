//! `cargo xtask cross`: systems other than Linux, as far as that can be shown here.
//!
//! - The selector of those systems on Linux: the conformance suite over it, natively.
//! - Windows: the tests, built with Debian's compiler and run under Wine, and a window.
//! - macOS and FreeBSD: the types are checked. Nothing can be linked or run for them here.
//!
//! Debian's compiler has its own standard library's source, which is built once for each target.

mod compiler;
mod wine;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::debian::{self, Group};
use crate::display::Display;
use crate::steps::Steps;
use crate::{Result, process, workspace};

use self::compiler::{Target, WINDOWS};
use self::wine::Wine;

const NEEDS: &[&Group] = &[&debian::CROSS, &debian::DISPLAY];

/// A run from nothing that takes longer than this has failed. Nothing waits for each other here, so
/// what takes longer hangs.
const BUDGET: Duration = Duration::from_secs(20 * 60);

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
    let start = Instant::now();
    let mut steps = Steps::default();
    steps.run("packages", || debian::ensure(NEEDS))?;
    if wanted(NATIVE) {
        steps.command("the portable selector", &mut native()?)?;
    }
    if wanted(CHECKS) {
        for target in compiler::TARGETS {
            steps.run(target.name, || target.check())?;
        }
    }
    if wanted(TESTS) || wanted(WINDOW) {
        let display = Display::start(None)?;
        let wine = Wine::prepare(&folder()?.join("wine"), &display)?;
        if wanted(TESTS) {
            for tests in TEST_RUNS {
                steps.run(tests.name, || tests.run(&wine))?;
            }
        }
        if wanted(WINDOW) {
            steps.run("the window", || wine::window(&wine, &display))?;
        }
    }
    steps.report();
    let took = start.elapsed();
    if took > BUDGET {
        let minutes = BUDGET.as_secs() / 60;
        return Err(format!("it took {took:.0?}, more than {minutes} minutes").into());
    }
    Ok(ExitCode::SUCCESS)
}

/// What is built here. It is kept apart from other builds, whose compiler is another.
fn folder() -> Result<PathBuf> {
    Ok(workspace::target()?.join("cross"))
}

/// The conformance suite on Linux over the selector of other systems, with the usual compiler.
fn native() -> Result<Command> {
    let mut cargo = workspace::cargo();
    cargo
        .args(["test", "--package", "entwined-conformance"])
        .args(["--features", "http,tls"])
        .args([
            "--test",
            "standalone",
            "--test",
            "interleave",
            "--test",
            "poll",
        ])
        .env("RUSTFLAGS", "--cfg entwined_portable")
        .env("CARGO_TARGET_DIR", folder()?.join("native"))
        .env_remove("ENTWINED_CONFORMANCE");
    Ok(cargo)
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

/// Its server looks at each of them for each event.
const MANY: &str = "a thousand connections that are polled take Wine 8 minutes";

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
            ("server::held_host", MANY),
            ("server::http2::curl_is_served", PROGRAM),
            ("server::http2::many_streams", PROGRAM),
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
    fn run(&self, wine: &Wine) -> Result<()> {
        let mut cargo = WINDOWS.cargo("test")?;
        cargo.args(["--package", self.package]).args(self.arguments);
        cargo.arg("--");
        for (name, reason) in self.skipped {
            println!("not run: {name}: {reason}");
            cargo.args(["--skip", name]);
        }
        process::succeed(wine.run_with(&mut cargo))
    }
}

impl Target {
    /// Checks the types of the crates that are meant for this target, with all features and with
    /// none, and those of their tests. A warning is an error.
    fn check(&self) -> Result<()> {
        for options in [
            &["--all-features", "--tests"][..],
            &["--no-default-features"],
        ] {
            let mut cargo = self.cargo("check")?;
            cargo.args(options);
            for package in self.packages {
                cargo.args(["--package", package]);
            }
            self.without_warnings(&mut cargo)?;
        }
        Ok(())
    }
}
