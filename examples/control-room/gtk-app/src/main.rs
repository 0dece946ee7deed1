//! A GTK 4 window that is also a web server, in one thread.

#![forbid(unsafe_code)]

mod picture;
mod plot;
mod search;
mod ui;

use std::{cell::OnceCell, error::Error, process::ExitCode, rc::Rc, time::Duration};

use entwined_gtk4::entwined::signal::{self, Signal};
use gtk::{gio, glib, prelude::*};
use site::search::Search;
use site::{Ask, Host, Model, Network, Options, Picture, Window};
use ui::Ui;

const NAME: &str = "gtk-app";
const ABOUT: &str = "A GTK 4 window that is also a web server, in one thread.";

fn main() -> ExitCode {
    site::main(NAME, ABOUT, run)
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    // Check this before the application does: it would end the process without a helpful message.
    gtk::init().map_err(|_| site::no_display("gtk"))?;
    let model = Model::new(Host::Gtk);
    // Not unique: a second window on another port is a second server, not the first one again.
    let app = gtk::Application::new(
        Some("org.entwined.GtkApp"),
        gio::ApplicationFlags::NON_UNIQUE,
    );
    let handle = entwined_gtk4::attach(&app)?.keep();
    // The window is created in `activate`, but the handler that asks for its picture is created
    // before.
    let window = Rc::new(OnceCell::<Ui>::new());
    let seen = Window {
        picture: picture(window.clone()),
        ask: Some(ask(window.clone())),
        facts: None,
    };
    let network = Network::start(&handle, options, &model, Some(seen))?;
    // The closure captures the network's address, not the network itself. So the network is dropped
    // with this function, and with it the folder of uploaded files.
    app.connect_activate({
        let (model, url) = (model.clone(), network.url());
        let search = Search::new(&handle, network.archive().clone());
        move |app| {
            let ui = window.get_or_init(|| ui::build(app, model.clone(), search.clone()));
            ui.set_address(&url);
            ui.present();
        }
    });
    let quit = app.clone();
    signal::call_on(&handle, [Signal::INT, Signal::TERM], move || end(&quit))?.keep();
    if let Some(seconds) = options.seconds {
        end_after(&app, seconds);
    }
    // The options are ours and have been read already, so the application gets none.
    let status = app.run_with_args::<&str>(&[]);
    if options.report {
        network.report(&model).print()?;
    }
    if status == glib::ExitCode::SUCCESS {
        Ok(())
    } else {
        Err("the application ended with an error".into())
    }
}

fn picture(window: Rc<OnceCell<Ui>>) -> Picture {
    Rc::new(move || match window.get() {
        Some(ui) => ui.picture().map_err(|error| error.to_string()),
        None => Err("the window is not open yet".to_owned()).into(),
    })
}

fn ask(window: Rc<OnceCell<Ui>>) -> Ask {
    Rc::new(move |question, limit| window.get().and_then(|ui| ui.ask(question, limit)))
}

fn end_after(app: &gtk::Application, seconds: Duration) {
    let app = app.downgrade();
    glib::timeout_add_local_once(seconds, move || {
        if let Some(app) = app.upgrade() {
            end(&app);
        }
    });
}

/// Ends the app, and with its windows the loops of dialogs, inside of which this may be called.
fn end(app: &gtk::Application) {
    for window in app.windows() {
        window.destroy();
    }
    app.quit();
}
