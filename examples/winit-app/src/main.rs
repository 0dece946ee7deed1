//! A winit window that is also a web server, in one thread.

#![forbid(unsafe_code)]

mod app;
mod browser;
mod editor;
mod pace;
mod screen;

use std::process::ExitCode;
use std::time::Duration;

use site::{Host, Model, Options, Report};
use winit::event_loop::EventLoop;

use app::App;

const NAME: &str = "winit-app";
const ABOUT: &str = "A winit window that is also a web server, in one thread.";

fn main() -> ExitCode {
    let options = Options::from_env_or_exit(NAME, ABOUT);
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{NAME}: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let event_loop = EventLoop::new().map_err(|_| no_display())?;
    let model = Model::new(Host::Winit);
    let mut app = App::new(model.clone());
    app.set_address(&format!("http://{}/", options.http));
    if let Some(seconds) = options.seconds {
        app.end_after(seconds);
    }
    let ended = event_loop.run_app(&mut app);
    ended.map_err(|error| format!("the event loop ended: {error}"))?;
    if let Some(error) = app.take_error() {
        return Err(format!("no window: {error}"));
    }
    if options.report {
        let report = Report::new(&model, 0, Duration::ZERO);
        report.print().map_err(|error| format!("no report: {error}"))?;
    }
    Ok(())
}

/// Which variables were looked at says more than the error, which names a place in winit's source.
fn no_display() -> String {
    let name = |variable| match std::env::var(variable) {
        Ok(value) if !value.is_empty() => format!("{variable}={value}"),
        _ => format!("{variable} is not set"),
    };
    format!(
        "no display to open a window on ({}, {}).\n\
         Start it in a desktop session, or without one: xvfb-run {NAME}",
        name("DISPLAY"),
        name("WAYLAND_DISPLAY"),
    )
}
