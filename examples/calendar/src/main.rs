//! A calendar server. `README.md` says how to use it.
#![forbid(unsafe_code)]

mod dav;
mod fault;
mod filter;
mod icalendar;
mod properties;
mod report;
mod site;
mod store;
mod time;
mod xml;

use std::{
    error::Error,
    fmt::Display,
    fs, io,
    iter::successors,
    path::PathBuf,
    process::{self, ExitCode},
};

use entwined::{
    Standalone, endpoint,
    signal::{self, Signal},
};
use entwined_http as http;
use lexopt::prelude::*;

use crate::site::User;

const USAGE: &str = "\
A calendar server (CalDAV) for one person.

Usage: calendar [OPTIONS]

Options:
  --listen ENDPOINT   where to serve [default: tcp:5232:interface=127.0.0.1]
  --database FILE     where to keep the calendars [default: calendar.db]
  --user FILE         asks for the name and password in the file, NAME:PASSWORD; without this,
                      only programs on this machine are served
  -h, --help          print this";

struct Options {
    listen: String,
    database: PathBuf,
    user: Option<PathBuf>,
}

fn options() -> Result<Options, lexopt::Error> {
    let mut options = Options {
        listen: "tcp:5232:interface=127.0.0.1".into(),
        database: "calendar.db".into(),
        user: None,
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("listen") => options.listen = arguments.value()?.string()?,
            Long("database") => options.database = arguments.value()?.into(),
            Long("user") => options.user = Some(arguments.value()?.into()),
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
            eprintln!("calendar: {error}{}", causes.collect::<String>());
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
    let user = match &options.user {
        Some(path) => {
            let wrong = |error: &dyn Display| format!("{}: {error}", path.display());
            let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
            Some(User::parse(&text).map_err(|error| wrong(&error))?)
        }
        None => None,
    };
    let reactor = Standalone::new()?;
    let handle = reactor.handle();
    let listener = endpoint::server(&options.listen)?.listen(&handle)?;
    let database = store::open(&handle, options.database);
    // Nobody is served before the tables are there.
    let prepared = database.run_interaction(store::prepare);
    reactor.block_on(async { Ok::<_, Box<dyn Error>>(prepared.await?) })?;

    signal::stop_on(&handle, [Signal::INT, Signal::TERM])?.keep();
    let server = http::serve(listener, site::router(database, user));
    println!("http listening on {}", server.local_address());
    Ok(reactor.run()?)
}
