//! `cargo xtask layers`: which module may import which. The table is `docs/layers.txt`; the picture
//! in ARCHITECTURE.md is written from it.

mod graph;
mod source;
mod table;

use std::fs;
use std::process::ExitCode;

use self::graph::Graph;
use self::table::Table;
use crate::{Result, workspace};

/// Checks the table, and that the picture is the table's; with `write`, writes the picture.
pub fn run(write: bool) -> Result<ExitCode> {
    let root = workspace::root();
    let table = Table::read(&fs::read_to_string(root.join("docs/layers.txt"))?)?;
    let page = root.join("ARCHITECTURE.md");
    let text = fs::read_to_string(&page)?;
    let drawn = picture::put(&text, &table.picture())?;
    if write {
        fs::write(&page, drawn)?;
    } else if drawn != text {
        return Err("ARCHITECTURE.md has an old picture: cargo xtask layers --write".into());
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
        println!(
            "{files} files, no arrow that the table does not allow; {circles} defended circles"
        );
        return Ok(ExitCode::SUCCESS);
    }
    Err(format!("docs/layers.txt does not allow:\n  {}", faults.join("\n  ")).into())
}

mod picture {
    use crate::Result;

    const BEGIN: &str = "<!-- layers: written by `cargo xtask layers --write` -->\n";
    const END: &str = "<!-- end of layers -->\n";

    /// The page with this picture between its marks.
    pub fn put(page: &str, picture: &str) -> Result<String> {
        let (before, rest) = page
            .split_once(BEGIN)
            .ok_or("ARCHITECTURE.md has no mark")?;
        let (_, after) = rest
            .split_once(END)
            .ok_or("ARCHITECTURE.md has no end mark")?;
        Ok(format!("{before}{BEGIN}{picture}{END}{after}"))
    }
}
