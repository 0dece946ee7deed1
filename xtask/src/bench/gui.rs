//! `bench gui`: windows that serve while they draw each frame; ours, and what others would write.
//! Which serves more requests, and are the frames undisturbed?

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::figures::{Spread, print_table};
use super::server::Server;
use super::{OTHERS, Options, SERVER, wrk};
use crate::display::Display;
use crate::process::{self, Running};
use crate::{Result, debian, workspace};

/// The size of the upload in bytes.
const UPLOAD: u64 = 100 * 1024 * 1024;

/// Connections opened per second.
const CONNECTS: u32 = 1_000;

/// The load on a window.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    Nothing,
    Requests,
    Upload,
    Connects,
}

/// A program with a window.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Program {
    Gtk,
    Winit,
    Libsoup,
    Qt,
    /// The control room, `examples/control-room/gtk-app`.
    ControlRoom,
}

/// A kind of window, and how to start it.
struct Window {
    name: &'static str,
    program: Program,
    arguments: &'static [&'static str],
    load: Load,
}

/// Where windows are shown.
#[derive(Clone, Copy, PartialEq)]
enum Screen {
    X11,
    Wayland,
}

impl Screen {
    /// How often it shows a frame in a second. weston 10 without a screen waits 16 ms for one that
    /// it has not got, and then its 7 ms before each repaint, in whole milliseconds.
    fn hertz(self) -> f64 {
        match self {
            Screen::X11 => 60.0,
            Screen::Wayland => 40.0,
        }
    }
}

/// Windows to compare.
struct Table {
    /// To choose it by.
    name: &'static str,
    title: &'static str,
    screen: Screen,
    windows: Vec<Window>,
}

/// The results of one window.
#[derive(Clone, Copy, Default)]
struct Sample {
    frames: f64,
    lost: f64,
    p50: f64,
    p99: f64,
    max: f64,
    requests: f64,
    answered_p99: f64,
    answered_max: f64,
}

/// Measures the tables whose names contain one of `names`, or all of them without a name.
pub fn run(names: &[&str], options: Options) -> Result<()> {
    let wanted = |table: &Table| names.is_empty() || names.iter().any(|n| table.name.contains(n));
    let tables: Vec<_> = tables().into_iter().filter(wanted).collect();
    if tables.is_empty() {
        return Err(format!("no table has a name like {}", names.join(" or ")).into());
    }
    debian::ensure(&[
        &debian::GTK,
        &debian::WINIT,
        &debian::DISPLAY,
        &debian::LOAD,
        &debian::WEB_PEERS,
        &debian::TESTS,
    ])?;
    let folder = workspace::target()?.join("gui");
    fs::create_dir_all(&folder)?;
    let mut programs = BTreeMap::new();
    for window in tables.iter().flat_map(|table| &table.windows) {
        if let Entry::Vacant(place) = programs.entry(window.program) {
            place.insert(window.program.build(&folder)?);
        }
    }
    let upload = folder.join("upload");
    fs::File::create(&upload)?.set_len(UPLOAD)?;
    for table in tables {
        let display = match table.screen {
            Screen::X11 => Display::start(Some(OTHERS))?,
            Screen::Wayland => Display::wayland(Some(OTHERS))?,
        };
        // All take their turn in each round, so that a temporary slowdown of the machine affects
        // all alike.
        let mut samples = vec![Vec::new(); table.windows.len()];
        for _ in 0..options.rounds {
            for (window, samples) in table.windows.iter().zip(&mut samples) {
                let stage = Stage {
                    program: &programs[&window.program],
                    display: &display,
                    hertz: table.screen.hertz(),
                    upload: &upload,
                };
                samples.push(visit(window, &stage, options)?);
            }
        }
        println!(
            "\n{}; {} connections, {} rounds of {} s, the window's process \
             on processor {SERVER}; median (least–most)",
            table.title, options.connections, options.rounds, options.seconds
        );
        let rows: Vec<_> = table
            .windows
            .iter()
            .zip(&samples)
            .map(|(window, samples)| row(window, samples, table.screen.hertz()))
            .collect();
        print_table(&HEAD, &rows);
    }
    Ok(())
}

