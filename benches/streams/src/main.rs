//! Streams and datagrams compared with others: processor time per message, memory per connection,
//! and what remains of connections that have come and gone.
//!
//! The first argument selects the measurement. Each compared server runs in its own process on
//! processor 0; the load runs on processor 1.

mod chat;
mod connections;
mod datagrams;
mod echo;
mod load;
mod server;
mod servers;
mod strangers;
mod unread;

use std::error::Error;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", kind] => servers::run(kind),
        ["serve-datagrams", kind] => datagrams::serve(kind),
        ["serve-chat", _] => chat::serve(),
        ["echo"] => echo::measure(),
        ["udp"] => datagrams::measure(),
        ["chat", ref python @ ..] => chat::measure(python.first().copied()),
        ["connections"] => connections::measure_all(),
        ["connections", kind] => connections::measure(kind),
        ["strangers", chat] => strangers::measure(chat),
        ["unread"] => unread::measure_all(),
        ["unread", kind] => unread::measure(kind),
        _ => Err("name a measurement: echo, udp, chat, connections, strangers or unread".into()),
    }
}

/// Formats the median of some values, and the least and the greatest.
fn spread(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    format!(
        "{:.2} ({:.2}–{:.2})",
        values[values.len() / 2],
        values[0],
        values[values.len() - 1]
    )
}

/// Runs one measurement in a new process, so that nothing remains of the previous one.
fn in_its_own(what: &str, kind: &str) -> Outcome {
    let status = std::process::Command::new(std::env::current_exe()?)
        .args([what, kind])
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{what} {kind}: {status}").into())
    }
}

/// Returns a figure of this process, or of another, in KiB: `VmRSS`, or `VmHWM` for its peak.
fn memory(process: &str, figure: &str) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(figure))
        .ok_or("no such figure")?;
    Ok(line
        .trim_start_matches(':')
        .trim()
        .trim_end_matches(" kB")
        .parse()?)
}
