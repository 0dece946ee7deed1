//! `bench deferred`: the criterion benchmark of that name, and the same operations in Twisted, in
//! one table.

use std::fs;
use std::process::Command;

use super::figures::print_table;
use super::python;
use crate::{Result, process, workspace};

const SCRIPT: &str = "benches/peers/twisted_deferred.py";

pub fn run(criterion: &[String]) -> Result<()> {
    // Checked first, so that nothing is measured in vain.
    let python = python::with(&["twisted"]);
    super::cargo_bench(&["--package", "peers"], "deferred", criterion)?;
    let twisted = match python {
        Ok(python) => Some(process::output(
            Command::new(python).arg(workspace::root().join(SCRIPT)),
        )?),
        Err(error) => {
            eprintln!(
                "\nSkipping Twisted, which needs Python 3 with venv and pip, and PyPI: {error}"
            );
            None
        }
    };

    let own = |shape: &str| estimate(&format!("deferred/{shape}"));
    let other = |shape: &str| estimate(&format!("others/{shape}"));
    let theirs = |shape| twisted.as_deref().and_then(|lines| figure(lines, shape));
    let rows = [
        (
            "one callback",
            own("1 callbacks")?,
            Some(other("futures oneshot and map")?),
            theirs("1 callbacks"),
        ),
        (
            "each further callback",
            each_further(own("1 callbacks")?, own("101 callbacks")?),
            None,
            theirs("1 callbacks")
                .zip(theirs("101 callbacks"))
                .map(|(one, many)| each_further(one, many)),
        ),
        (
            "all of 1,000",
            own("all of 1,000")?,
            Some(other("futures join_all of 1,000 oneshots")?),
            theirs("all of 1,000"),
        ),
    ];
    println!(
        "\nNanoseconds, medians; a boxed closure: {:.1}",
        other("a boxed closure")?
    );
    let shown = |figure: Option<f64>| {
        figure.map_or_else(|| "–".to_owned(), |figure| format!("{figure:.1}"))
    };
    let rows = rows.map(|(name, own, futures, twisted)| {
        let times = twisted.map(|twisted| twisted / own);
        vec![
            name.to_owned(),
            shown(Some(own)),
            shown(futures),
            shown(twisted),
            shown(times),
        ]
    });
    print_table(
        &[
            "shape",
            "Deferred",
            "futures",
            "Twisted",
            "Twisted / Deferred",
        ],
        &rows,
    );
    Ok(())
}

fn each_further(one: f64, hundred_and_one: f64) -> f64 {
    (hundred_and_one - one) / 100.0
}

/// Returns Criterion's latest median for a benchmark, in nanoseconds.
fn estimate(name: &str) -> Result<f64> {
    let file = workspace::target()?
        .join("criterion")
        .join(name)
        .join("new/estimates.json");
    let json = fs::read_to_string(&file)
        .map_err(|error| format!("no result of {name:?} in {file:?}: {error}"))?;
    median(&json).ok_or_else(|| format!("no median in {file:?}").into())
}

fn median(json: &str) -> Option<f64> {
    let (_, rest) = json.split_once("\"median\":")?;
    let (_, rest) = rest.split_once("\"point_estimate\":")?;
    rest[..rest.find([',', '}'])?].parse().ok()
}

/// Returns the figure on the line that begins with `name`.
fn figure(lines: &str, name: &str) -> Option<f64> {
    lines
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('\t')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::{figure, median};

    #[test]
    fn the_results_are_read() {
        let json = concat!(
            r#"{"mean":{"point_estimate":1.5},"median":{"confidence_interval":"#,
            r#"{"lower_bound":2.0},"point_estimate":2.5,"standard_error":0.1}}"#
        );
        assert_eq!(median(json), Some(2.5));
        assert_eq!(
            figure("1 callbacks\t9.0\n11 callbacks\t12.5\n", "11 callbacks"),
            Some(12.5)
        );
    }
}
