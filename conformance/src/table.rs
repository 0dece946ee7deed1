//! The table of behaviours and backends.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt::{self, Write},
    fs, io,
    path::Path,
};

use super::behaviours::{BEHAVIOURS, BY_TYPES, CARRIERS, NOT_COVERED, STREAMS, carrier_of, number};

/// The outcome of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed(String),
    CannotShow(String),
}

impl Outcome {
    pub(super) fn of(result: &Result<(), Box<dyn Any + Send>>) -> Self {
        match result {
            Ok(()) => Outcome::Passed,
            Err(panic) => Outcome::Failed(panic_message(&**panic)),
        }
    }

    pub(super) fn parse(text: &str) -> Self {
        if let Some(reason) = text.strip_prefix(CANNOT) {
            Outcome::CannotShow(reason.to_owned())
        } else if let Some(message) = text.strip_prefix(FAILED) {
            Outcome::Failed(message.to_owned())
        } else {
            Outcome::Passed
        }
    }
}

const CANNOT: &str = "cannot be shown: ";
const FAILED: &str = "FAILED: ";

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // On one line, because the results file has one line per test.
        match self {
            Outcome::Passed => f.write_str("ok"),
            Outcome::Failed(message) => write!(f, "{FAILED}{}", message.replace(['\n', '\t'], " ")),
            Outcome::CannotShow(reason) => write!(f, "{CANNOT}{reason}"),
        }
    }
}

/// The results of one backend, by test name.
pub(super) type Results = (String, BTreeMap<String, Outcome>);

/// Returns the table of behaviours and backends from the results in `directory`, where the suite
/// wrote them if the environment variable `ENTWINED_CONFORMANCE` named it. Below the table are the
/// reasons for what a backend cannot show, and the failures.
///
/// # Errors
/// If the directory or a file in it cannot be read.
pub fn table_of(directory: &Path) -> io::Result<String> {
    let mut backends = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "tsv") {
            continue;
        }
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&path)?;
        // If a test ran twice, its last result counts.
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        backends.push((
            name,
            lines
                .map(|(test, outcome)| (test.to_owned(), Outcome::parse(outcome)))
                .collect(),
        ));
    }
    backends.sort_by(|a: &Results, b| a.0.cmp(&b.0));
    Ok(table(&backends))
}

pub(super) fn table(backends: &[Results]) -> String {
    let mut text = String::new();
    let mut notes = String::new();
    let width = |backend: &str| backend.chars().count().max(10);
    let names: Vec<_> = backends
        .iter()
        .map(|backend| format!(" {:>10}", backend.0))
        .collect();
    let _ = writeln!(text, "  #{}  behaviour", names.concat());
    for (behaviour, meaning) in BEHAVIOURS {
        let _ = write!(text, "{behaviour:>3}");
        for (backend, results) in backends {
            let of_this = || {
                results
                    .iter()
                    .filter(|result| number(result.0) == *behaviour)
            };
            let cell = cell(of_this().map(|result| result.1));
            let _ = write!(text, " {cell:>width$}", width = width(backend));
            for (name, outcome) in of_this().filter(|result| *result.1 != Outcome::Passed) {
                let _ = writeln!(notes, "{backend}: {name}: {outcome}");
            }
        }
        let _ = writeln!(text, "  {}", shortened(meaning));
    }
    for (behaviour, reason) in NOT_COVERED {
        let _ = writeln!(notes, "behaviour {behaviour} has no test yet: {reason}");
    }
    for (behaviour, what) in BY_TYPES {
        let _ = writeln!(
            notes,
            "behaviour {behaviour} is held by the types as well: {what}"
        );
    }
    let _ = write!(text, "\n{}\n{notes}", by_transport(backends));
    text
}

/// The behaviours of streams, for each transport on each backend.
fn by_transport(backends: &[Results]) -> String {
    let mut text = String::from("   ");
    for (backend, _) in backends {
        let _ = write!(text, " {backend:<width$}", width = 8 * CARRIERS.len() - 1);
    }
    text.push_str("\n  #");
    for _ in backends {
        for carrier in CARRIERS {
            let _ = write!(text, " {carrier:>7}");
        }
    }
    text.push('\n');
    for behaviour in STREAMS {
        let _ = write!(text, "{behaviour:>3}");
        for (_, results) in backends {
            for carrier in CARRIERS {
                let of_this = results
                    .iter()
                    .filter(|result| {
                        number(result.0) == behaviour && carrier_of(result.0) == Some(carrier)
                    })
                    .map(|result| result.1);
                let _ = write!(text, " {:>7}", cell(of_this));
            }
        }
        text.push('\n');
    }
    text
}

fn cell<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> String {
    let outcomes: Vec<_> = outcomes.collect();
    let passed = outcomes
        .iter()
        .filter(|outcome| ***outcome == Outcome::Passed)
        .count();
    if outcomes
        .iter()
        .any(|outcome| matches!(outcome, Outcome::Failed(_)))
    {
        return "FAILED".to_owned();
    }
    match (outcomes.len(), passed) {
        (0, _) => "-".to_owned(),
        (_, 0) => "n/a".to_owned(),
        (all, passed) => format!("{passed}/{all} ok"),
    }
}

/// Cuts the text of a behaviour to one line.
fn shortened(text: &str) -> String {
    const MOST: usize = 90;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{} ...", text[..end].trim_end()),
    }
}

/// What a panic said.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
        .to_owned()
}