impl Program {
    fn build(self, folder: &Path) -> Result<PathBuf> {
        match self {
            Program::Gtk => workspace::build_to_measure("gui", "gui-gtk"),
            Program::Winit => workspace::build_to_measure("gui", "gui-winit"),
            Program::ControlRoom => workspace::build_to_measure("gtk-app", "gtk-app"),
            Program::Libsoup => libsoup(folder),
            Program::Qt => qt(folder),
        }
    }
}

const HEAD: [&str; 9] = [
    "window",
    "requests/s",
    "answered p99 ms",
    "max ms",
    "frames/s",
    "gap p50 ms",
    "p99 ms",
    "max ms",
    "lost",
];

/// The tables: which windows are compared.
fn tables() -> Vec<Table> {
    use Load::{Connects, Nothing, Requests, Upload};
    use Program::{ControlRoom, Gtk, Libsoup, Qt, Winit};
    let window = |name, program, arguments, load| Window {
        name,
        program,
        arguments,
        load,
    };
    let table = |name, title, screen, windows| Table {
        name,
        title,
        screen,
        windows,
    };
    vec![
        table(
            "gtk-x11",
            "GTK, each request sets a label",
            Screen::X11,
            vec![
                window("idle", Gtk, &["idle"], Nothing),
                window("Entwined", Gtk, &["ours"], Requests),
                window("hyper on a tokio thread", Gtk, &["tokio"], Requests),
                window(
                    "the same, not waiting for the label",
                    Gtk,
                    &["tokio-posts"],
                    Requests,
                ),
                window("libsoup", Libsoup, &[], Requests),
            ],
        ),
        table(
            "gtk-x11-animation",
            "GTK, an animation of 8 ms a frame",
            Screen::X11,
            vec![
                window("idle", Gtk, &["idle", "--cost", "8"], Nothing),
                window("Entwined", Gtk, &["ours", "--cost", "8"], Requests),
                window(
                    "hyper on a tokio thread",
                    Gtk,
                    &["tokio", "--cost", "8"],
                    Requests,
                ),
                window("libsoup", Libsoup, &["--cost", "8"], Requests),
            ],
        ),
        table(
            "gtk-x11-busy",
            "GTK, busy 15 of every 16 ms",
            Screen::X11,
            vec![
                window("idle", Gtk, &["idle", "--cost", "15"], Nothing),
                window("Entwined", Gtk, &["ours", "--cost", "15"], Requests),
                window(
                    "hyper on a tokio thread",
                    Gtk,
                    &["tokio", "--cost", "15"],
                    Requests,
                ),
            ],
        ),
        table(
            "gtk-x11-loads",
            "GTK, other loads",
            Screen::X11,
            vec![
                window(
                    "200,000 posted calls a second",
                    Gtk,
                    &["ours", "--load", "posts"],
                    Nothing,
                ),
                window(
                    "a task that is always ready",
                    Gtk,
                    &["ours", "--load", "task"],
                    Nothing,
                ),
                window("uploads of 100 MiB", Gtk, &["ours"], Upload),
                window("1,000 connections a second", Gtk, &["ours"], Connects),
            ],
        ),
        table(
            "winit-x11",
            "winit, each request sets the text",
            Screen::X11,
            vec![
                window("idle", Winit, &["idle"], Nothing),
                window("Entwined", Winit, &["ours"], Requests),
                window("hyper on a tokio thread", Winit, &["tokio"], Requests),
                window(
                    "the same, not waiting for the text",
                    Winit,
                    &["tokio-posts"],
                    Requests,
                ),
            ],
        ),
        table(
            "winit-x11-animation",
            "winit, an animation of 8 ms a frame",
            Screen::X11,
            vec![
                window("idle", Winit, &["idle", "--cost", "8"], Nothing),
                window("Entwined", Winit, &["ours", "--cost", "8"], Requests),
                window(
                    "hyper on a tokio thread",
                    Winit,
                    &["tokio", "--cost", "8"],
                    Requests,
                ),
            ],
        ),
        table(
            "qt-x11",
            "Qt 6, each request sets a label",
            Screen::X11,
            vec![
                window("idle", Qt, &["idle"], Nothing),
                window("Entwined", Qt, &["ours"], Requests),
            ],
        ),
        table(
            "qt-x11-animation",
            "Qt 6, an animation of 8 ms a frame",
            Screen::X11,
            vec![
                window("idle", Qt, &["idle", "--cost", "8"], Nothing),
                window("Entwined", Qt, &["ours", "--cost", "8"], Requests),
            ],
        ),
        table(
            "gtk-wayland",
            "GTK on weston, each request sets a label",
            Screen::Wayland,
            vec![
                window("idle", Gtk, &["idle"], Nothing),
                window("Entwined", Gtk, &["ours"], Requests),
                window("hyper on a tokio thread", Gtk, &["tokio"], Requests),
            ],
        ),
        table(
            "winit-wayland",
            "winit on weston, each request sets the text",
            Screen::Wayland,
            vec![
                window("idle", Winit, &["idle"], Nothing),
                window("Entwined", Winit, &["ours"], Requests),
                window("hyper on a tokio thread", Winit, &["tokio"], Requests),
            ],
        ),
        table(
            "control-room",
            "the control room, from its first frame to its last",
            Screen::X11,
            vec![
                window("idle", ControlRoom, &["--report"], Nothing),
                window("64 connections", ControlRoom, &["--report"], Requests),
            ],
        ),
    ]
}

