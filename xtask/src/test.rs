//! `cargo xtask test`: runs all checks, and stops at the first one that fails.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use crate::beside::{self, Job};
use crate::display::Display;
use crate::steps::Steps;
use crate::{Result, columns, debian, layers, pages, process, workspace};

pub fn run() -> Result<ExitCode> {
    require("fmt", "rustfmt")?;
    require("clippy", "clippy")?;

    let mut steps = Steps::default();
    steps.run("packages", || {
        debian::ensure(&[
            &debian::GTK,
            &debian::WINIT,
            &debian::DISPLAY,
            &debian::TESTS,
            &debian::LOAD,
        ])
    })?;
    steps.command(
        "format",
        workspace::cargo().args(["fmt", "--all", "--check"]),
    )?;
    steps.run("lock files", check_lock_files)?;
    steps.run("columns", columns::check)?;
    steps.run("styles", pages::check_styles)?;
    steps.run("layers", || layers::run(false).map(drop))?;
    // All steps use the same packages, features and dev profile, so that each step reuses what the
    // previous one built: clippy and doc share the checked dependencies, and all share build
    // scripts and macros. Warnings are denied by arguments that reach our own crates only;
    // RUSTFLAGS would rebuild everything.
    steps.command(
        "lints",
        everything("clippy").args(["--all-targets", "--", "-D", "warnings"]),
    )?;
    steps.command(
        "docs",
        everything("doc")
            .args(["--no-deps", "--lib"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    steps.command("build", everything("test").arg("--no-run"))?;
    let display = Display::start(None)?;
    let results = fresh_results()?;
    steps.run("tests", || {
        // Longest first: the documentation's examples are compiled only now.
        let mut examples = everything("test");
        examples.arg("--doc");
        let mut jobs = vec![Job::new("examples in the documentation", examples)];
        jobs.extend(beside::programs(&mut programs_only())?);
        for job in &mut jobs {
            display.show(&mut job.command).env(RESULTS, &results);
        }
        beside::run(jobs)
    })?;
    // Already built with the tests. Running it through Cargo would build it again, with only its
    // own package's features.
    let table = workspace::target()?.join("debug/examples/conformance-table");
    steps.command("behaviours", Command::new(table).arg(&results))?;
    steps.report();
    Ok(ExitCode::SUCCESS)
}

/// Fails if a workspace's `Cargo.lock` does not fit its manifests. Cargo would mend it in passing,
/// and every clone would be changed by its first build.
fn check_lock_files() -> Result<()> {
    for workspace in ["", "benches", "examples", "fuzz", "toolkits"] {
        let mut cargo = workspace::cargo();
        cargo.current_dir(workspace::root().join(workspace)).args([
            "update",
            "--workspace",
            "--locked",
            "--quiet",
        ]);
        process::succeed(&mut cargo)?;
    }
    Ok(())
}

/// Where the tests of every backend write their results.
const RESULTS: &str = "ENTWINED_CONFORMANCE";

/// All tests but the examples in the documentation.
fn programs_only() -> Command {
    let mut cargo = everything("test");
    // With `--examples`, each of them would be linked once more, as a program without tests.
    cargo.args(["--lib", "--bins", "--tests"]);
    cargo
}

fn everything(command: &str) -> Command {
    let mut cargo = workspace::cargo();
    cargo.args([command, "--workspace", "--all-features"]);
    cargo
}

/// Creates an empty folder for the results of the conformance suite. The tests of every backend
/// write to it.
fn fresh_results() -> Result<PathBuf> {
    let folder = workspace::root().join("target").join("conformance");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Fails unless the toolchain has this component.
fn require(subcommand: &str, component: &str) -> Result<()> {
    let found = workspace::cargo()
        .args([subcommand, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if found.success() {
        Ok(())
    } else {
        Err(format!(
            "this Rust toolchain has no {component}; with rustup: rustup component add {component}"
        )
        .into())
    }
}
