//! Test programs that run beside each other.
//!
//! Cargo runs them one after another, and most of them wait more than they work. So Cargo hands
//! each program over instead of running it: it takes us as the runner of the target's programs, and
//! we write down what it would have run.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::{Result, process, workspace};

/// So many programs run at a time, whatever the number of processors: each of them may measure
/// time.
const LANES: usize = 2;

/// What ends a record and its parts. Neither can be in a path or in a variable.
const END: u8 = 0;

/// One program, as Cargo would run it, or Cargo itself.
pub struct Job {
    name: String,
    pub command: Command,
}

impl Job {
    pub fn new(name: &str, command: Command) -> Self {
        Self {
            name: name.to_owned(),
            command,
        }
    }
}

/// Returns what this `cargo test` would run, in its order. It must be built already: what Cargo
/// prints about that is not shown.
pub fn programs(cargo: &mut Command) -> Result<Vec<Job>> {
    let records = workspace::target()?.join("test-programs");
    fs::write(&records, "")?;
    let own = env::current_exe()?;
    let runner = format!(
        "target.'cfg(all())'.runner = ['{}', 'record', '{}']",
        own.display(),
        records.display()
    );
    cargo.args(["--quiet", "--config", &runner]);
    process::succeed(cargo.stdin(Stdio::null()))?;
    let mut parts = fs::read(&records)?
        .split(|&byte| byte == END)
        .map(|part| OsString::from_vec(part.to_owned()))
        .collect::<VecDeque<_>>();
    let mut jobs = Vec::new();
    // The last part is what follows the last end: nothing.
    while parts.len() > 1 {
        jobs.push(read(&mut parts).ok_or("the record of a test program is cut short")?);
    }
    Ok(jobs)
}

fn read(parts: &mut VecDeque<OsString>) -> Option<Job> {
    let folder = PathBuf::from(parts.pop_front()?);
    let program = PathBuf::from(parts.pop_front()?);
    let mut command = Command::new(&program);
    command.current_dir(&folder);
    loop {
        let name = parts.pop_front()?;
        if name.is_empty() {
            break;
        }
        command.env(name, parts.pop_front()?);
    }
    let file = program.file_name()?.to_string_lossy().into_owned();
    // What follows the last hyphen is a hash.
    let file = file.rsplit_once('-').map_or(&*file, |(name, _)| name);
    let package = folder.file_name()?.to_string_lossy();
    Some(Job::new(&format!("{package}: {file}"), command))
}

/// `xtask record FILE PROGRAM`: what Cargo runs instead of the program.
pub fn record(file: &str, program: &str) -> Result<ExitCode> {
    let mut record = Vec::new();
    let mut part = |bytes: &[u8]| {
        record.extend_from_slice(bytes);
        record.push(END);
    };
    part(env::current_dir()?.as_os_str().as_bytes());
    part(Path::new(program).as_os_str().as_bytes());
    for (name, value) in env::vars_os() {
        let from_cargo = name.as_bytes().starts_with(b"CARGO");
        if from_cargo || name == "LD_LIBRARY_PATH" {
            part(name.as_bytes());
            part(value.as_bytes());
        }
    }
    part(b"");
    OpenOptions::new()
        .append(true)
        .open(file)?
        .write_all(&record)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs all of them, [`LANES`] at a time, in about this order. What a program prints is shown if it
/// fails.
pub fn run(jobs: Vec<Job>) -> Result<()> {
    let logs = workspace::target()?.join("test-logs");
    fs::create_dir_all(&logs)?;
    let waiting = Mutex::new(jobs.into_iter().enumerate());
    let failed = Mutex::new(Vec::new());
    let lane = || {
        loop {
            let next = waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next();
            let Some((number, mut job)) = next else {
                return;
            };
            let start = Instant::now();
            let log = logs.join(format!("{number}.log"));
            let outcome = run_one(&mut job.command, &log);
            let time = start.elapsed().as_secs_f64();
            match outcome {
                Ok(()) => println!("{}: passed after {time:.1} s", job.name),
                Err(error) => {
                    println!("{}: FAILED after {time:.1} s: {error}", job.name);
                    failed
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(job.name);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(lane);
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("these failed: {}", failed.join(", ")).into()),
    }
}

/// Runs a command with all that it prints in a file, which is shown if it fails.
fn run_one(command: &mut Command, log: &Path) -> Result<()> {
    let output = File::create(log)?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let outcome = process::succeed(command);
    if outcome.is_err() {
        // The lock keeps the lines of the other lane out.
        io::copy(&mut File::open(log)?, &mut io::stdout().lock())?;
    }
    outcome
}
