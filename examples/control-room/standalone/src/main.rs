//! A web server on one thread, with no window.

#![forbid(unsafe_code)]

use std::{error::Error, process::ExitCode};

use entwined::{
    Standalone,
    signal::{self, Signal},
};
use site::{Host, Model, Network, Options};

const NAME: &str = "standalone";
const ABOUT: &str = "A web server on one thread, with no window.";

fn main() -> ExitCode {
    site::main(NAME, ABOUT, run)
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let reactor = Standalone::new()?;
    let handle = reactor.handle();
    let model = Model::new(Host::Standalone);
    let network = Network::start(&handle, options, &model, None)?;
    // Ctrl-C and service managers shut it down gracefully: requests in flight finish.
    let _signals = signal::stop_on(&handle, [Signal::INT, Signal::TERM])?;
    if let Some(seconds) = options.seconds {
        let handle = handle.clone();
        handle.clone().call_later(seconds, move || {
            // A signal may have stopped the reactor first.
            handle.stop();
        });
    }
    reactor.run()?;
    if options.report {
        network.report(&model).print()?;
    }
    Ok(())
}
