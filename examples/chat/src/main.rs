//! Strangers who talk in pairs. `README.md` says how to use it.
#![forbid(unsafe_code)]

mod hall;
mod lines;
mod redis;
mod resp;
mod web;

use std::{
    error::Error,
    io,
    iter::successors,
    process::{self, ExitCode},
};

use entwined::{
    Standalone, endpoint, protocol,
    signal::{self, Signal},
};
use entwined_http as http;
use lexopt::prelude::*;

use hall::Hall;

const USAGE: &str = "\
Strangers who talk in pairs: in a browser, or with telnet.

Usage: chat [OPTIONS]

Options:
  --listen ENDPOINT   where browsers connect [default: tcp:8080:interface=127.0.0.1]
  --lines ENDPOINT    where telnet connects [default: nowhere]
  --hub URL           pair with the people of all processes that use the same Redis:
                      redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE] or unix:///PATH
  -h, --help          print this";

struct Options {
    listen: String,
    lines: Option<String>,
    hub: Option<redis::Url>,
}

fn options() -> Result<Options, lexopt::Error> {
    let mut options = Options {
        listen: "tcp:8080:interface=127.0.0.1".into(),
        lines: None,
        hub: None,
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("listen") => options.listen = arguments.value()?.string()?,
            Long("lines") => options.lines = Some(arguments.value()?.string()?),
            Long("hub") => options.hub = Some(arguments.value()?.parse()?),
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
            eprintln!("chat: {error}{}", causes.collect::<String>());
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
    signal::stop_on(&handle, [Signal::INT, Signal::TERM])?.keep();
    let hall = Hall::new()?;
    if let Some(url) = options.hub {
        redis::join(&handle, &hall, url);
    }
    let listener = endpoint::server(&options.listen)?.listen(&handle)?;
    let web = http::serve(listener, web::router(&hall));
    println!("http listening on {}", web.local_address());
    if let Some(text) = options.lines {
        let listener = endpoint::server(&text)?.listen(&handle)?;
        let server = protocol::serve(listener, lines::protocol(&hall));
        println!("lines listening on {}", server.local_address());
        server.keep();
    }
    Ok(reactor.run()?)
}
