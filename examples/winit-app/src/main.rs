//! A winit window that is also a web server, in one thread.

#![forbid(unsafe_code)]

mod app;
mod browser;
mod editor;
mod pace;
mod screen;

use std::{error::Error, process::ExitCode, rc::Rc, time::Duration};

use entwined_winit::{Lent, Winit};
use site::{Host, Model, Network, Options, Picture};
use winit::event_loop::EventLoop;

use app::App;

const NAME: &str = "winit-app";
const ABOUT: &str = "A winit window that is also a web server, in one thread.";

fn main() -> ExitCode {
    let options = Options::from_env_or_exit(NAME, ABOUT);
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{NAME}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let event_loop = EventLoop::new().map_err(|_| no_display())?;
    let model = Model::new(Host::Winit);
    let reactor = Winit::<App>::new()?;
    let network = Network::start(&reactor.handle(), options, &model, Some(picture(reactor.app())))?;
    let mut app = App::new(model.clone());
    app.set_address(&network.url());
    let lent = reactor.app();
    site::on_termination(&reactor.handle(), move || {
        // It is lent to every callback of the reactor while the event loop runs.
        let _ = lent.with(|app| app.end_after(Duration::ZERO));
    })?;
    if let Some(seconds) = options.seconds {
        app.end_after(seconds);
    }
    reactor.run(event_loop, &mut app)?;
    if let Some(error) = app.take_error() {
        return Err(format!("no window: {error}").into());
    }
    if options.report {
        network.report(&model).print()?;
    }
    Ok(())
}

/// The window's picture, drawn by the application itself: it is lent to the handler that asks for it.
fn picture(app: Lent<App>) -> Picture {
    Rc::new(move || {
        let png = app.with(App::picture_png).map_err(|error| error.to_string());
        png.and_then(|png| png.ok_or_else(|| "the window is not there yet".to_owned())).into()
    })
}

/// Which variables were looked at says more than the error, which names a place in winit's source.
fn no_display() -> String {
    let name = |variable| match std::env::var(variable) {
        Ok(value) if !value.is_empty() => format!("{variable}={value}"),
        _ => format!("{variable} is not set"),
    };
    format!(
        "no display to open a window on ({}, {}).\n\
         Start it in a desktop session, or without one: cargo xtask demo winit",
        name("DISPLAY"),
        name("WAYLAND_DISPLAY"),
    )
}
