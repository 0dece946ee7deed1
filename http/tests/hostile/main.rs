//! Hostile input: what a peer sends, to which server or client, and what may come of it.
//!
//! Each row of the table runs in a process of its own. The victim lives there; the attacker is this
//! process. A row fails if the answer is another one, if a callback of the victim took longer than
//! the row allows, or if the victim's memory grew by more.
//!
//! On a virtual machine a callback is also too long if its processor was taken away meanwhile. If
//! that happened while a row ran, and the only fault is the time, the row runs again. The system
//! tells of it in whole ticks of 10 ms, so a part is told later, in another row. So one run that
//! was only slow is forgiven; the second one is not.
//!
//! ```text
//! cargo test -p entwined-http --all-features --test hostile            all rows
//! cargo test -p entwined-http --all-features --test hostile -- NAME    those whose name has NAME
//! ```

mod attack;
mod rows;
mod sys;
mod victim;

use std::{env, mem, process::ExitCode, time::Duration};

/// One hostile input.
struct Row {
    /// What is sent, in words.
    name: &'static str,
    /// What it is sent to.
    victim: Victim,
    /// Sends it, and says how the victim answered.
    attack: fn(attack::Target) -> String,
    /// What the answer must begin with.
    answer: &'static str,
    /// How long a callback of the victim may take, in release.
    max_callback: Duration,
    /// How much the victim's memory may grow, in KiB. The program's own code does not count.
    max_memory: u64,
}

/// What is attacked.
enum Victim {
    /// A server. It listens on the address that it returns, until it is dropped.
    Server(victim::Server),
    /// A client, which connects to the attacker's address and says how it went.
    Client(victim::Client),
}

/// Without optimization everything takes several times as long.
const SLOWER: u32 = if cfg!(debug_assertions) { 30 } else { 1 };

/// A row that is only slow is run at most this often.
const RUNS: u32 = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [flag, name, rest @ ..] = arguments.as_slice() {
        if flag == "--victim" {
            let row = rows::all().find(|row| row.name == name).expect("a row");
            return victim::run(row, rest.first().map(String::as_str));
        }
    }
    let wanted: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    if arguments.iter().any(|argument| argument == "--list") {
        for row in rows::all() {
            println!("{}: test", row.name);
        }
        return ExitCode::SUCCESS;
    }
    let rows = rows::all()
        .filter(|row| wanted.is_empty() || wanted.iter().any(|part| row.name.contains(&**part)));
    let (mut passed, mut failed) = (0, 0);
    println!(
        "{:<64} {:>10} {:>10}  answer",
        "hostile input", "callback", "memory"
    );
    for row in rows {
        let outcome = outcome(row);
        println!(
            "{:<64} {:>7.2} ms {:>6} KiB  {}",
            row.name,
            outcome.callback.as_secs_f64() * 1e3,
            outcome.memory,
            outcome.answer.lines().next().unwrap_or_default()
        );
        let faults = outcome.faults(row);
        for fault in &faults {
            println!("    FAILED: {fault}");
        }
        if faults.is_empty() {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    println!("\n{passed} passed, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs a row; again, if its callbacks may be too long only because of others.
fn outcome(row: &Row) -> attack::Outcome {
    let mut forgiven = false;
    for _ in 1..RUNS {
        let outcome = attack::run(row);
        if !outcome.is_only_slow(row) || outcome.steal == 0 && mem::replace(&mut forgiven, true) {
            return outcome;
        }
        println!(
            "    again: {:.2} ms, while others had the processors for {} ticks (steal): {}",
            outcome.callback.as_secs_f64() * 1e3,
            outcome.steal,
            row.name
        );
    }
    attack::run(row)
}
