//! Servers that take turns every tenth of a second, so that a temporary slowdown of the machine
//! affects all alike. The client is so light that the servers never wait for it. A difference of
//! one percent is visible.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use super::figures::Spread;
use super::server::Server;
use super::{OTHERS, Options};
use crate::process::{self, Running};
use crate::{Result, workspace};

/// How long a server is under load before it is another's turn.
const TURN: Duration = Duration::from_millis(100);

/// Turns that do not count: memory and code are touched for the first time.
const WARM_UP: usize = 2;

/// How often the processes are restarted, for each round of the other measurements.
const GENERATIONS: usize = 5;

/// The client of one server.
struct Load {
    input: ChildStdin,
    output: Box<dyn BufRead>,
    _running: Running,
}

impl Load {
    fn start(program: &Path, address: &str, path: &str, connections: u32) -> Result<Self> {
        let mut command = process::tied(program, Some(OTHERS));
        command.args([address, path, &connections.to_string()]);
        let mut running = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let (_, output) = running.line_after("ready")?;
        let input = running.input()?;
        Ok(Self {
            input,
            output: Box::new(output),
            _running: running,
        })
    }

    /// Runs one turn; returns how many requests were answered.
    fn turn(&mut self) -> Result<u64> {
        writeln!(self.input, "{}", TURN.as_millis())?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().parse().map_err(|_| "the client ended")?)
    }
}

/// The cost of a request with one set of processes.
pub struct Generation {
    /// For each of the servers, microseconds of processor time.
    pub costs: Vec<f64>,
    /// The same relative to the first server, whose turn was just before or after.
    pub ratios: Vec<f64>,
}

/// Starts all servers, gives each of them its turns and ends them, several times. Two processes of
/// the same program differ by a percent or two, because their memory pages differ.
pub fn generations(
    starts: &[&dyn Fn() -> Result<Server>],
    path: &str,
    options: Options,
) -> Result<Vec<Generation>> {
    let program = workspace::build_to_measure("peers", "load")?;
    let turns = options.seconds as usize * 1000 / TURN.as_millis() as usize;
    (0..options.rounds * GENERATIONS)
        .map(|_| generation(starts, &program, path, turns, options))
        .collect()
}

fn generation(
    starts: &[&dyn Fn() -> Result<Server>],
    program: &Path,
    path: &str,
    turns: usize,
    options: Options,
) -> Result<Generation> {
    let start = |start: &&dyn Fn() -> Result<Server>| {
        let server = start()?;
        let load = Load::start(program, server.address(), path, options.connections)?;
        Ok((server, load))
    };
    let mut contestants = starts.iter().map(start).collect::<Result<Vec<_>>>()?;
    let mut rounds = Vec::new();
    for number in 0..WARM_UP + turns {
        let mut costs = Vec::new();
        for (server, load) in &mut contestants {
            let before = server.processor_time()?;
            let answered = load.turn()?;
            costs.push((server.processor_time()? - before).as_secs_f64() * 1e6 / answered as f64);
        }
        if number >= WARM_UP {
            rounds.push(costs);
        }
    }
    let median = |of: &dyn Fn(&Vec<f64>) -> f64| Spread::of(rounds.iter().map(of)).median;
    Ok(Generation {
        costs: (0..starts.len())
            .map(|place| median(&|costs| costs[place]))
            .collect(),
        ratios: (0..starts.len())
            .map(|place| median(&|costs| costs[place] / costs[0]))
            .collect(),
    })
}
