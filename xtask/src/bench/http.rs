//! `bench http`: processor time per request, ours compared with others.

use std::path::PathBuf;

use super::figures::{Spread, print_table};
use super::server::{Sample, Server};
use super::{BARE, HYPER, Options, SERVER, announce};
use crate::{Result, debian, workspace};

pub fn run(options: Options) -> Result<()> {
    debian::ensure(&[&debian::LOAD])?;
    let contestants = contestants()?;
    // All take their turn in each round, so that a temporary slowdown of the machine affects all
    // alike.
    let mut rounds: Vec<Vec<Sample>> = Vec::new();
    for round in 1..=options.rounds {
        let mut samples = Vec::new();
        for (name, program) in &contestants {
            let sample = Server::start(program, |_| {})?.measure(options)?;
            announce(round, name, sample);
            samples.push(sample);
        }
        rounds.push(samples);
    }

    println!(
        "\n`GET /hello`, {} connections, {} rounds of {} s, server on processor {SERVER}; \
         median (least–most); ratios are of processor time, within a round",
        options.connections, options.rounds, options.seconds
    );
    let rows: Vec<Vec<String>> = contestants
        .iter()
        .enumerate()
        .map(|(place, (name, _))| row(name, place, &rounds))
        .collect();
    print_table(
        &[
            "server",
            "µs/request",
            "of hyper on tokio",
            "of bare mio",
            "requests/s",
        ],
        &rows,
    );
    Ok(())
}

/// Builds everything first: nothing is measured while a compiler runs.
fn contestants() -> Result<Vec<(&'static str, PathBuf)>> {
    let mut contestants = super::peers()?;
    if workspace::has_app("standalone") {
        contestants.push((
            "entwined standalone",
            workspace::build_to_measure("standalone", "standalone")?,
        ));
    }
    Ok(contestants)
}

fn row(name: &str, place: usize, rounds: &[Vec<Sample>]) -> Vec<String> {
    let cost = |round: &Vec<Sample>, place: usize| round[place].microseconds_per_request;
    let ratio = |base| {
        Spread::of(
            rounds
                .iter()
                .map(|round| cost(round, place) / cost(round, base)),
        )
    };
    vec![
        name.to_owned(),
        Spread::of(rounds.iter().map(|round| cost(round, place))).to_string(),
        ratio(HYPER).to_string(),
        ratio(BARE).to_string(),
        format!(
            "{:.0}",
            Spread::of(rounds.iter().map(|round| round[place].requests_per_second))
        ),
    ]
}
