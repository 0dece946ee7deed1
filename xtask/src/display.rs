//! Displays in memory, for programs with windows if there is no display: an X server, or a Wayland
//! compositor.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::process::{self, Running};

/// The environment of programs on our display: nothing of a desktop session.
const ENVIRONMENT: [(&str, &str); 5] = [
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

/// How long a display may take to start.
const START: Duration = Duration::from_secs(20);

/// A running Xvfb or weston; it ends when this is dropped.
pub struct Display {
    server: Running,
    /// Where it is, for programs.
    place: Vec<(&'static str, OsString)>,
    /// Where its socket is.
    _folder: Option<Folder>,
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
            server,
            place: vec![
                ("DISPLAY", format!(":{number}").into()),
                ("GDK_BACKEND", "x11".into()),
            ],
            _folder: None,
        })
    }

    /// Starts a weston that shows its windows nowhere, limited to one processor if one is given.
    ///
    /// It comes before all other programs (`chrt -r`), which takes root. Otherwise its lateness
    /// would be measured as that of the windows.
    pub fn wayland(processor: Option<usize>) -> Result<Self> {
        let folder = Folder::new()?;
        let server = Running::start(
            process::tied("chrt", processor)
                .args(["-r", "5", "weston", "--backend=headless-backend.so"])
                .args(["--socket=entwined", "--no-config", "--idle-time=0"])
                .env("XDG_RUNTIME_DIR", &folder.0)
                .env_remove("DISPLAY")
                .env_remove("WAYLAND_DISPLAY")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )?;
        let deadline = Instant::now() + START;
        // The file is there before it listens.
        while UnixStream::connect(folder.0.join("entwined")).is_err() {
            if Instant::now() > deadline {
                return Err("weston does not start".into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(Self {
            server,
            place: vec![
                ("XDG_RUNTIME_DIR", folder.0.clone().into()),
                ("WAYLAND_DISPLAY", "entwined".into()),
                ("GDK_BACKEND", "wayland".into()),
            ],
            _folder: Some(folder),
        })
    }

    /// Lets the display come before all other programs, which takes root. Otherwise its lateness
    /// would be measured as that of the windows, if others keep its processor busy.
    pub fn come_first(&self) -> Result<()> {
        let id = self.server.id().to_string();
        process::succeed(Command::new("chrt").args(["-r", "-p", "5", &id]))
    }

    /// Makes a command use this display.
    pub fn show<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .envs(ENVIRONMENT)
            .envs(self.place.iter().map(|(name, value)| (name, value)))
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

/// A folder of our own for a socket, until it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let folder = env::temp_dir().join(format!("entwined-display-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Folder(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns how many colours a picture has: one as long as the screen is empty.
fn colours(file: &Path) -> Result<u32> {
    let count = process::output(Command::new("identify").args(["-format", "%k"]).arg(file))?;
    Ok(count.trim().parse()?)
}
