//! `cargo xtask toolkits`: hosts whose toolkits take minutes to install or to build, in the
//! workspace `toolkits/`.
//!
//! To add one: its package to that workspace, its Debian packages to [`NEEDS`], and a [`Suite`] or
//! a [`Window`], or both.

use std::fs::{self, File};
use std::io::{self, BufRead, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::debian::{self, Group};
use crate::display::Display;
use crate::process::{self, Running};
use crate::steps::Steps;
use crate::{Result, workspace};

const NEEDS: &[&Group] = &[
    &debian::QT,
    &debian::GNUSTEP,
    &debian::GTK,
    &debian::GTK3,
    &debian::WINIT,
    &debian::EGUI,
    &debian::FLTK,
    &debian::DISPLAY,
    &debian::WINDOWS,
];

type Environment = &'static [(&'static str, &'static str)];

/// A run of a package's tests, among them the conformance suite.
struct Suite {
    /// The column in the table, and the name.
    column: &'static str,
    package: &'static str,
    /// What makes this run another than that of the same package before it.
    environment: Environment,
}

/// Those that need the same build stand together.
const SUITES: &[Suite] = &[
    Suite {
        column: "qt6-glib-offscreen",
        package: "entwined-qt",
        environment: &[QT6, OFFSCREEN],
    },
    Suite {
        column: "qt6-glib-xcb",
        package: "entwined-qt",
        environment: &[QT6, XCB],
    },
    Suite {
        column: "qt6-unix-offscreen",
        package: "entwined-qt",
        environment: &[QT6, OFFSCREEN, NO_GLIB],
    },
    Suite {
        column: "qt6-unix-xcb",
        package: "entwined-qt",
        environment: &[QT6, XCB, NO_GLIB],
    },
    Suite {
        column: "qt5-glib-offscreen",
        package: "entwined-qt",
        environment: &[QT5, OFFSCREEN],
    },
    Suite {
        column: "qt5-glib-xcb",
        package: "entwined-qt",
        environment: &[QT5, XCB],
    },
    Suite {
        column: "qt5-unix-offscreen",
        package: "entwined-qt",
        environment: &[QT5, OFFSCREEN, NO_GLIB],
    },
    Suite {
        column: "qt5-unix-xcb",
        package: "entwined-qt",
        environment: &[QT5, XCB, NO_GLIB],
    },
    Suite {
        column: "cocoa",
        package: "entwined-cocoa",
        environment: &[],
    },
    Suite {
        column: "fltk",
        package: "on-fltk",
        environment: &[],
    },
];

const QT6: (&str, &str) = ("QT_VERSION_MAJOR", "6");
const QT5: (&str, &str) = ("QT_VERSION_MAJOR", "5");
const OFFSCREEN: (&str, &str) = ("QT_QPA_PLATFORM", "offscreen");
const XCB: (&str, &str) = ("QT_QPA_PLATFORM", "xcb");
const NO_GLIB: (&str, &str) = ("QT_NO_GLIB", "1");

/// An example with a window. It prints a line `listening on http://ADDRESS`, sets its label to the
/// body of a `PUT /label`, and quits on a `POST /quit`.
struct Window {
    name: &'static str,
    /// Builds it, and returns the program. It is told whether the whole workspace was just built.
    /// A package that is built by itself has other features of what it depends on, so that is
    /// built once more.
    build: fn(bool) -> Result<PathBuf>,
    /// What happens in the second picture.
    then: Then,
    /// What the toolkit itself wakes the process for in [`IDLE`], when nothing happens.
    own_wake_ups: usize,
    environment: Environment,
}

/// What a window can do besides setting its label.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Nothing,
    /// A `POST /dialog` opens a modal dialog, and is answered when that is closed. Other requests
    /// are served meanwhile.
    Dialog,
    /// A `POST /download` fetches the URL in its body, shows how much of it has come, and is
    /// answered when all has.
    Download,
}

