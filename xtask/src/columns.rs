//! The limit of 100 columns per line, for code, comments and Markdown prose.

use std::fs;
use std::process::Command;

use crate::{Result, process, workspace};

const MAX: usize = 100;

/// Fails and lists the lines that are too long. Table rows may be longer, and links and code in
/// Markdown.
pub fn check() -> Result<()> {
    let root = workspace::root();
    let listed = process::output(
        Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .args(["*.rs", "*.md"])
            .current_dir(root),
    )?;
    let mut faults = Vec::new();
    for name in listed.lines() {
        // A file that was just removed is still listed.
        let Ok(text) = fs::read_to_string(root.join(name)) else {
            continue;
        };
        let long = if name.ends_with(".md") {
            long_in_prose(&text)
        } else {
            long_in_code(&text)
        };
        faults.extend(long.into_iter().map(|line| format!("{name}:{line}")));
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(format!(
        "lines of more than {MAX} columns:\n  {}",
        faults.join("\n  ")
    )
    .into())
}

fn is_long(line: &str) -> bool {
    line.chars().count() > MAX
}

fn long_in_code(text: &str) -> Vec<usize> {
    let is_row = |line: &str| {
        let line = line.trim_start();
        line.starts_with("//! |") || line.starts_with("/// |")
    };
    let numbered = text.lines().zip(1..);
    numbered
        .filter(|(line, _)| is_long(line) && !is_row(line))
        .map(|(_, number)| number)
        .collect()
}

fn long_in_prose(text: &str) -> Vec<usize> {
    let mut fenced = false;
    let mut long = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let start = line.trim_start();
        if start.starts_with("```") {
            fenced = !fenced;
        }
        let may_be = fenced || start.starts_with(['|', '<', '[', '!']) || line.starts_with("    ");
        if !may_be && is_long(line) {
            long.push(number);
        }
    }
    long
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_told_from_tables_and_code() {
        let long = "word ".repeat(30);
        let text = format!("{long}\n| {long}\n```\n{long}\n```\n{long}\n");
        assert_eq!(long_in_prose(&text), [1, 6]);
        assert_eq!(long_in_code(&text), [1, 2, 4, 6]);
    }
}
