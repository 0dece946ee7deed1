//! How each app begins and ends.

use std::{env, error::Error, process::ExitCode};

use crate::Options;

/// Reads the options and runs an app. An error is printed on standard error, and the exit status is
/// 1.
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

/// Returns the message for a user without a display: which variables were checked, and how to run
/// without one. `demo` is the app's name for `cargo xtask demo`.
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