const WINDOWS: &[Window] = &[
    Window {
        name: "qt6-window",
        build: |_| example("qt-window", "6"),
        then: Then::Dialog,
        own_wake_ups: 0,
        environment: &[XCB],
    },
    Window {
        name: "qt5-window",
        build: |_| example("qt-window", "5"),
        then: Then::Dialog,
        own_wake_ups: 0,
        environment: &[XCB, NO_GLIB],
    },
    Window {
        name: "qt-label",
        build: qt_label,
        then: Then::Nothing,
        own_wake_ups: 0,
        environment: &[XCB],
    },
    Window {
        name: "cocoa-window",
        build: |_| example("cocoa-window", ""),
        then: Then::Dialog,
        own_wake_ups: 0,
        environment: &[],
    },
    Window {
        name: "gtk3-window",
        build: |built| rust_example(built, "gtk3-window"),
        then: Then::Nothing,
        own_wake_ups: 0,
        environment: &[],
    },
    Window {
        name: "relm4-window",
        build: |built| rust_example(built, "relm4-window"),
        then: Then::Nothing,
        own_wake_ups: 0,
        environment: &[],
    },
    Window {
        name: "slint-window",
        build: |built| rust_example(built, "slint-window"),
        then: Then::Download,
        own_wake_ups: 0,
        environment: &[],
    },
    Window {
        name: "egui-window",
        build: |built| rust_example(built, "egui-window"),
        then: Then::Download,
        own_wake_ups: 0,
        environment: &[("LIBGL_ALWAYS_SOFTWARE", "1")],
    },
];

/// How long a window may take to draw, to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// For how long wake-ups of a window are counted when nothing happens.
const IDLE: Duration = Duration::from_secs(5);

pub fn run(names: &[&str]) -> Result<ExitCode> {
    let wanted = |name: &str| names.is_empty() || names.iter().any(|part| name.contains(part));
    let mut steps = Steps::default();
    steps.run("packages", || debian::ensure(NEEDS))?;
    if names.is_empty() {
        steps.command("format", cargo()?.args(["fmt", "--all", "--check"]))?;
        steps.command(
            "build",
            cargo()?.args(["build", "--workspace", "--all-targets"]),
        )?;
        steps.command(
            "docs",
            cargo()?
                .args(["doc", "--workspace", "--no-deps", "--lib"])
                .env("RUSTDOCFLAGS", "-D warnings"),
        )?;
        steps.command(
            "examples in docs",
            cargo()?.args(["test", "--workspace", "--doc"]),
        )?;
        steps.command(
            "what the foreign windows share",
            cargo()?.args(["test", "--lib", "--package", "foreign-window"]),
        )?;
    }
    let display = Display::start(None)?;
    let results = workspace::root().join("target").join("conformance");
    fs::create_dir_all(&results)?;
    let mut failed = Vec::new();
    let suites: Vec<_> = SUITES.iter().filter(|s| wanted(s.column)).collect();
    for same_build in suites.chunk_by(|a, b| a.build() == b.build()) {
        // Two at a time: a suite waits more than it works.
        for some in same_build.chunks(2) {
            let names: Vec<_> = some.iter().map(|suite| suite.column).collect();
            let name = names.join(" ");
            // The table is printed all the same.
            if let Err(error) = steps.run(&name, || run_together(some, &display, &results)) {
                println!("{error}");
                failed.push(name);
            }
        }
    }
    for window in WINDOWS.iter().filter(|window| wanted(window.name)) {
        steps.run(window.name, || window.run(names.is_empty(), &display))?;
    }
    steps.command("behaviours", table()?.arg(&results))?;
    if !failed.is_empty() {
        return Err(format!("these failed: {}", failed.join(" ")).into());
    }
    steps.report();
    Ok(ExitCode::SUCCESS)
}

/// The program that prints the table. The gate has built it.
fn table() -> Result<Command> {
    let built = target()?.join("debug/examples/conformance-table");
    if built.exists() {
        return Ok(Command::new(built));
    }
    let mut cargo = workspace::cargo();
    cargo
        .args(["run", "--quiet", "--package", "entwined-conformance"])
        .args(["--example", "conformance-table", "--"]);
    Ok(cargo)
}

/// Cargo in the workspace of the toolkits, with lints. The target folder is the usual one, so that
/// what both workspaces need is built once.
fn cargo() -> Result<Command> {
    let mut cargo = workspace::cargo();
    cargo
        .current_dir(workspace::root().join("toolkits"))
        .env("CARGO_TARGET_DIR", target()?);
    workspace::linted(&mut cargo);
    Ok(cargo)
}

fn target() -> Result<PathBuf> {
    workspace::target()
}