/// What a window is measured on.
struct Stage<'a> {
    program: &'a Path,
    display: &'a Display,
    hertz: f64,
    upload: &'a Path,
}

/// Runs a window for its time, under its load, and reads its report.
fn visit(window: &Window, stage: &Stage, options: Options) -> Result<Sample> {
    let mut command = process::tied(stage.program, Some(SERVER));
    // A second and a half at the beginning and one second at the end are not measured; the load
    // lasts a little longer than the measurement.
    let room = window.program == Program::ControlRoom;
    // The control room is asked for its frames at the end.
    let seconds = options.seconds + if room { 5 } else { 3 };
    command.args(window.arguments).args([
        "--http",
        "127.0.0.1:0",
        "--seconds",
        &seconds.to_string(),
    ]);
    if !room {
        command.args(["--hertz", &stage.hertz.to_string()]);
    }
    stage.display.show(&mut command);
    let server = Server::launch(command)?;
    let mut sample = Sample::default();
    // Wait until the window has opened.
    thread::sleep(Duration::from_millis(700));
    let load = options.seconds + 2;
    let lost_before = window.lost(&server)?;
    match window.load {
        Load::Nothing => thread::sleep(Duration::from_secs(load.into())),
        Load::Requests => {
            let url = format!("http://{}/hello", server.address());
            let load = wrk::load(&url, options.connections, load)?;
            sample.requests = load.requests_per_second;
            (sample.answered_p99, sample.answered_max) =
                (load.p99_milliseconds, load.max_milliseconds);
        }
        Load::Upload => {
            let end = Instant::now() + Duration::from_secs(load.into());
            let url = format!("http://{}/upload", server.address());
            let (mut count, start) = (0, Instant::now());
            while Instant::now() < end {
                let mut curl = process::tied("curl", Some(OTHERS));
                process::succeed(curl.args(["-sS", "-f", "-T"]).arg(stage.upload).arg(&url))?;
                count += 1;
            }
            sample.requests = f64::from(count) / start.elapsed().as_secs_f64();
        }
        Load::Connects => {
            let url = format!("http://{}/hello", server.address());
            let count = (CONNECTS * load).to_string();
            let mut h2load = process::tied("h2load", Some(OTHERS));
            h2load.args([
                "--h1",
                "-n",
                &count,
                "-c",
                &count,
                "-r",
                &CONNECTS.to_string(),
                &url,
            ]);
            let report = Running::start(h2load.stdout(Stdio::piped()))?
                .line_after("finished in ")?
                .0;
            let rate = report
                .split(", ")
                .nth(1)
                .and_then(|rate| rate.split(' ').next()?.parse().ok());
            sample.requests = rate.ok_or_else(|| format!("cannot parse h2load's {report:?}"))?;
        }
    }
    let lost_after = window.lost(&server)?;
    let output = server.end()?;
    let report = output.lines().find(|line| line.starts_with('{'));
    let report = report.ok_or_else(|| format!("no report in the window's output:\n{output}"))?;
    let number = |key| {
        number(report, key).ok_or_else(|| format!("no number {key:?} in the report {report}"))
    };
    sample.frames = number("frames")?;
    sample.lost = match (lost_before, lost_after) {
        (Some(before), Some(after)) => after - before,
        _ => number("lost")?,
    };
    (sample.p50, sample.p99, sample.max) = (number("p50")?, number("p99")?, number("max")?);
    println!(
        "{}: {report} {:.0} requests/s",
        window.name, sample.requests
    );
    Ok(sample)
}

