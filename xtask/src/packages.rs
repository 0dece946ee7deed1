//! `cargo xtask packages`: what is published. Checks of single features, and of the packages'
//! contents.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::steps::Steps;
use crate::{Result, debian, process, workspace};

pub fn run() -> Result<ExitCode> {
    let mut steps = Steps::default();
    steps.run("packages", || {
        debian::ensure(&[&debian::GTK, &debian::WINIT])
    })?;
    steps.run("features", check_features)?;
    steps.run("packaging", package)?;
    steps.report();
    Ok(ExitCode::SUCCESS)
}

/// A published crate.
struct Package {
    name: String,
    features: Vec<String>,
}

/// Checks the libraries without features and with each single feature, and the tests with the
/// default features.
///
/// Cargo unifies the features of what it checks together, also those of other people's crates. So
/// the libraries without features are checked in one command: nothing there asks for a feature. So
/// are the hosts' tests, whose features are the toolkits'. The rest is checked one by one.
fn check_features() -> Result<()> {
    let packages = published()?;
    let all = packages.iter().map(|package| package.name.as_str());
    // winit needs at least one of its display systems to build for Linux.
    check(
        all.clone(),
        &["--no-default-features", "--features", "entwined-winit/x11"],
    )?;
    check(all.filter(|name| !OURS.contains(name)), &["--tests"])?;
    for Package { name, features } in &packages {
        if OURS.contains(&name.as_str()) {
            check([name.as_str()], &["--tests"])?;
        }
        for feature in features {
            check(
                [name.as_str()],
                &["--no-default-features", "--features", feature],
            )?;
        }
    }
    Ok(())
}

/// The packages whose tests need no toolkit, and whose features are our own.
const OURS: [&str; 4] = [
    "entwined",
    "entwined-spawn",
    "entwined-http",
    "entwined-conformance",
];

fn check<'a>(packages: impl IntoIterator<Item = &'a str>, arguments: &[&str]) -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo.args(["check", "--quiet"]).args(arguments);
    for package in packages {
        cargo.args(["--package", package]);
    }
    process::succeed(&mut cargo)
}

/// Packages each crate. The packaged sources are not built: the steps before built the same files.
fn package() -> Result<()> {
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
    let manifests = folders.iter().map(|folder| folder.join("Cargo.toml"));
    let read = manifests.map(|manifest| read(&manifest));
    read.filter_map(Result::transpose).collect()
}

/// Reads a manifest. Returns `None` if the crate belongs to the workspace of the toolkits.
fn read(manifest: &Path) -> Result<Option<Package>> {
    let text = fs::read_to_string(manifest)?;
    if text.lines().any(|line| line.starts_with("workspace = \"")) {
        return Ok(None);
    }
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
    Ok(Some(Package { name, features }))
}
