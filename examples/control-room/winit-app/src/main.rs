//! A winit window that is also a web server, in one thread.

#![forbid(unsafe_code)]

mod app;
mod beside;
mod browser;
mod editor;
mod pace;
mod screen;

use std::{error::Error, process::ExitCode, rc::Rc, sync::Arc, time::Duration};

use entwined_winit::{
    Lent, Winit,
    entwined::signal::{self, Signal},
};
use site::{Facts, Host, Model, Network, Options, Picture, Window};
use winit::event_loop::EventLoop;

use app::App;
use beside::Beside;

const NAME: &str = "winit-app";
const ABOUT: &str = "A winit window that is also a web server, in one thread.";

fn main() -> ExitCode {
    site::main(NAME, ABOUT, run)
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let event_loop = EventLoop::new().map_err(|_| site::no_display("winit"))?;
    let model = Model::new(Host::Winit);
    let reactor = Winit::<App>::new()?;
    let window = Window {
        picture: picture(reactor.app()),
        ask: None,
        facts: Some(facts(reactor.app())),
    };
    let network = Network::start(&reactor.handle(), options, &model, Some(window))?;
    let mut app = App::new(model.clone());
    app.set_address(&network.url());
    app.on_open({
        let (handle, lent) = (reactor.handle(), reactor.app());
        move |window, display| {
            let hide = move |hidden| lent.with(|app| app.hide(hidden));
            Beside::begin(&handle, window, display, hide)
        }
    });
    let lent = reactor.app();
    signal::call_on(&reactor.handle(), [Signal::INT, Signal::TERM], move || {
        // The app is lent to every callback of the reactor while the event loop runs.
        let _ = lent.try_with(|app| app.end_after(Duration::ZERO));
    })?
    .keep();
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

/// The window's picture, drawn by the application itself, which is lent to the handler that asks
/// for it.
fn picture(app: Lent<App>) -> Picture {
    Rc::new(move || {
        let picture = app
            .try_with(App::picture)
            .map_err(|error| error.to_string());
        picture
            .and_then(|it| {
                it.map(Arc::new)
                    .ok_or_else(|| "the window is not open yet".to_owned())
            })
            .into()
    })
}

fn facts(app: Lent<App>) -> Facts {
    Rc::new(move || app.try_with(|app| app.facts()).unwrap_or_default())
}
