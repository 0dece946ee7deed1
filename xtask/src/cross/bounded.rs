//! Commands that cannot hang: each has a limit.

use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::{Result, process};

/// A build, also of a standard library, on a slow machine.
pub const BUILD: Duration = Duration::from_secs(15 * 60);

/// A small tool.
pub const TOOL: Duration = Duration::from_secs(2 * 60);

/// How long a process that was asked to end has until it is killed.
const GRACE: &str = "10";

/// What `timeout` ends with if the limit was reached, and if it had to kill as well.
const LATE: [i32; 2] = [124, 137];

/// Returns a command that ends with all its processes after `limit`, or when we end. Settings of
/// its streams are not taken over.
pub fn within(limit: Duration, command: &Command) -> Command {
    // In coreutils, which every Debian has.
    let mut bounded = process::tied("timeout", None);
    bounded
        .args(["--kill-after", GRACE, &limit.as_secs().to_string()])
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        bounded.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(name, value),
            None => bounded.env_remove(name),
        };
    }
    bounded.stdin(Stdio::null());
    bounded
}

/// Runs a command to its end. It fails if that takes longer than `limit`.
pub fn succeed(limit: Duration, command: &Command) -> Result<()> {
    let status = within(limit, command).status();
    let shown = process::shown(command);
    let status = status.map_err(|error| format!("cannot run {shown}: {error}"))?;
    judge(limit, &shown, status)
}

/// Like [`succeed`], and returns what the command printed as errors. Only for a command that leaves
/// no process behind: whatever has its streams is waited for.
pub fn errors(limit: Duration, command: &Command) -> Result<String> {
    let output = within(limit, command).stderr(Stdio::piped()).output();
    let shown = process::shown(command);
    let output = output.map_err(|error| format!("cannot run {shown}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    match judge(limit, &shown, output.status) {
        Ok(()) => Ok(text),
        Err(error) => Err(format!("{text}\n{error}").into()),
    }
}

fn judge(limit: Duration, shown: &str, status: ExitStatus) -> Result<()> {
    match status.code() {
        Some(0) => Ok(()),
        Some(code) if LATE.contains(&code) => {
            Err(format!("{shown} took longer than {limit:?}").into())
        }
        _ => Err(format!("{shown} failed: {status}").into()),
    }
}
