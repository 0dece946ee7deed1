//! `bench gtk`: the GTK app serves while its window draws every frame. Are both unhurt?

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::figures::{Spread, print_table};
use super::server::{Sample, Server};
use super::{BARE, OTHERS, Options, announce};
use crate::display::Display;
use crate::{Result, debian, workspace};

const APP: &str = "gtk-app";

pub fn run(options: Options) -> Result<()> {
    if !workspace::has_app(APP) {
        return Err(format!("this workspace has no {APP}").into());
    }
    debian::ensure(&[&debian::GTK, &debian::DISPLAY, &debian::LOAD])?;
    let (bare_name, bare) = super::peers()?.swap_remove(BARE);
    let app = workspace::build(APP, APP)?;
    let display = Display::start(Some(OTHERS))?;

    let idle = Frames::of(&visit(&app, &display, options, |_| {
        thread::sleep(Duration::from_secs(options.seconds.into()));
        Ok(())
    })?)?;
    let (mut bare_samples, mut app_samples, mut busy) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let sample = Server::start(&bare, |_| {})?.measure(options)?;
        announce(round, bare_name, sample);
        bare_samples.push(sample);

        let report = visit(&app, &display, options, |server| {
            let sample = server.measure(options)?;
            announce(round, APP, sample);
            app_samples.push(sample);
            Ok(())
        })?;
        busy.push(Frames::of(&report)?);
    }

    println!(
        "\n`GET /hello`, {} connections, {} rounds of {} s; the app's processor time includes its drawing; \
         median (least–most)",
        options.connections, options.rounds, options.seconds
    );
    print_table(&["server", "µs/request", "requests/s"], &[row(bare_name, &bare_samples), row(APP, &app_samples)]);
    print_table(
        &["window", "frames/s", "gap p50 ms", "gap p99 ms", "gap max ms", "longest callback ms"],
        &[Frames::row("idle", &[idle], options), Frames::row("under load", &busy, options)],
    );
    Ok(())
}

/// Lets the app run for its time, does `work` with it meanwhile, and returns its report.
fn visit(app: &Path, display: &Display, options: Options, work: impl FnOnce(&Server) -> Result<()>) -> Result<String> {
    let server = Server::start(app, |command| {
        let seconds = lifetime(options).to_string();
        display.show(command.args(["--report", "--seconds", &seconds]));
    })?;
    work(&server)?;
    let output = server.end()?;
    let report = output
        .lines()
        .find(|line| line.starts_with('{'))
        .ok_or_else(|| format!("no report in the app's output:\n{output}"))?;
    println!("{report}");
    Ok(report.to_owned())
}

/// Seconds: the load, its warm-up, and one to spare for starting and stopping.
fn lifetime(options: Options) -> u32 {
    options.seconds + 2
}

fn row(name: &str, samples: &[Sample]) -> Vec<String> {
    let cost = Spread::of(samples.iter().map(|sample| sample.microseconds_per_request));
    let rate = Spread::of(samples.iter().map(|sample| sample.requests_per_second));
    vec![name.to_owned(), cost.to_string(), format!("{rate:.0}")]
}

/// What an app's report says about its window.
struct Frames {
    count: f64,
    p50: f64,
    p99: f64,
    max: f64,
    longest_callback: f64,
}

impl Frames {
    fn of(report: &str) -> Result<Self> {
        let number = |key| number(report, key).ok_or_else(|| format!("no number {key:?} in the report {report}"));
        Ok(Self {
            count: number("frames")?,
            p50: number("p50")?,
            p99: number("p99")?,
            max: number("max")?,
            longest_callback: number("longest_callback_ms")?,
        })
    }

    fn row(name: &str, all: &[Self], options: Options) -> Vec<String> {
        let column = |field: fn(&Self) -> f64| Spread::of(all.iter().map(field));
        let frames = column(|frames| frames.count);
        let seconds = f64::from(lifetime(options));
        vec![
            name.to_owned(),
            format!("{:.1}", frames.median / seconds),
            format!("{:.1}", column(|frames| frames.p50)),
            format!("{:.1}", column(|frames| frames.p99)),
            format!("{:.1}", column(|frames| frames.max)),
            column(|frames| frames.longest_callback).to_string(),
        ]
    }
}

/// The number after a key of JSON whose keys all differ, as in our apps' reports.
fn number(json: &str, key: &str) -> Option<f64> {
    let (_, rest) = json.split_once(&format!("\"{key}\":"))?;
    let end = rest.find([',', '}'])?;
    rest[..end].trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Frames;

    #[test]
    fn a_report_is_read() {
        let report = r#"{"requests":9,"frames":420,"frame_gap_ms":{"p50":16.7,"p99":18.1,"max":20},"turns":7,"longest_callback_ms":1.5}"#;
        let frames = Frames::of(report).unwrap();
        assert_eq!((frames.count, frames.p50, frames.p99, frames.max), (420.0, 16.7, 18.1, 20.0));
        assert_eq!(frames.longest_callback, 1.5);
        assert!(Frames::of("{}").is_err());
    }
}
