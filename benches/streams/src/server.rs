//! Servers in separate processes.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{Outcome, memory};

/// A server in a separate process.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts this program as a server of some kind.
    pub fn start(what: &str, kind: &str) -> Outcome<Self> {
        let program = std::env::current_exe()?;
        Self::run(&[program.as_os_str(), what.as_ref(), kind.as_ref()])
    }

    /// Runs any program that prints its address first.
    pub fn run(arguments: &[&OsStr]) -> Outcome<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).args(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("a pipe")?).read_line(&mut line)?;
        Ok(Server {
            child,
            address: line.trim().parse()?,
        })
    }

    pub fn processor_time(&self) -> Outcome<Duration> {
        // In nanoseconds, over all its threads (there is one).
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let statistics = fs::read_to_string(task?.path().join("schedstat"))?;
            sum += statistics
                .split(' ')
                .next()
                .ok_or("a number")?
                .parse::<u64>()?;
        }
        Ok(Duration::from_nanos(sum))
    }

    /// In bytes.
    pub fn resident(&self) -> Outcome<u64> {
        Ok(memory(&self.child.id().to_string(), "VmRSS")? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
