//! Notebooks in the browser. `README.md` says how to use it.
#![forbid(unsafe_code)]

mod document;
mod kernel;
mod notebook;
mod order;
#[cfg(feature = "window")]
mod picture;
mod site;
#[cfg(feature = "window")]
mod window;

use std::{
    error::Error,
    fs, io,
    iter::successors,
    path::PathBuf,
    process::{self, ExitCode},
};

use entwined::{
    Handle, Standalone, endpoint,
    reactor::Phase,
    signal::{self, Signal},
};
use entwined_http::{self as http, layers};
use lexopt::prelude::*;

use crate::{kernel::Kinds, site::Shelf};

const USAGE: &str = "\
Notebooks in the browser: cells of Python or a shell, with their output and pictures.

Usage: notebook [OPTIONS]

Options:
  --listen ENDPOINT   where to serve [default: tcp:8888:interface=127.0.0.1]
  --folder FOLDER     where the notebooks are [default: notebooks]
  --kernel NAME=PROGRAM ARGUMENT ...
                      another kind of kernel, beside `python` and `shell`; may be repeated
  --window            also has a window, with which the program ends; it is there if the program
                      was built with `--features window`
  -h, --help          print this";

struct Options {
    listen: String,
    folder: PathBuf,
    kinds: Kinds,
    window: bool,
}

fn options() -> Result<Options, lexopt::Error> {
    let mut options = Options {
        listen: "tcp:8888:interface=127.0.0.1".into(),
        folder: "notebooks".into(),
        kinds: Kinds::default(),
        window: false,
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("listen") => options.listen = arguments.value()?.string()?,
            Long("folder") => options.folder = arguments.value()?.into(),
            Long("kernel") => options.kinds.add(&arguments.value()?.string()?)?,
            Long("window") => options.window = true,
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
            eprintln!("notebook: {error}{}", causes.collect::<String>());
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
    let folder = &options.folder;
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    match options.window {
        false => {
            let reactor = Standalone::new()?;
            let handle = reactor.handle();
            signal::stop_on(&handle, [Signal::INT, Signal::TERM])?.keep();
            serve(&handle, options)?;
            Ok(reactor.run()?)
        }
        #[cfg(feature = "window")]
        true => window::run(options),
        #[cfg(not(feature = "window"))]
        true => Err("build it with `--features window` to have a window".into()),
    }
}

/// Begins to serve pages.
fn serve(handle: &Handle, options: Options) -> Result<Shelf, Box<dyn Error>> {
    let listener = endpoint::server(&options.listen)?.listen(handle)?;
    let shelf = Shelf::new(handle, options.folder, options.kinds);
    let saved = shelf.clone();
    handle
        .on_shutdown(Phase::Before, move || async move { saved.save_all().await })
        .keep();
    // Cells may do whatever their user may, so only who knows the token may run them.
    let local = layers::local_only().token();
    let token = local.secret().unwrap_or_default().to_owned();
    let server = http::serve(listener, site::router(shelf.clone()).layer(local));
    println!("http listening on {}", server.local_address());
    println!("open http://{}/?token={token}", server.local_address());
    server.keep();
    Ok(shelf)
}
