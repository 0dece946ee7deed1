//! The table of layers.
//!
//! ```text
//! crate entwined src
//! deferred: panic           results that have not come yet
//! routing = router handler: message
//! circle reactor/turn       one type, `Core`, in several files
//! ```
//!
//! Each line names a room and the rooms that it may import. A room is a module, named by its path
//! in the crate, together with the modules inside it; or several modules, listed after `=`. The
//! text after two spaces appears in the picture.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::Graph;
use crate::Result;

#[derive(Default)]
pub struct Table {
    crates: Vec<Layers>,
}

struct Layers {
    name: String,
    source: String,
    rooms: Vec<Room>,
    /// Folders whose files together make one type, and may import each other.
    circles: Vec<(String, String)>,
}

struct Room {
    name: String,
    modules: Vec<String>,
    imports: Vec<String>,
    text: String,
}

impl Table {
    pub fn read(text: &str) -> Result<Self> {
        let mut table = Table::default();
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let (rule, text) = line.split_once("  ").unwrap_or((line, ""));
            let words: Vec<&str> = rule.split_whitespace().collect();
            let text = text.trim().to_owned();
            match (words.as_slice(), table.crates.last_mut()) {
                (["crate", name, source], _) => table.crates.push(Layers {
                    name: (*name).to_owned(),
                    source: (*source).to_owned(),
                    rooms: Vec::new(),
                    circles: Vec::new(),
                }),
                (["circle", folder], Some(layers)) if !text.is_empty() => {
                    layers.circles.push(((*folder).to_owned(), text));
                }
                (_, Some(layers)) if rule.contains(':') => layers.rooms.push(room(rule, text)),
                _ => return Err(format!("docs/layers.txt: cannot read {line:?}").into()),
            }
        }
        Ok(table)
    }

    /// The crates, each with its source folder.
    pub fn crates(&self) -> impl Iterator<Item = (&str, &str)> {
        self.crates
            .iter()
            .map(|layers| (layers.name.as_str(), layers.source.as_str()))
    }

    fn layers(&self, name: &str) -> &Layers {
        let found = self.crates.iter().find(|layers| layers.name == name);
        found.expect("a crate of the table")
    }

    /// Returns the imports that the table does not allow, modules that it does not list, and
    /// allowed imports that no longer exist.
    pub fn faults(&self, name: &str, graph: &Graph) -> Vec<String> {
        let layers = self.layers(name);
        let mut faults = layers.upward();
        let mut drawn = BTreeSet::new();
        for (from, targets) in graph.arrows() {
            if from.is_empty() {
                continue;
            }
            let Some(room) = layers.room(from) else {
                faults.push(format!("{name}: {from} is not listed"));
                continue;
            };
            for to in targets {
                match layers.room(to) {
                    Some(target) if target.name == room.name => {}
                    Some(target) if room.imports.contains(&target.name) => {
                        drawn.insert((room.name.as_str(), target.name.as_str()));
                    }
                    _ => faults.push(format!("{name}: {from} imports {}", shown(to))),
                }
            }
        }
        for room in &layers.rooms {
            for import in &room.imports {
                if !drawn.contains(&(room.name.as_str(), import.as_str())) {
                    faults.push(format!("{name}: {} no longer imports {import}", room.name));
                }
            }
        }
        faults
    }

    /// Returns the circles of files that the table does not allow, and the number of circles that
    /// it allows.
    pub fn circles(&self, name: &str, graph: &Graph) -> (Vec<String>, usize) {
        let layers = self.layers(name);
        let (mut faults, mut seen) = (Vec::new(), BTreeSet::new());
        for circle in circles(&graph.arrows()) {
            let defended = layers
                .circles
                .iter()
                .find(|(folder, _)| circle.iter().all(|module| is_inside(module, folder)));
            match defended {
                Some((folder, _)) => _ = seen.insert(folder.as_str()),
                None => faults.push(format!("{name}: a circle of {}", circle.join(", "))),
            }
        }
        for (folder, _) in &layers.circles {
            if !seen.contains(folder.as_str()) {
                faults.push(format!("{name}: {folder} no longer has a circle"));
            }
        }
        let defended = layers.circles.len();
        (faults, defended)
    }

    /// The table as it appears in ARCHITECTURE.md. Each room imports only rooms below it.
    pub fn picture(&self) -> String {
        let mut picture = String::new();
        for layers in &self.crates {
            let width = layers
                .rooms
                .iter()
                .map(|room| room.name.len())
                .max()
                .unwrap_or(0);
            picture += &format!("\n`{}` (`{}/`):\n\n```text\n", layers.name, layers.source);
            for room in layers.rooms.iter().rev() {
                let line = format!("{:<width$}  {}", room.name, room.text);
                picture += line.trim_end();
                picture += "\n";
            }
            picture += "```\n";
            for (folder, why) in &layers.circles {
                picture += &format!("\nThe files of `{folder}` know each other: {why}.\n");
            }
        }
        picture + "\n"
    }
}

