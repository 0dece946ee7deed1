//! Test programs with Rust's own harness: a test that hangs is named.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::bounded;
use crate::process::Running;
use crate::{Result, workspace};

/// The harness names a test that runs for a minute. If no other has ended half a minute later,
/// something hangs.
const SILENCE: Duration = Duration::from_secs(90);

/// A whole program.
const PROGRAM: Duration = Duration::from_secs(6 * 60);

const LATE: &str = " has been running for over 60 seconds";

/// Arguments for each program. Tests run two at a time, whatever the number of processors: some
/// measure time.
pub const ARGUMENTS: [&str; 2] = ["--test-threads", "2"];

/// Runs the program, whose output is in `target/test-logs`, and returns how many tests passed. It
/// fails if a test fails, or if none ends for too long.
pub fn run(name: &str, command: &Command) -> Result<u32> {
    let logs = workspace::target()?.join("test-logs");
    std::fs::create_dir_all(&logs)?;
    let log = logs.join(format!("cross-{}.log", name.replace([' ', ',', ':'], "-")));
    let outcome = watch(command, &log, SILENCE);
    if outcome.is_err() {
        io::copy(&mut std::fs::File::open(&log)?, &mut io::stdout().lock())?;
    }
    outcome
}

fn watch(command: &Command, log: &Path, silence: Duration) -> Result<u32> {
    let _ = std::fs::remove_file(log);
    // Both streams go there, each write to the end.
    let mut log = OpenOptions::new().create(true).append(true).open(log)?;
    let mut program = bounded::within(PROGRAM, command);
    program.stdout(Stdio::piped()).stderr(log.try_clone()?);
    let mut running = Running::start(&mut program)?;
    let (count, output) = running.line_after("running ")?;
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for line in output.lines().map_while(std::result::Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    let mut late = BTreeSet::new();
    let (mut passed, mut failed) = (0, Vec::new());
    let silent = loop {
        let line = match told.recv_timeout(silence) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        };
        writeln!(log, "{line}")?;
        if let Some(counts) = line.strip_prefix("test result: ") {
            // Tests that start this program again have this stream too.
            // They may also have written into other lines, so this is what counts.
            if let Some(all) = passed_of(&count, counts) {
                passed = all;
                // Under Wine, its services have it as well, and stay for a while.
                break false;
            }
            continue;
        }
        let Some(test) = line.strip_prefix("test ") else {
            continue;
        };
        if let Some(test) = test.strip_suffix(LATE) {
            late.insert(test.to_owned());
        } else if let Some((test, outcome)) = test.split_once(" ... ") {
            late.remove(test);
            match outcome {
                "ok" => passed += 1,
                "FAILED" => failed.push(test.to_owned()),
                _ => {}
            }
        }
    };
    let late: Vec<_> = late.into_iter().collect();
    if silent {
        let late = late.join(", ");
        return Err(format!("no test has ended for {silence:?}; these run: {late}").into());
    }
    let status = running.wait()?;
    if !failed.is_empty() {
        return Err(format!("these failed: {}", failed.join(", ")).into());
    }
    if !status.success() {
        let late = late.join(", ");
        return Err(
            format!("{status} after {passed} tests; these ran for a minute: {late}").into(),
        );
    }
    Ok(passed)
}

/// Returns how many tests passed, if these are the results of so many tests: "2 tests", and "ok. 1
/// passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s".
fn passed_of(count: &str, results: &str) -> Option<u32> {
    let words: Vec<_> = results.split([' ', ';']).collect();
    let number = |what: &str| -> Option<u32> {
        let pair = words.windows(2).find(|pair| pair[1] == what)?;
        pair[0].parse().ok()
    };
    let run: u32 = ["passed", "failed", "ignored", "measured"]
        .iter()
        .filter_map(|what| number(what))
        .sum();
    match count.split(' ').next()?.parse() {
        Ok(count) if run == count => number("passed"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Watches a shell as a test program.
    fn watched(script: &str, silence: Duration) -> std::result::Result<u32, String> {
        let log = std::env::temp_dir().join(format!(
            "entwined-harness-{}-{silence:?}.log",
            std::process::id()
        ));
        let outcome = watch(Command::new("sh").args(["-c", script]), &log, silence);
        let _ = std::fs::remove_file(log);
        outcome.map_err(|error| error.to_string())
    }

    #[test]
    fn a_test_that_hangs_is_named() {
        let error = watched(
            "echo running 3 tests; echo test a ... ok
             echo test b has been running for over 60 seconds
             echo test c has been running for over 60 seconds
             echo test b ... ok; sleep 1000",
            Duration::from_millis(500),
        )
        .expect_err("it hangs");
        assert_eq!(error, "no test has ended for 500ms; these run: c");
    }

    #[test]
    fn tests_that_fail_are_named_and_the_others_are_counted() {
        let silence = Duration::from_secs(20);
        let error = watched(
            "echo running 2 tests; echo test a ... ok; echo test b::c ... FAILED
             echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored'; exit 101",
            silence,
        );
        assert_eq!(error, Err("these failed: b::c".to_owned()));
        let passed = watched(
            "echo running 3 tests; echo test a ... ok
             echo 'test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out'
             echo test b ... ok; echo test c ... ignored
             echo 'test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 1 filtered out'
             exit 0",
            silence,
        );
        assert_eq!(passed, Ok(2));
        let died = watched("echo running 2 tests; echo test a ... ok; exit 3", silence);
        let died = died.expect_err("it has died");
        assert!(died.contains("exit status: 3 after 1 tests"), "{died}");
    }
}
