//! `cargo xtask layers`: which module may import which. The rules are the table in
//! `docs/layers.txt`; the picture in ARCHITECTURE.md is generated from it.

mod graph;
mod source;
mod table;

use std::fs;
use std::process::ExitCode;

use self::graph::Graph;
use self::table::Table;
use crate::{Result, workspace};

/// Checks the code against the table, and that the picture is up to date; with `write`, writes the
/// picture instead.
pub fn run(write: bool) -> Result<ExitCode> {
    let root = workspace::root();
    let table = Table::read(&fs::read_to_string(root.join("docs/layers.txt"))?)?;
    let page = root.join("ARCHITECTURE.md");
    let text = fs::read_to_string(&page)?;
    let drawn = picture::put(&text, &table.picture())?;
    if write {
        fs::write(&page, drawn)?;
    } else if drawn != text {
        return Err(
            "the picture in ARCHITECTURE.md is out of date; run cargo xtask layers --write".into(),
        );
    }
    let mut faults = Vec::new();
    let (mut files, mut circles) = (0, 0);
    for (name, source) in table.crates() {
        let graph = Graph::read(&root.join(source))?;
        files += graph.len();
        faults.extend(table.faults(name, &graph));
        let (found, defended) = table.circles(name, &graph);
        circles += defended;
        faults.extend(found);
    }
    if faults.is_empty() {
        println!("{files} files: the table allows all imports; {circles} allowed circles");
        return Ok(ExitCode::SUCCESS);
    }
    Err(format!("docs/layers.txt does not allow:\n  {}", faults.join("\n  ")).into())
}

mod picture {
    use crate::Result;

    const BEGIN: &str = "<!-- layers: written by `cargo xtask layers --write` -->\n";
    const END: &str = "<!-- end of layers -->\n";

    /// Returns the page with this picture between the markers.
    pub fn put(page: &str, picture: &str) -> Result<String> {
        let (before, rest) = page
            .split_once(BEGIN)
            .ok_or("ARCHITECTURE.md has no start marker")?;
        let (_, after) = rest
            .split_once(END)
            .ok_or("ARCHITECTURE.md has no end marker")?;
        Ok(format!("{before}{BEGIN}{picture}{END}{after}"))
    }
}