/// Builds the tests of these suites, which need the same build, and runs them side by side.
fn run_together(suites: &[&Suite], display: &Display, results: &Path) -> Result<()> {
    let mut build = suites[0].cargo(display)?;
    process::succeed(build.arg("--no-run"))?;
    let outcomes: Vec<_> = thread::scope(|scope| {
        let mut running = Vec::new();
        for &suite in suites {
            // An error of ours cannot be sent to another thread.
            let run = move || suite.run(display, results).map_err(|e| e.to_string());
            running.push(scope.spawn(run));
        }
        let join = running.into_iter().map(|thread| thread.join());
        join.map(|outcome| outcome.unwrap_or_else(|_| Err("it panicked".into())))
            .collect()
    });
    let errors: Vec<_> = outcomes.into_iter().filter_map(|o| o.err()).collect();
    match errors.is_empty() {
        true => Ok(()),
        false => Err(errors.join("\n").into()),
    }
}

impl Suite {
    /// Suites for which this is equal have the same programs.
    fn build(&self) -> (&str, Option<&(&str, &str)>) {
        let version = self.environment.iter().find(|variable| variable.0 == QT6.0);
        (self.package, version)
    }

    fn cargo(&self, display: &Display) -> Result<Command> {
        let mut cargo = cargo()?;
        cargo.args(["test", "--tests", "--package", self.package]);
        display
            .show(&mut cargo)
            .envs(self.environment.iter().copied())
            .stdin(Stdio::null());
        Ok(cargo)
    }

    fn run(&self, display: &Display, results: &Path) -> Result<()> {
        // The suite names its file after the backend, and a package has several columns here.
        let own = results.join(self.column);
        if own.exists() {
            fs::remove_dir_all(&own)?;
        }
        fs::create_dir_all(&own)?;
        let log = results.join(format!("{}.log", self.column));
        let output = File::create(&log)?;
        let mut cargo = self.cargo(display)?;
        cargo
            .env("ENTWINED_CONFORMANCE", &own)
            .stderr(output.try_clone()?)
            .stdout(output);
        let outcome = process::succeed(&mut cargo);
        for file in fs::read_dir(&own)? {
            fs::rename(file?.path(), results.join(format!("{}.tsv", self.column)))?;
        }
        fs::remove_dir(&own)?;
        outcome.map_err(|error| {
            let text = fs::read(&log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let last = text.lines().rev().take(40).collect::<Vec<_>>();
            let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
            format!("{last}\n{}: {error}; see {}", self.column, log.display()).into()
        })
    }
}

impl Window {
    fn run(&self, built: bool, display: &Display) -> Result<()> {
        let program = (self.build)(built)?;
        let mut command = process::tied(program, None);
        display
            .show(&mut command)
            .envs(self.environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut running = Running::start(&mut command)?;
        let (address, output) = running.line_after("listening on ")?;
        thread::spawn(move || output.lines().for_each(drop));

        let text = format!("{} was set by a request", self.name);
        request(&["-X", "PUT", "--data", &text, &format!("{address}/label")])?;
        self.picture(display, &mut running, "")?;
        let wake_ups = wake_ups(&running)?;
        println!(
            "{}: {wake_ups} wake-ups in {IDLE:?} without events",
            self.name
        );
        if wake_ups > self.own_wake_ups {
            let own = self.own_wake_ups;
            return Err(format!("{}: {wake_ups} wake-ups, and {own} of its own", self.name).into());
        }
        match self.then {
            Then::Nothing => {}
            Then::Dialog => {
                let url = format!("{address}/dialog");
                let _asked = Running::start(&mut curl(&["-X", "POST", &url]))?;
                let text = "/dialog has not answered yet";
                request(&["-X", "PUT", "--data", text, &format!("{address}/label")])?;
                self.picture(display, &mut running, "-dialog")?;
            }
            Then::Download => {
                let (file, url) = (HalfFile::serve()?, format!("{address}/download"));
                let download = ["-X", "POST", "--data", &file.url, &url];
                let mut asked = Running::start(curl(&download).stdout(Stdio::piped()))?;
                self.picture(display, &mut running, "-download")?;
                file.serve_the_rest();
                let size = asked.line_after("")?.0;
                if size != format!("{} bytes", HalfFile::SIZE) {
                    return Err(format!("{} has downloaded {size}", self.name).into());
                }
            }
        }
        request(&["-X", "POST", &format!("{address}/quit")])?;
        let status = running.wait()?;
        if !status.success() {
            return Err(format!("{} ended with {status}", self.name).into());
        }
        Ok(())
    }

    fn picture(&self, display: &Display, running: &mut Running, suffix: &str) -> Result<()> {
        let folder = workspace::root().join("screenshots");
        fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{}{suffix}.png", self.name));
        if !display.picture(running, &file, PATIENCE)? {
            return Err(format!("{} drew nothing", self.name).into());
        }
        println!("its picture: {}", file.display());
        Ok(())
    }
}

/// Counts how often a thread of the process returns from its sleep.
fn wake_ups(running: &Running) -> Result<usize> {
    let trace = target()?.join("wake-ups.strace");
    let mut strace = process::tied("timeout", None);
    strace
        .args(["--signal", "INT", &IDLE.as_secs().to_string()])
        .args(["strace", "--quiet", "-f", "-e"])
        .arg("trace=poll,ppoll,select,pselect6,epoll_wait,epoll_pwait,epoll_pwait2,futex")
        .arg("-o")
        .arg(&trace)
        .args(["-p", &running.id().to_string()]);
    // strace tells by its status that it was interrupted.
    let _ = strace.status()?;
    let trace = fs::read_to_string(trace)?;
    // A sleep that it has interrupted itself, at the beginning or the end, has no result.
    let returned = |line: &&str| line.contains(" = ") && !line.contains("= ?");
    let lines: Vec<_> = trace.lines().filter(returned).collect();
    if !lines.is_empty() {
        println!("{}", lines[..lines.len().min(10)].join("\n"));
    }
    Ok(lines.len())
}

/// A file that a server gives away by halves.
struct HalfFile {
    url: String,
    rest: mpsc::Sender<()>,
}

impl HalfFile {
    const SIZE: usize = 1_000_000;

