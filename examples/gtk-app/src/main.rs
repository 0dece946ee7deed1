//! A GTK 4 window that is also a web server, in one thread.

#![forbid(unsafe_code)]

mod picture;
mod plot;
mod ui;

use std::process::ExitCode;
use std::time::Duration;

use gtk::prelude::*;
use gtk::{gio, glib};
use site::{Host, Model, Options, Report};

const NAME: &str = "gtk-app";
const ABOUT: &str = "A GTK 4 window that is also a web server, in one thread.";

fn main() -> ExitCode {
    let options = Options::from_env_or_exit(NAME, ABOUT);
    // Before the application: that one would end the process without saying what helps.
    if gtk::init().is_err() {
        eprintln!("{NAME}: {}", no_display());
        return ExitCode::FAILURE;
    }
    let model = Model::new(Host::Gtk);
    // Not unique: a second window on another port is a second server, not the first one again.
    let app = gtk::Application::new(Some("org.entwined.GtkApp"), gio::ApplicationFlags::NON_UNIQUE);
    let shown = model.clone();
    let address = format!("http://{}/", options.http);
    app.connect_activate(move |app| {
        let ui = ui::build(app, shown.clone());
        ui.set_address(&address);
        ui.present();
    });
    if let Some(seconds) = options.seconds {
        end_after(&app, seconds);
    }
    // The options are ours and read already: the application gets none.
    let status = app.run_with_args::<&str>(&[]);
    if options.report && Report::new(&model, 0, Duration::ZERO).print().is_err() {
        return ExitCode::FAILURE;
    }
    if status == glib::ExitCode::SUCCESS { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn end_after(app: &gtk::Application, seconds: Duration) {
    let app = app.downgrade();
    glib::timeout_add_local_once(seconds, move || {
        if let Some(app) = app.upgrade() {
            app.quit();
        }
    });
}

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
