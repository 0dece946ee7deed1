//! `cargo xtask demo`: one of the apps, on any machine.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::debian::{self, Group};
use crate::display::{self, Display};
use crate::process::{self, Running};
use crate::{Result, workspace};

struct App {
    package: &'static str,
    window: bool,
    needs: &'static [&'static Group],
}

pub fn run(name: &str, options: &[String]) -> Result<ExitCode> {
    let app = match name {
        "standalone" => App {
            package: "standalone",
            window: false,
            needs: &[],
        },
        "gtk" => App {
            package: "gtk-app",
            window: true,
            needs: &[&debian::GTK],
        },
        "winit" => App {
            package: "winit-app",
            window: true,
            needs: &[&debian::WINIT],
        },
        _ => return Err(format!("no demo {name:?}: standalone, gtk or winit").into()),
    };
    debian::ensure(app.needs)?;
    if app.window && !display::present() {
        debian::ensure(&[&debian::DISPLAY])?;
        return run_without_display(name, &app, options);
    }
    let program = workspace::build(app.package, app.package)?;
    // exec replaces this process with the app, so signals and the exit status need no handling.
    let error = Command::new(&program).args(options).exec();
    Err(format!("cannot run {}: {error}", program.display()).into())
}

fn run_without_display(name: &str, app: &App, options: &[String]) -> Result<ExitCode> {
    let program = workspace::build(app.package, app.package)?;
    let display = Display::start(None)?;
    let mut command = process::tied(program, None);
    let mut running = Running::start(display.show(command.args(options)))?;

    let folder = workspace::root().join("screenshots");
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{name}.png"));
    if display.picture(&mut running, &file, Duration::from_secs(15))? {
        println!(
            "There is no display, so the window is in memory. Its picture: {}",
            file.display()
        );
    } else if running.ended()?.is_none() {
        return Err(format!("{name} drew nothing for 15 seconds").into());
    }
    let status = running.wait()?;
    if status.success() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(format!("{name} ended with {status}").into())
    }
}
