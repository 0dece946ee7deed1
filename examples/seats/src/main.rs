//! Sells seats of flights. `README.md` says how to use it.
#![forbid(unsafe_code)]

mod booking;
mod site;

use std::{
    error::Error,
    io,
    iter::successors,
    path::PathBuf,
    process::{self, ExitCode},
};

use entwined::{
    Standalone, endpoint,
    signal::{self, Signal},
};
use entwined_http as http;
use entwined_rusqlite::ConnectionPool;
use lexopt::prelude::*;

const USAGE: &str = "\
Sells seats of flights: a hold with a deadline, then a sale, never twice.

Usage: seats [OPTIONS]

Options:
  --listen ENDPOINT   where to serve [default: tcp:8080:interface=127.0.0.1]
  --database FILE     where to keep flights and seats [default: seats.db]
  -h, --help          print this";

struct Options {
    listen: String,
    database: PathBuf,
}

fn options() -> Result<Options, lexopt::Error> {
    let mut options = Options {
        listen: "tcp:8080:interface=127.0.0.1".into(),
        database: "seats.db".into(),
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("listen") => options.listen = arguments.value()?.string()?,
            Long("database") => options.database = arguments.value()?.into(),
            Short('h') | Long("help") => {
                println!("{USAGE}");
                process::exit(0)
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With its causes, for people.
            let causes = successors(error.source(), |error| (*error).source());
            let causes = causes.map(|cause| format!(": {cause}"));
            eprintln!("seats: {error}{}", causes.collect::<String>());
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(io::stderr)
        .init();
    let reactor = Standalone::new()?;
    let handle = reactor.handle();
    let listener = endpoint::server(&options.listen)?.listen(&handle)?;
    let database = ConnectionPool::open(&handle, &options.database);
    // Nobody is served before the tables are there.
    let prepared = booking::prepare(&database);
    reactor.block_on(async { Ok::<_, Box<dyn Error>>(prepared.await?) })?;

    signal::stop_on(&handle, [Signal::INT, Signal::TERM])?.keep();
    let server = http::serve(listener, site::router(&handle, database));
    println!("http listening on {}", server.local_address());
    Ok(reactor.run()?)
}