/// Reads a line such as `routing = router handler: message`.
fn room(rule: &str, text: String) -> Room {
    let (left, imports) = rule.split_once(':').unwrap_or((rule, ""));
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (name, modules) = match left.split_once('=') {
        Some((name, modules)) => (name.trim(), words(modules)),
        None => (left.trim(), vec![left.trim().to_owned()]),
    };
    Room {
        name: name.to_owned(),
        modules,
        imports: words(imports),
        text,
    }
}

impl Layers {
    /// Returns the room of a module: the one with the longest matching name.
    fn room(&self, module: &str) -> Option<&Room> {
        let covering = self.rooms.iter().flat_map(|room| {
            let modules = room.modules.iter();
            modules
                .filter(|name| is_inside(module, name))
                .map(move |name| (name.len(), room))
        });
        covering.max_by_key(|found| found.0).map(|found| found.1)
    }

    /// Returns the imports that do not come earlier in the table than the room that imports them.
    fn upward(&self) -> Vec<String> {
        let place: BTreeMap<_, _> = self
            .rooms
            .iter()
            .enumerate()
            .map(|(place, room)| (room.name.as_str(), place))
            .collect();
        let mut faults = Vec::new();
        for room in &self.rooms {
            for import in &room.imports {
                if place
                    .get(import.as_str())
                    .is_none_or(|at| *at >= place[room.name.as_str()])
                {
                    faults.push(format!(
                        "{}: {} stands below {import}",
                        self.name, room.name
                    ));
                }
            }
        }
        faults
    }
}

fn is_inside(module: &str, folder: &str) -> bool {
    module
        .strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn shown(module: &str) -> &str {
    if module.is_empty() { "lib.rs" } else { module }
}

/// Returns the sets of modules that import each other, directly or through others.
fn circles<'a>(arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<Vec<&'a str>> {
    let reach = |from: &'a str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(module) = open.pop() {
            for target in arrows.get(module).into_iter().flatten() {
                if seen.insert(*target) {
                    open.push(target);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = arrows
        .keys()
        .map(|module| (*module, reach(module)))
        .collect();
    let mut circles = Vec::new();
    let mut done = BTreeSet::new();
    for (&module, targets) in &reached {
        if !targets.contains(module) || !done.insert(module) {
            continue;
        }
        let others = targets
            .iter()
            .copied()
            .filter(|other| reached[other].contains(module));
        let circle: Vec<_> = others.collect();
        done.extend(circle.iter().copied());
        circles.push(circle);
    }
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_found() {
        let arrows = BTreeMap::from([
            ("a", BTreeSet::from(["b"])),
            ("b", BTreeSet::from(["c"])),
            ("c", BTreeSet::from(["b", "d"])),
            ("d", BTreeSet::new()),
        ]);
        assert_eq!(circles(&arrows), [["b", "c"]]);
    }

    #[test]
    fn an_import_from_above_is_a_fault() {
        let table = Table::read("crate x x/src\nlow: high\nhigh: low\n").expect("a table");
        assert_eq!(table.layers("x").upward(), ["x: low stands below high"]);
    }
}
