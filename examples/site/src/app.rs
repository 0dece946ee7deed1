//! How each app begins and ends.

use std::{env, error::Error, process::ExitCode};

use crate::Options;

/// Reads the options and runs an app; what fails is said on the standard error and is the exit
/// status 1.
pub fn main(
    name: &str,
    about: &str,
    run: impl FnOnce(&Options) -> Result<(), Box<dyn Error>>,
) -> ExitCode {
    let options = Options::from_env_or_exit(name, about);
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What to tell somebody who has no display: which variables were looked at, and how to do without
/// one. `demo` is the app's name there.
pub fn no_display(demo: &str) -> String {
    let name = |variable| match env::var(variable) {
        Ok(value) if !value.is_empty() => format!("{variable}={value}"),
        _ => format!("{variable} is not set"),
    };
    format!(
        "no display to open a window on ({}, {}).\n\
         Start it in a desktop session, or without one: cargo xtask demo {demo}",
        name("DISPLAY"),
        name("WAYLAND_DISPLAY"),
    )
}
