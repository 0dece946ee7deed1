//! `cargo xtask programs`: the example programs, which are a workspace of their own, are checked,
//! and used by clients that others wrote.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::display::Display;
use crate::steps::Steps;
use crate::{Result, debian, workspace};

/// How often `--faults` kills what it kills.
const FAULTS: &str = "50";

/// Runs all checks and tests of these programs, or of all if none is named. With `--faults` among
/// the names, runs only the tests of what breaks, longer, and shows their figures.
pub fn run(names: &[&str]) -> Result<ExitCode> {
    let faults = names.contains(&"--faults");
    let names: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| *name != "--faults")
        .collect();
    let mut steps = Steps::default();
    steps.run("packages", || {
        debian::ensure(&[&debian::GTK, &debian::DISPLAY, &debian::PROGRAMS])
    })?;
    let chosen = |command: &str| {
        let mut command = programs(command);
        match &names[..] {
            [] => command.arg("--workspace"),
            names => command.args(names.iter().flat_map(|name| ["--package", *name])),
        };
        // Windows are features of programs that also work without.
        command.arg("--all-features");
        command
    };
    if faults {
        let arguments = ["faults::", "--", "--nocapture", "--test-threads=1"];
        steps.command(
            "faults",
            chosen("test").args(arguments).env("FAULTS", FAULTS),
        )?;
        steps.report();
        return Ok(ExitCode::SUCCESS);
    }
    steps.run("manifests", check_manifests)?;
    steps.command("format", programs("fmt").args(["--all", "--check"]))?;
    steps.command(
        "lints",
        chosen("clippy").args(["--all-targets", "--", "-D", "warnings"]),
    )?;
    if names.is_empty() {
        let without = ["--package", "ci", "--package", "notebook"];
        steps.command("without windows", programs("check").args(without))?;
    }
    let display = Display::start(None)?;
    steps.command("tests", display.show(&mut chosen("test")))?;
    steps.report();
    Ok(ExitCode::SUCCESS)
}

/// A Cargo command in the programs' workspace. What both workspaces build the same way is built
/// once, in one target folder.
pub fn programs(command: &str) -> Command {
    let mut cargo = workspace::cargo();
    cargo.current_dir(folder()).arg(command);
    if let Ok(target) = workspace::target() {
        cargo.env("CARGO_TARGET_DIR", target);
    }
    cargo
}

fn folder() -> PathBuf {
    workspace::root().join("examples")
}

/// A folder that is copied out has no workspace around it, so its manifest must not need one.
fn check_manifests() -> Result<()> {
    for entry in fs::read_dir(folder())? {
        let path = entry?.path().join("Cargo.toml");
        // `readme` is part of the tests, not a program.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        if text.contains("workspace = true") && !path.ends_with("readme/Cargo.toml") {
            return Err(format!("{} needs its workspace", path.display()).into());
        }
    }
    Ok(())
}
