//! Echo over TCP and TLS: processor time for a message, and memory for an idle connection.

use std::time::Duration;

use crate::{Outcome, load, server::Server, spread};

/// The servers, without TLS and with it. In each list the first is the baseline.
const PLAIN: [&str; 4] = ["mio", "tokio", "entwined-protocol", "entwined-stream"];
const TLS: [&str; 3] = ["tokio-tls", "entwined-tls-protocol", "entwined-tls-stream"];

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(2);
const SIZES: [usize; 2] = [1024, 64 * 1024];
const IDLE: usize = 10_000;

pub fn measure() -> Outcome {
    for kinds in [&PLAIN[..], &TLS[..]] {
        for size in SIZES {
            compare(kinds, size)?;
        }
        memory(kinds)?;
    }
    Ok(())
}

/// All take their turn in each round, so that a temporary slowdown of the machine affects all
/// alike.
fn compare(kinds: &[&str], size: usize) -> Outcome {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let costs = kinds
            .iter()
            .map(|kind| cost(kind, size))
            .collect::<Outcome<Vec<_>>>()?;
        rounds.push(costs);
    }
    println!(
        "\necho, {size} bytes, {CONNECTIONS} connections, {ROUNDS} rounds of {TIME:?}; \
         medians (least–most)"
    );
    println!(
        "{:<24} {:>24} {:>24} {:>12}",
        "server",
        "µs/message",
        format!("of {}", kinds[0]),
        "messages/s"
    );
    for (place, kind) in kinds.iter().enumerate() {
        let cost = spread(rounds.iter().map(|round| round[place].0));
        let ratio = spread(rounds.iter().map(|round| round[place].0 / round[0].0));
        let mut speeds: Vec<_> = rounds.iter().map(|round| round[place].1).collect();
        speeds.sort_by(f64::total_cmp);
        println!(
            "{kind:<24} {cost:>24} {ratio:>24} {:>12.0}",
            speeds[speeds.len() / 2]
        );
    }
    Ok(())
}

/// Returns microseconds of processor time per message, and messages per second.
fn cost(kind: &str, size: usize) -> Outcome<(f64, f64)> {
    let server = Server::start("serve", kind)?;
    load::echo(
        server.address,
        kind.contains("tls"),
        size,
        CONNECTIONS,
        TIME / 4,
    )?;
    let before = server.processor_time()?;
    let messages = load::echo(
        server.address,
        kind.contains("tls"),
        size,
        CONNECTIONS,
        TIME,
    )?;
    let spent = server.processor_time()? - before;
    Ok((
        spent.as_secs_f64() * 1e6 / messages as f64,
        messages as f64 / TIME.as_secs_f64(),
    ))
}

fn memory(kinds: &[&str]) -> Outcome {
    println!("\nmemory for each of {IDLE} connections that have echoed 16 bytes and are idle");
    for kind in kinds {
        let server = Server::start("serve", kind)?;
        load::echo(server.address, kind.contains("tls"), 16, 1, TIME / 20)?;
        let before = server.resident()?;
        let held = load::hold(server.address, kind.contains("tls"), IDLE)?;
        let each = (server.resident()?.saturating_sub(before)) as f64 / IDLE as f64;
        drop(held);
        println!("{kind:<24} {each:>10.0} bytes");
    }
    Ok(())
}
