//! The published crates: checks of single features, and of the packages' contents.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Result, process, workspace};

/// A published crate.
struct Package {
    name: String,
    features: Vec<String>,
}

/// Checks each crate without features, with each single feature, and its tests with the default
/// features.
pub fn check_features() -> Result<()> {
    for Package { name, features } in published()? {
        let check = |arguments: &[&str]| {
            let mut cargo = workspace::cargo();
            cargo
                .args(["check", "--quiet", "--package", &name])
                .args(arguments);
            process::succeed(&mut cargo)
                .map_err(|error| format!("{name} {}: {error}", arguments.join(" ")))
        };
        check(&["--tests"])?;
        // winit needs at least one of its display systems to build for Linux.
        if name != "entwined-winit" {
            check(&["--no-default-features"])?;
        }
        for feature in &features {
            check(&["--no-default-features", "--features", feature])?;
        }
    }
    Ok(())
}

/// Packages each crate, and builds the packaged sources.
pub fn package() -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo.args(["package", "--quiet", "--allow-dirty", "--no-verify"]);
    for Package { name, .. } in published()? {
        cargo.args(["--package", &name]);
    }
    process::succeed(&mut cargo)
}

fn published() -> Result<Vec<Package>> {
    let root = workspace::root();
    let mut folders: Vec<PathBuf> = vec![root.to_owned()];
    folders.extend(["spawn", "http", "conformance"].map(|folder| root.join(folder)));
    let mut hosts: Vec<PathBuf> = fs::read_dir(root.join("integrations"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    hosts.sort();
    folders.extend(hosts);
    folders
        .iter()
        .map(|folder| read(&folder.join("Cargo.toml")))
        .collect()
}

/// Reads a manifest.
fn read(manifest: &Path) -> Result<Package> {
    let text = fs::read_to_string(manifest)?;
    let values = |line: &str| {
        line.split_once('=').map(|(key, value)| {
            (
                key.trim().to_owned(),
                value.trim().trim_matches('"').to_owned(),
            )
        })
    };
    let name = text
        .lines()
        .skip_while(|line| *line != "[package]")
        .filter_map(values)
        .find(|(key, _)| key == "name")
        .ok_or_else(|| format!("{} has no name", manifest.display()))?
        .1;
    let features = text
        .lines()
        .skip_while(|line| *line != "[features]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with([' ', '#', ']']))
        .filter_map(values)
        .map(|(key, _)| key)
        .filter(|key| key != "default")
        .collect();
    Ok(Package { name, features })
}
