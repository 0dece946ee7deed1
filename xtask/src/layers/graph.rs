//! The files of a crate, and which file imports which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::source::{Mention, mentions};
use crate::Result;

/// A crate's modules, by path, such as `reactor/turn`. The crate's root is the empty path.
pub struct Graph {
    modules: BTreeMap<String, Vec<Mention>>,
}

impl Graph {
    /// Reads the sources in a crate's `src` folder.
    pub fn read(source: &Path) -> Result<Self> {
        let mut modules = BTreeMap::new();
        collect(source, "", &mut modules)?;
        Ok(Graph { modules })
    }

    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// Maps each module to the modules that it imports from.
    pub fn arrows(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut arrows = BTreeMap::new();
        for (module, mentions) in &self.modules {
            let used = mentions.iter().filter(|mention| !mention.exported);
            let targets: BTreeSet<&str> = used
                .filter_map(|mention| self.find(module, &mention.path, 0))
                // The root contains macros and names of other modules, but no code of its own.
                .filter(|target| target != module && !target.is_empty())
                .collect();
            arrows.insert(module.as_str(), targets);
        }
        arrows
    }

    /// Returns the module that defines what `path` names in `module`; `None` for other crates.
    fn find(&self, module: &str, path: &[String], depth: usize) -> Option<&str> {
        let (first, rest) = path.split_first()?;
        let start = match first.as_str() {
            "crate" => String::new(),
            "self" => module.to_owned(),
            "super" => parent(module).to_owned(),
            name => return self.alias(module, name, rest, depth),
        };
        self.walk(&start, rest, depth)
    }

    fn walk(&self, start: &str, path: &[String], depth: usize) -> Option<&str> {
        let mut at = start.to_owned();
        for (index, name) in path.iter().enumerate() {
            if name == "super" {
                at = parent(&at).to_owned();
                continue;
            }
            let child = if at.is_empty() {
                name.clone()
            } else {
                format!("{at}/{name}")
            };
            if self.modules.contains_key(&child) {
                at = child;
                continue;
            }
            if let Some(target) = self.alias(&at, name, &path[index + 1..], depth) {
                return Some(target);
            }
            break;
        }
        self.modules
            .get_key_value(&at)
            .map(|(module, _)| module.as_str())
    }

    /// Resolves a name that a `use` declaration of `module` introduces.
    fn alias(&self, module: &str, name: &str, rest: &[String], depth: usize) -> Option<&str> {
        if depth > 8 {
            return None;
        }
        let mentions = self.modules.get(module)?;
        let alias = mentions
            .iter()
            .find(|mention| mention.name.as_deref() == Some(name))?;
        let mut path = alias.path.clone();
        let first = path.first()?;
        if !matches!(first.as_str(), "crate" | "self" | "super") {
            // The path begins with a child module.
            let child = if module.is_empty() {
                first.clone()
            } else {
                format!("{module}/{first}")
            };
            if !self.modules.contains_key(&child) {
                return None;
            }
            path.insert(0, "self".to_owned());
        }
        path.extend_from_slice(rest);
        self.find(module, &path, depth + 1)
    }
}

fn parent(module: &str) -> &str {
    module.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn collect(
    folder: &Path,
    module: &str,
    modules: &mut BTreeMap<String, Vec<Mention>>,
) -> Result<()> {
    let join = |name: &str| match module {
        "" => name.to_owned(),
        module => format!("{module}/{name}"),
    };
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            collect(&path, &join(stem), modules)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = match stem {
                "mod" | "lib" => module.to_owned(),
                stem => join(stem),
            };
            modules.insert(name, mentions(&fs::read_to_string(&path)?));
        }
    }
    Ok(())
}
