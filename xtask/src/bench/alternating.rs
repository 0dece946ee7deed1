//! Servers that take turns every half second, so that what slows the machine down for a while hits all alike, under a client so lean that they
//! never wait for it. A difference of one percent shows.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use super::server::Server;
use super::{OTHERS, Options};
use crate::process::{self, Running};
use crate::{Result, workspace};

/// How long a server is under load until it is another's turn.
const TURN: Duration = Duration::from_millis(500);

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
        Ok(Self { input, output: Box::new(output), _running: running })
    }

    /// How many requests were answered in a turn.
    fn turn(&mut self) -> Result<u64> {
        writeln!(self.input, "{}", TURN.as_millis())?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().parse().map_err(|_| "the client ended")?)
    }
}

/// The processor time of a request in microseconds: for each round what each of the servers took.
pub fn rounds(servers: &[Server], path: &str, options: Options) -> Result<Vec<Vec<f64>>> {
    let program = workspace::build("peers", "load")?;
    let start = |server: &Server| Load::start(&program, server.address(), path, options.connections);
    let mut loads = servers.iter().map(start).collect::<Result<Vec<_>>>()?;
    let mut round = || -> Result<Vec<f64>> {
        let mut costs = Vec::new();
        for (server, load) in servers.iter().zip(&mut loads) {
            let before = server.processor_time()?;
            let answered = load.turn()?;
            costs.push((server.processor_time()? - before).as_secs_f64() * 1e6 / answered as f64);
        }
        Ok(costs)
    };
    // The first one warms up.
    round()?;
    let turns = options.rounds * options.seconds as usize * 1000 / TURN.as_millis() as usize;
    (0..turns).map(|_| round()).collect()
}
