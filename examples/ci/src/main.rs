//! A build master and its workers. `README.md` says how to use it.
#![forbid(unsafe_code)]

mod log;
mod master;
mod site;
mod store;
mod trust;
#[cfg(feature = "window")]
mod window;
mod wire;
mod worker;

use std::{
    error::Error,
    io,
    iter::successors,
    path::PathBuf,
    process::{self, ExitCode},
};

use lexopt::prelude::*;

use master::Settings;
use trust::Trust;

const USAGE: &str = "\
A build master and its workers.

Usage: ci master --certificate FILE --key FILE --trust WORKER.pem ... [OPTIONS]
       ci worker --certificate FILE --key FILE --trust MASTER.pem --master ENDPOINT

Options of the master:
  --listen ENDPOINT    where its page is [default: tcp:8080:interface=127.0.0.1]
  --workers ENDPOINT   where workers connect [default: tcp:8090]
  --data FOLDER        where it keeps builds, logs and artifacts [default: ci-data]
  --database URL       keeps builds in PostgreSQL (postgres://…), where several masters share them;
                       they also share the folder
  --window             also shows them in a window, with which the master ends; it is there if the
                       program was built with `--features window`

Options of a worker:
  --master ENDPOINT    where the master is, such as tcp:build.example.org:8090

Of both:
  --certificate FILE   its own certificate (PEM)
  --key FILE           the key of its certificate (PEM)
  --trust FILE         the certificate of the other side; a master has one for each worker, and
                       a worker's name is that of its file
  -h, --help           print this";

#[derive(Default)]
struct Options {
    listen: Option<String>,
    workers: Option<String>,
    data: Option<PathBuf>,
    database: Option<String>,
    window: bool,
    master: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    trust: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With its causes, for people.
            let causes = successors(error.source(), |error| (*error).source());
            let causes = causes.map(|cause| format!(": {cause}"));
            eprintln!("ci: {error}{}", causes.collect::<String>());
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = lexopt::Parser::from_env();
    let mut role = None;
    let mut options = Options::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("listen") => options.listen = Some(arguments.value()?.string()?),
            Long("workers") => options.workers = Some(arguments.value()?.string()?),
            Long("data") => options.data = Some(arguments.value()?.into()),
            Long("database") => options.database = Some(arguments.value()?.string()?),
            Long("window") => options.window = true,
            Long("master") => options.master = Some(arguments.value()?.string()?),
            Long("certificate") => options.certificate = Some(arguments.value()?.into()),
            Long("key") => options.key = Some(arguments.value()?.into()),
            Long("trust") => options.trust.push(arguments.value()?.into()),
            Short('h') | Long("help") => {
                println!("{USAGE}");
                process::exit(0)
            }
            Value(word) if role.is_none() => role = Some(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(io::stderr)
        .init();
    let (Some(certificate), Some(key)) = (&options.certificate, &options.key) else {
        return Err("--certificate and --key are needed; see --help".into());
    };
    if options.trust.is_empty() {
        return Err("--trust is needed; see --help".into());
    }
    let trust = Trust::load(certificate, key, &options.trust)?;
    match (role.as_deref(), &options.master) {
        (Some("master"), None) => {
            let settings = Settings {
                listen: options
                    .listen
                    .unwrap_or_else(|| "tcp:8080:interface=127.0.0.1".into()),
                workers: options.workers.unwrap_or_else(|| "tcp:8090".into()),
                data: options.data.unwrap_or_else(|| "ci-data".into()),
                database: options.database,
                trust,
            };
            match options.window {
                false => master::run(settings),
                #[cfg(feature = "window")]
                true => window::run(settings),
                #[cfg(not(feature = "window"))]
                true => Err("build it with `--features window` to have a window".into()),
            }
        }
        (Some("worker"), Some(master)) => worker::run(master, &trust),
        _ => Err("either `ci master` or `ci worker --master ENDPOINT`; see --help".into()),
    }
}
