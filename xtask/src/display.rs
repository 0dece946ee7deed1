//! An X server in memory, for programs with windows if there is no display.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::process::{self, Running};

/// The environment of programs on our display: only that display, and nothing of a desktop session.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("GDK_BACKEND", "x11"),
    // Software OpenGL would take processor time from what is tested or measured.
    ("GSK_RENDERER", "cairo"),
    ("GSETTINGS_BACKEND", "memory"),
    ("GIO_USE_VFS", "local"),
    ("GTK_A11Y", "none"),
    // An address that cannot be reached; otherwise GIO may start its own bus.
    ("DBUS_SESSION_BUS_ADDRESS", "disabled:"),
];

/// Returns whether there is a display already.
pub fn present() -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// A running Xvfb; it ends when this is dropped.
pub struct Display {
    _server: Running,
    name: String,
}

impl Display {
    /// Starts Xvfb on a free display, limited to one processor if one is given.
    pub fn start(processor: Option<usize>) -> Result<Self> {
        // Without -noreset it would reset whenever its last client leaves, such as one that took a
        // picture.
        let mut server = Running::start(
            process::tied("Xvfb", processor)
                .args(["-displayfd", "1", "-screen", "0", "1280x800x24"])
                .args(["-nolisten", "tcp", "-noreset", "-br"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        )?;
        let (number, _) = server.line_after("")?;
        server.ignore_errors();
        Ok(Self {
            _server: server,
            name: format!(":{number}"),
        })
    }

    /// Makes a command use this display.
    pub fn show<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("DISPLAY", &self.name)
            .env_remove("WAYLAND_DISPLAY")
            .envs(ENVIRONMENT)
    }

    /// Waits until `program` has drawn something, then writes a picture of its window to `file`.
    ///
    /// Returns false if the program ended before, or drew nothing within `patience`.
    pub fn picture(&self, program: &mut Running, file: &Path, patience: Duration) -> Result<bool> {
        let deadline = Instant::now() + patience;
        while program.ended()?.is_none() {
            self.capture(file, &[])?;
            if colours(file)? > 1 {
                // Wait for what comes after the first frame: fonts, icons, a second layout.
                thread::sleep(Duration::from_secs(1));
                if program.ended()?.is_none() {
                    // There is no window manager, so everything around the window is black.
                    self.capture(file, &["-trim", "+repage"])?;
                }
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(false)
    }

    fn capture(&self, file: &Path, options: &[&str]) -> Result<()> {
        let mut import = Command::new("import");
        import.args(["-window", "root"]).args(options).arg(file);
        process::succeed(self.show(&mut import))
    }
}

/// Returns how many colours a picture has: one as long as the screen is empty.
fn colours(file: &Path) -> Result<u32> {
    let count = process::output(Command::new("identify").args(["-format", "%k"]).arg(file))?;
    Ok(count.trim().parse()?)
}
