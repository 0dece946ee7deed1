//! A window that downloads files. `README.md` says how to use it.
#![forbid(unsafe_code)]

mod download;
mod name;
mod site;
mod transfer;
mod window;

use std::{
    cell::OnceCell,
    error::Error,
    fs, io,
    iter::successors,
    path::PathBuf,
    process::{self, ExitCode},
    rc::Rc,
};

use entwined::{
    endpoint,
    signal::{self, Signal},
};
use entwined_http::{self as http, layers};
use gtk::{gio, glib, prelude::*};
use lexopt::prelude::*;

use crate::{
    download::{Download, Downloads, State},
    window::Window,
};

const USAGE: &str = "\
A window that downloads files.

Usage: downloads [OPTIONS] [URL ...]

Options:
  --folder FOLDER     where the files go [default: your folder for downloads]
  --listen ENDPOINT   also take URLs by HTTP, from who has the token that is printed
  -h, --help          print this";

#[derive(Default)]
struct Options {
    folder: Option<PathBuf>,
    listen: Option<String>,
    urls: Vec<String>,
}

fn options() -> Result<Options, lexopt::Error> {
    let mut options = Options::default();
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("folder") => options.folder = Some(arguments.value()?.into()),
            Long("listen") => options.listen = Some(arguments.value()?.string()?),
            Short('h') | Long("help") => {
                println!("{USAGE}");
                process::exit(0)
            }
            Value(url) => options.urls.push(url.string()?),
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
            eprintln!("downloads: {error}{}", causes.collect::<String>());
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
    let folder = options
        .folder
        .or_else(|| glib::user_special_dir(glib::UserDirectory::Downloads))
        .unwrap_or_else(|| "downloads".into());
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let application = gtk::Application::new(
        Some("org.entwined.Downloads"),
        gio::ApplicationFlags::NON_UNIQUE,
    );
    let handle = entwined_gtk4::attach(&application)?.keep();
    let downloads = Downloads::new(&handle, folder);
    if let Some(listen) = &options.listen {
        let listener = endpoint::server(listen)?.listen(&handle)?;
        let local = layers::local_only().token();
        let token = local.secret().unwrap_or_default().to_owned();
        let server = http::serve(listener, site::router(downloads.clone()).layer(local));
        println!("http listening on {}", server.local_address());
        println!("token {token}");
        server.keep();
    }
    // The loop is GTK's, so what ends it is too.
    let quit = application.clone();
    signal::call_on(&handle, [Signal::INT, Signal::TERM], move || quit.quit())?.keep();

    let window = Rc::new(OnceCell::new());
    let urls = options.urls;
    application.connect_activate({
        let (downloads, window) = (downloads.clone(), window.clone());
        move |application| {
            let shown = window.get_or_init(|| Window::new(application, &downloads));
            let (shown, application) = (Rc::downgrade(shown), application.downgrade());
            downloads.on_change(move |download, is_new| {
                if let Some(window) = shown.upgrade() {
                    window.show(download);
                }
                if let (Some(application), true) = (application.upgrade(), is_new) {
                    notify(&application, download);
                }
            });
            for download in downloads.all() {
                window.get().expect("just made").show(&download);
            }
            for url in &urls {
                if let Err(why) = downloads.add(url) {
                    tracing::error!(why, "not a URL");
                }
            }
        }
    });
    let code = application.run_with_args::<&str>(&[]);
    downloads.end();
    match code {
        glib::ExitCode::SUCCESS => Ok(()),
        _ => Err("the application ended with an error".into()),
    }
}

/// Tells somebody who looks at another window.
fn notify(application: &gtk::Application, download: &Download) {
    let (title, text) = match download.state() {
        State::Done(_) => ("Downloaded", download.name()),
        State::Failed(why) => ("Not downloaded", format!("{}: {why}", download.name())),
        _ => return,
    };
    // There may be no desktop that could show it.
    if application.dbus_connection().is_none() {
        return;
    }
    let notification = gio::Notification::new(title);
    notification.set_body(Some(&text));
    application.send_notification(Some(&format!("download-{}", download.id)), &notification);
}