fn row(window: &Window, samples: &[Sample], hertz: f64) -> Vec<String> {
    let column = |field: fn(&Sample) -> f64| Spread::of(samples.iter().map(field));
    let answered = |field: fn(&Sample) -> f64| match window.load {
        Load::Requests => format!("{:.1}", column(field)),
        _ => "–".to_owned(),
    };
    let requests = match window.load {
        Load::Nothing => "–".to_owned(),
        Load::Upload => format!("{:.1}", column(|sample| sample.requests)),
        _ => format!("{:.0}", column(|sample| sample.requests)),
    };
    // Both counts are for the time between the first and the last measured frame, so the rate
    // follows without knowing that time.
    let rate = |sample: &Sample| hertz * sample.frames / (sample.frames + sample.lost).max(1.0);
    vec![
        window.name.to_owned(),
        requests,
        answered(|sample| sample.answered_p99),
        answered(|sample| sample.answered_max),
        format!("{:.1}", Spread::of(samples.iter().map(rate)).median),
        format!("{:.1}", column(|sample| sample.p50).median),
        format!("{:.1}", column(|sample| sample.p99)),
        format!("{:.1}", column(|sample| sample.max)),
        format!("{:.0}", column(|sample| sample.lost)),
    ]
}

impl Window {
    /// The frames that the window has lost so far, if it can be asked while it runs.
    fn lost(&self, server: &Server) -> Result<Option<f64>> {
        if self.program != Program::ControlRoom {
            return Ok(None);
        }
        let url = format!("http://{}/monitor/metrics", server.address());
        let metrics = process::output(Command::new("curl").args(["-sS", "-f", &url]))?;
        let lost = metrics.lines().find_map(|line| {
            let (name, number) = line.split_once(' ')?;
            name.ends_with("frames_lost_total")
                .then(|| number.parse().ok())?
        });
        Ok(Some(lost.ok_or("the monitor counts no frames")?))
    }
}

/// Builds libsoup's server in a GTK window, which Cargo cannot build.
fn libsoup(folder: &Path) -> Result<PathBuf> {
    let program = folder.join("libsoup-gtk");
    compile(
        Command::new("cc")
            .arg("-o")
            .arg(&program)
            .arg(workspace::root().join("benches/gui/libsoup_gtk.c")),
        &["gtk4", "libsoup-3.0"],
    )?;
    Ok(program)
}

/// Builds the Qt window, and the library with its server.
fn qt(folder: &Path) -> Result<PathBuf> {
    debian::ensure(&[&debian::QT])?;
    let mut cargo = workspace::cargo();
    cargo
        .current_dir(workspace::root().join("toolkits"))
        .env("QT_VERSION_MAJOR", "6")
        .args(["build", "--release", "--package", "gui-qt"]);
    process::succeed(workspace::aligned(&mut cargo)?)?;
    let program = folder.join("gui-qt");
    let library = workspace::target()?.join("bench/release/libgui_qt.a");
    compile(
        Command::new("c++")
            .args(["-std=c++17", "-fPIC", "-o"])
            .arg(&program)
            .arg(workspace::root().join("benches/qt/main.cpp"))
            .arg(library),
        &["Qt6Widgets"],
    )?;
    Ok(program)
}

/// Adds what these packages need to a compiler's command, and runs it.
pub fn compile(compiler: &mut Command, packages: &[&str]) -> Result<()> {
    let flags = process::output(
        Command::new("pkg-config")
            .args(["--cflags", "--libs"])
            .args(packages),
    )?;
    compiler
        .arg("-O2")
        .args(flags.split_whitespace())
        .arg("-lm");
    process::succeed(compiler)
}

/// Returns the number after a key. All keys of the JSON must differ, as they do in the windows'
/// reports.
pub fn number(json: &str, key: &str) -> Option<f64> {
    let (_, rest) = json.split_once(&format!("\"{key}\":"))?;
    let end = rest.find([',', '}'])?;
    rest[..end].trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_report_is_read() {
        let report = r#"{"frames":420,"lost":2,"p50":16.7,"p99":18.1,"max":20}"#;
        assert_eq!(
            (number(report, "frames"), number(report, "max")),
            (Some(420.0), Some(20.0))
        );
        assert_eq!(number(report, "min"), None);
    }
}
