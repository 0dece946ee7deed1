//! `bench soak`: a window with a server of each kind, and peers that come, misbehave and go by the
//! thousand. Does anything of them remain, and are the frames undisturbed?

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use super::{OTHERS, SERVER};
use crate::display::Display;
use crate::process::{self, Running};
use crate::{Result, debian, workspace};

/// How long it runs by default, in minutes.
const MINUTES: u32 = 20;

/// How long the window may take to end.
const PATIENCE: Duration = Duration::from_secs(40);

pub fn run(arguments: &[&str]) -> Result<()> {
    let minutes = minutes(arguments)?;
    debian::ensure(&[&debian::GTK, &debian::DISPLAY])?;
    let window = workspace::build_to_measure("soak", "soak-window")?;
    let load = workspace::build_to_measure("soak", "soak-load")?;
    let display = Display::start(Some(OTHERS))?;
    let mut command = process::tied(&window, Some(SERVER));
    display.show(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut window = Running::start(&mut command)?;
    // The output is kept open, because a program that prints into a closed pipe would end.
    let (addresses, _output) = window.line_after("listening on ")?;
    // Wait until the window has opened.
    thread::sleep(Duration::from_secs(1));
    println!("{minutes} minutes, the window on processor {SERVER}, its peers on {OTHERS}");
    process::succeed(process::tied(&load, Some(OTHERS)).args([
        &window.id().to_string(),
        &addresses,
        &minutes.to_string(),
    ]))
    .map_err(|_| "the window did not pass")?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match window.ended()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("the window ended with {status}").into()),
            None => thread::sleep(Duration::from_millis(100)),
        }
    }
    Err(format!("the window did not end in {} s", PATIENCE.as_secs()).into())
}

fn minutes(arguments: &[&str]) -> Result<u32> {
    match arguments {
        [] => Ok(MINUTES),
        ["--minutes", number] => match number.parse() {
            // The first minute is what the last one is compared with.
            Ok(number) if number > 1 => Ok(number),
            _ => Err(format!("--minutes needs a number of at least 2, not {number:?}").into()),
        },
        _ => Err(format!("bench soak takes only --minutes N, not {arguments:?}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::minutes;

    #[test]
    fn there_is_a_minute_to_compare_with() {
        assert_eq!(minutes(&[]).ok(), Some(20));
        assert_eq!(minutes(&["--minutes", "2"]).ok(), Some(2));
        for wrong in [&["--minutes", "1"][..], &["--minutes"], &["2"]] {
            assert!(minutes(wrong).is_err(), "{wrong:?}");
        }
    }
}
