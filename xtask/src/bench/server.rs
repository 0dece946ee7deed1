//! A server under test, and what it costs.

use std::fs;
use std::io::BufRead;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Options, SERVER, wrk};
use crate::Result;
use crate::process::{self, Running};

pub struct Server {
    running: Running,
    /// Kept open, because a server that prints into a closed pipe would end.
    output: Box<dyn BufRead>,
    address: String,
}

/// The results of one server in one round.
#[derive(Clone, Copy)]
pub struct Sample {
    pub requests_per_second: f64,
    /// User and system time of the server's process, in microseconds.
    pub microseconds_per_request: f64,
}

impl Server {
    /// Starts a server on a free port. `prepare` may add to the command.
    pub fn start(program: &Path, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let mut command = process::tied(program, Some(SERVER));
        command.args(["--http", "127.0.0.1:0"]);
        prepare(&mut command);
        Self::launch(command)
    }

    /// Starts a server that prints its address.
    pub fn launch(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut running = Running::start(&mut command)?;
        let (address, output) = running.line_after("http listening on ")?;
        Ok(Self {
            running,
            output: Box::new(output),
            address,
        })
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns its private memory in bytes, proc(5).
    pub fn memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.running.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .ok_or("a status without memory")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Warms up for a second, then measures the load on `/hello`.
    pub fn measure(&self, options: Options) -> Result<Sample> {
        self.measure_path("/hello", options)
    }

    /// The same for another path.
    pub fn measure_path(&self, path: &str, options: Options) -> Result<Sample> {
        let url = format!("http://{}{path}", self.address);
        wrk::load(&url, options.connections, 1)?;
        let before = self.processor_time()?;
        let load = wrk::load(&url, options.connections, options.seconds)?;
        let spent = self.processor_time()? - before;
        Ok(Sample {
            requests_per_second: load.requests_per_second,
            microseconds_per_request: spent.as_secs_f64() * 1e6 / load.requests as f64,
        })
    }

    /// Waits for a server that ends without being asked to, and returns what it printed meanwhile.
    pub fn end(mut self) -> Result<String> {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest)?;
        let status = self.running.wait()?;
        if status.success() {
            Ok(rest)
        } else {
            Err(format!("the server ended with {status}").into())
        }
    }

    /// Returns the processor time of its threads, to the nanosecond: proc(5), and the kernel's
    /// `Documentation/scheduler/sched-stats.rst`. The time of a thread that has ended is lost;
    /// under load no thread of these servers ends.
    pub fn processor_time(&self) -> Result<Duration> {
        let mut total = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.running.id()))? {
            let path = thread?.path().join("schedstat");
            let text = fs::read_to_string(&path)?;
            let first = text.split_whitespace().next().ok_or("an empty schedstat")?;
            total += first.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(total))
    }
}