    /// Serves the file once, and stops in the middle.
    fn serve() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/file", listener.local_addr()?);
        let (rest, wanted) = mpsc::channel();
        thread::spawn(move || -> io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            let lines = io::BufReader::new(stream.try_clone()?).lines();
            lines.map_while(io::Result::ok).find(String::is_empty);
            let half = vec![b'.'; Self::SIZE / 2];
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", Self::SIZE);
            stream.write_all(head.as_bytes())?;
            stream.write_all(&half)?;
            // An error means that nobody wants the rest.
            match wanted.recv() {
                Ok(()) => stream.write_all(&half),
                Err(_) => Ok(()),
            }
        });
        Ok(HalfFile { url, rest })
    }

    fn serve_the_rest(self) {
        // The thread has ended if the client has.
        let _ = self.rest.send(());
    }
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

/// Builds the small example of `entwined-qt`, as the guide does it.
fn qt_label(_: bool) -> Result<PathBuf> {
    let mut build = cargo()?;
    build
        .args(["build", "--package", "entwined-qt", "--example", "qt_label"])
        .env(QT6.0, QT6.1);
    process::succeed(&mut build)?;
    let program = target()?.join("qt-label");
    let flags =
        process::output(Command::new("pkg-config").args(["--cflags", "--libs", "Qt6Widgets"]))?;
    process::succeed(
        Command::new("c++")
            .arg("-fPIC")
            .arg(workspace::root().join("integrations/qt/examples/qt_label/window.cpp"))
            .arg(target()?.join("debug/examples/libqt_label.a"))
            .args(flags.split_whitespace())
            .arg("-o")
            .arg(&program),
    )?;
    Ok(program)
}

/// Builds an example that is Rust throughout.
fn rust_example(built: bool, package: &str) -> Result<PathBuf> {
    if !built {
        process::succeed(cargo()?.args(["build", "--package", package]))?;
    }
    Ok(target()?.join("debug").join(package))
}

/// Builds the Rust library of an example, and the program in another language that its Makefile
/// links with it. `version` is Qt's, if it needs Qt.
fn example(package: &str, version: &str) -> Result<PathBuf> {
    let mut build = cargo()?;
    build.args(["build", "--package", package]);
    let mut make = Command::new("make");
    if !version.is_empty() {
        build.env("QT_VERSION_MAJOR", version);
        make.arg(format!("QT={version}"));
    }
    process::succeed(&mut build)?;
    let library = format!("lib{}.a", package.replace('-', "_"));
    let library = target()?.join("debug").join(library);
    let program = target()?.join(format!("{package}{version}"));
    process::succeed(
        make.arg("--directory")
            .arg(workspace::root().join("toolkits").join(package))
            .arg(format!("LIBRARY={}", library.display()))
            .arg(format!("PROGRAM={}", program.display())),
    )?;
    Ok(program)
}
