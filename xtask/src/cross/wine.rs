//! Wine, with a Windows of its own.

use std::fs;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::bounded::{self, BUILD, TOOL};
use super::compiler::{self, WINDOWS};
use super::folder;
use crate::display::Display;
use crate::process::Running;
use crate::{Result, process, workspace};

pub struct Wine<'a> {
    prefix: PathBuf,
    display: &'a Display,
}

impl<'a> Wine<'a> {
    /// Makes the Windows in `prefix`, unless it is there.
    pub fn prepare(prefix: &Path, display: &'a Display) -> Result<Self> {
        let wine = Wine {
            prefix: prefix.to_owned(),
            display,
        };
        fs::create_dir_all(prefix)?;
        let system = prefix.join("drive_c/windows/system32");
        let library = system.join("bcryptprimitives.dll");
        if !library.exists() {
            // The first program makes the rest.
            bounded::succeed(TOOL, wine.command().args(["cmd", "/c", "ver"]))?;
            let source = workspace::root().join("xtask/src/cross/bcryptprimitives.c");
            compiler::windows_library(&source, &library)?;
        }
        Ok(wine)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(compiler::wine());
        self.surround(&mut command);
        command
    }

    /// Lets a program that runs in this Wine find it.
    pub fn surround<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        self.display
            .show(command)
            .env("WINEPREFIX", &self.prefix)
            .env("WINEDEBUG", "-all")
            // It would ask for packages that browsers need.
            .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
    }
}

impl Drop for Wine<'_> {
    fn drop(&mut self) {
        // Its server stays for a while otherwise.
        let _ = bounded::succeed(TOOL, self.command().args(["wineboot", "--kill"]));
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

/// The whole life of the window.
const WINDOW: Duration = Duration::from_secs(5 * 60);

/// Runs the example with a window: requests set its label, also while a dialog is open.
pub fn window(wine: &Wine, display: &Display) -> Result<String> {
    let mut cargo = WINDOWS.cargo("build")?;
    // With all crates and features, as the tests are built: so they are compiled once.
    WINDOWS.select(&mut cargo);
    cargo.args(["--all-features", "--example", "window"]);
    bounded::succeed(BUILD, &cargo)?;
    let program = folder()?
        .join(WINDOWS.name)
        .join("debug/examples/window.exe");
    let mut command = wine.command();
    command.arg(program);
    let mut running = Running::start(bounded::within(WINDOW, &command).stdout(Stdio::piped()))?;
    let (address, output) = running.line_after("listening on ")?;
    thread::spawn(move || output.lines().for_each(drop));
    let label = |text: &str| request(&["-X", "PUT", "--data", text, &format!("{address}/label")]);
    label("This label was set by a request.")?;
    let pictures = workspace::root().join("screenshots");
    fs::create_dir_all(&pictures)?;
    let picture = |name: &str, running: &mut Running| -> Result<()> {
        let file = pictures.join(name);
        if !display.picture(running, &file, PATIENCE)? {
            return Err("the window drew nothing".into());
        }
        println!("its picture: {}", file.display());
        Ok(())
    };
    picture("win32-window.png", &mut running)?;
    let dialog = thread::spawn({
        let address = format!("{address}/dialog");
        move || process::output(&mut curl(&["-X", "POST", &address])).map_err(|why| why.to_string())
    });
    // The dialog has to be there first.
    thread::sleep(Duration::from_secs(2));
    label("The dialog is open, and this is another request.")?;
    picture("win32-window-dialog.png", &mut running)?;
    if dialog.is_finished() {
        return Err("there was no dialog".into());
    }
    request(&["-X", "DELETE", &format!("{address}/dialog")])?;
    let answer = dialog.join().map_err(|_| "curl cannot be run")??;
    if answer != "it was closed\n" {
        return Err(format!("the dialog's request was answered with {answer:?}").into());
    }
    request(&["-X", "POST", &format!("{address}/quit")])?;
    let end = Instant::now() + PATIENCE;
    while running.ended()?.is_none() {
        if Instant::now() > end {
            return Err("the window does not close".into());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok("served requests beside its dialog".to_owned())
}

fn curl(arguments: &[&str]) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "30"])
        .args(arguments);
    curl
}

fn request(arguments: &[&str]) -> Result<()> {
    process::succeed(&mut curl(arguments))
}

/// What the test prints before each Ctrl-C.
const WAITS: [&str; 2] = ["waiting for Ctrl-C", "waiting for another one"];

/// The last byte of STATUS_CONTROL_C_EXIT, which is all that Wine can hand on.
const ENDED_BY_CTRL_C: i32 = 0x3A;

/// Runs the test of Ctrl-C in this test program of the core, and presses it: Wine makes it of
/// SIGINT.
pub fn ctrl_c(wine: &Wine, program: &Path) -> Result<String> {
    let mut command = wine.command();
    command
        .arg(program)
        .args([
            "--exact",
            "ctrl_c::ctrl_c_stops_the_run_and_has_its_default_effect_afterwards",
        ])
        .args(["--ignored", "--nocapture"]);
    let mut running = Running::start(bounded::within(TOOL, &command).stdout(Stdio::piped()))?;
    let (_, mut output) = running.line_after(WAITS[0])?;
    interrupt(&running)?;
    let mut line = String::new();
    while !line.starts_with(WAITS[1]) {
        line.clear();
        if output.read_line(&mut line)? == 0 {
            return Err("the first Ctrl-C has ended the program".into());
        }
    }
    interrupt(&running)?;
    match running.wait()?.code() {
        Some(ENDED_BY_CTRL_C) => Ok("stops a run, then ends the program".to_owned()),
        code => Err(format!("the second Ctrl-C: the program ended with {code:?}").into()),
    }
}

/// Sends SIGINT to the program alone. What runs is `timeout`, whose child it is.
fn interrupt(running: &Running) -> Result<()> {
    let id = running.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
    process::succeed(Command::new("sh").args(["-c", "kill -INT $1", "sh", children.trim()]))
}
