//! `bench gui`: windows that serve while they draw each frame; ours, and what others would write.
//! Which serves more requests, and are the frames undisturbed?

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

/// A kind of window, and how to start it.
struct Window {
    name: &'static str,
    program: PathBuf,
    arguments: &'static [&'static str],
    load: Load,
}

impl Window {
    fn new(
        name: &'static str,
        program: &Path,
        arguments: &'static [&'static str],
        load: Load,
    ) -> Self {
        Window {
            name,
            program: program.to_owned(),
            arguments,
            load,
        }
    }
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

pub fn run(options: Options) -> Result<()> {
    debian::ensure(&[
        &debian::GTK,
        &debian::WINIT,
        &debian::DISPLAY,
        &debian::LOAD,
        &debian::WEB_PEERS,
        &debian::TESTS,
    ])?;
    let gtk = workspace::build_to_measure("gui", "gui-gtk")?;
    let winit = workspace::build_to_measure("gui", "gui-winit")?;
    let folder = workspace::target()?.join("gui");
    fs::create_dir_all(&folder)?;
    let soup = libsoup(&folder)?;
    let upload = folder.join("upload");
    fs::File::create(&upload)?.set_len(UPLOAD)?;
    let display = Display::start(Some(OTHERS))?;

    for (title, windows) in tables(&gtk, &winit, &soup) {
        // All take their turn in each round, so that a temporary slowdown of the machine affects
        // all alike.
        let mut samples = vec![Vec::new(); windows.len()];
        for _ in 0..options.rounds {
            for (window, samples) in windows.iter().zip(&mut samples) {
                samples.push(visit(window, &display, &upload, options)?);
            }
        }
        println!(
            "\n{title}; {} connections, {} rounds of {} s, the window's process \
             on processor {SERVER}; median (least–most)",
            options.connections, options.rounds, options.seconds
        );
        let rows: Vec<_> = windows
            .iter()
            .zip(&samples)
            .map(|(window, samples)| row(window, samples))
            .collect();
        print_table(&HEAD, &rows);
    }
    Ok(())
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
fn tables(gtk: &Path, winit: &Path, soup: &Path) -> Vec<(&'static str, Vec<Window>)> {
    use Load::{Connects, Nothing, Requests, Upload};
    vec![
        (
            "GTK, each request sets a label",
            vec![
                Window::new("idle", gtk, &["idle"], Nothing),
                Window::new("Entwined", gtk, &["ours"], Requests),
                Window::new("hyper on a tokio thread", gtk, &["tokio"], Requests),
                Window::new(
                    "the same, not waiting for the label",
                    gtk,
                    &["tokio-posts"],
                    Requests,
                ),
                Window::new("libsoup", soup, &[], Requests),
            ],
        ),
        (
            "GTK, an animation of 8 ms a frame",
            vec![
                Window::new("idle", gtk, &["idle", "--cost", "8"], Nothing),
                Window::new("Entwined", gtk, &["ours", "--cost", "8"], Requests),
                Window::new(
                    "hyper on a tokio thread",
                    gtk,
                    &["tokio", "--cost", "8"],
                    Requests,
                ),
                Window::new("libsoup", soup, &["--cost", "8"], Requests),
            ],
        ),
        (
            "GTK, busy 15 of every 16 ms",
            vec![
                Window::new("idle", gtk, &["idle", "--cost", "15"], Nothing),
                Window::new("Entwined", gtk, &["ours", "--cost", "15"], Requests),
                Window::new(
                    "hyper on a tokio thread",
                    gtk,
                    &["tokio", "--cost", "15"],
                    Requests,
                ),
            ],
        ),
        (
            "GTK, other loads",
            vec![
                Window::new(
                    "200,000 posted calls a second",
                    gtk,
                    &["ours", "--load", "posts"],
                    Nothing,
                ),
                Window::new(
                    "a task that is always ready",
                    gtk,
                    &["ours", "--load", "task"],
                    Nothing,
                ),
                Window::new("uploads of 100 MiB", gtk, &["ours"], Upload),
                Window::new("1,000 connections a second", gtk, &["ours"], Connects),
            ],
        ),
        (
            "winit, each request sets the text",
            vec![
                Window::new("idle", winit, &["idle"], Nothing),
                Window::new("Entwined", winit, &["ours"], Requests),
                Window::new("hyper on a tokio thread", winit, &["tokio"], Requests),
                Window::new(
                    "the same, not waiting for the text",
                    winit,
                    &["tokio-posts"],
                    Requests,
                ),
            ],
        ),
        (
            "winit, an animation of 8 ms a frame",
            vec![
                Window::new("idle", winit, &["idle", "--cost", "8"], Nothing),
                Window::new("Entwined", winit, &["ours", "--cost", "8"], Requests),
                Window::new(
                    "hyper on a tokio thread",
                    winit,
                    &["tokio", "--cost", "8"],
                    Requests,
                ),
            ],
        ),
    ]
}

/// Runs a window for its time, under its load, and reads its report.
fn visit(window: &Window, display: &Display, upload: &Path, options: Options) -> Result<Sample> {
    let mut command = process::tied(&window.program, Some(SERVER));
    // A second and a half at the beginning and one second at the end are not measured; the load
    // lasts a little longer than the measurement.
    let seconds = options.seconds + 3;
    command.args(window.arguments).args([
        "--http",
        "127.0.0.1:0",
        "--seconds",
        &seconds.to_string(),
    ]);
    display.show(&mut command);
    let server = Server::launch(command)?;
    let mut sample = Sample::default();
    // Wait until the window has opened.
    thread::sleep(Duration::from_millis(700));
    let load = options.seconds + 2;
    match window.load {
        Load::Nothing => {}
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
                process::succeed(curl.args(["-sS", "-f", "-T"]).arg(upload).arg(&url))?;
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
    let output = server.end()?;
    let report = output.lines().find(|line| line.starts_with('{'));
    let report = report.ok_or_else(|| format!("no report in the window's output:\n{output}"))?;
    let number = |key| {
        number(report, key).ok_or_else(|| format!("no number {key:?} in the report {report}"))
    };
    (sample.frames, sample.lost) = (number("frames")?, number("lost")?);
    (sample.p50, sample.p99, sample.max) = (number("p50")?, number("p99")?, number("max")?);
    println!(
        "{}: {report} {:.0} requests/s",
        window.name, sample.requests
    );
    Ok(sample)
}

fn row(window: &Window, samples: &[Sample]) -> Vec<String> {
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
    let rate = |sample: &Sample| 60.0 * sample.frames / (sample.frames + sample.lost).max(1.0);
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

/// Builds libsoup's server in a GTK window, which Cargo cannot build.
fn libsoup(folder: &Path) -> Result<PathBuf> {
    let program = folder.join("libsoup-gtk");
    let flags = process::output(Command::new("pkg-config").args([
        "--cflags",
        "--libs",
        "gtk4",
        "libsoup-3.0",
    ]))?;
    let source = workspace::root().join("benches/gui/libsoup_gtk.c");
    let mut compile = Command::new("cc");
    compile
        .args(["-O2", "-o"])
        .arg(&program)
        .arg(source)
        .args(flags.split_whitespace())
        .arg("-lm");
    process::succeed(&mut compile)?;
    Ok(program)
}

/// Returns the number after a key. All keys of the JSON must differ, as they do in the windows'
/// reports.
fn number(json: &str, key: &str) -> Option<f64> {
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
