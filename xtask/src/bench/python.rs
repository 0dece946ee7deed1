//! Python with packages from PyPI, for comparison with Python programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Result, debian, process, workspace};

/// Returns the Python of a virtual environment with these packages, created on first use.
pub fn with(packages: &[&str]) -> Result<PathBuf> {
    let folder = workspace::target()?.join(packages.join("-"));
    let python = folder.join("bin/python");
    let works = |python: &Path| {
        let import = format!("import {}", packages.join(", "));
        Command::new(python)
            .args(["-c", &import])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|it| it.success())
    };
    if !works(&python) {
        debian::ensure(&[&debian::PYTHON])?;
        eprintln!(
            "Installing {} in {}",
            packages.join(" and "),
            folder.display()
        );
        process::succeed(
            Command::new("/usr/bin/python3")
                .args(["-m", "venv", "--clear"])
                .arg(&folder),
        )?;
        process::succeed(
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet"])
                .args(packages),
        )?;
    }
    Ok(python)
}
