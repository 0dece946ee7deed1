//! Debian's compiler, which has the source of its standard library and builds it for any target.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::bounded::{self, BUILD, TOOL};
use super::folder;
use crate::{Result, process, workspace};

/// A system that is built for.
pub struct Target {
    pub name: &'static str,
    packages: &'static [&'static str],
    /// Whether there is a compiler for C here. Some crates have C in them, which is compiled before
    /// types are checked.
    has_c: bool,
}

pub const WINDOWS: &Target = &Target {
    name: "x86_64-pc-windows-gnu",
    packages: &[
        "entwined",
        "entwined-http",
        "entwined-conformance",
        "entwined-win32",
    ],
    has_c: true,
};

pub const TARGETS: &[&Target] = &[
    WINDOWS,
    &Target {
        name: "aarch64-apple-darwin",
        packages: &["entwined", "entwined-http", "entwined-conformance"],
        has_c: false,
    },
    &Target {
        name: "x86_64-unknown-freebsd",
        packages: &["entwined", "entwined-http", "entwined-conformance"],
        has_c: false,
    },
];

/// From `rustc-web`. It is not the one that developers use.
const RUSTC: &str = "/usr/bin/rustc";

/// The minor version of Rust 1 that our crates ask for.
const OLDEST: u32 = 86;

/// Fails if Debian's compiler is too old, as it was when the release was new.
pub fn require() -> Result<()> {
    let text = process::output(Command::new(RUSTC).arg("--version"))?;
    let minor = text
        .strip_prefix("rustc 1.")
        .and_then(|rest| rest.split('.').next())
        .and_then(|minor| minor.parse().ok())
        .unwrap_or(0_u32);
    match minor >= OLDEST {
        true => Ok(()),
        false => Err(format!(
            "{RUSTC} is {}, and 1.{OLDEST} is needed: run apt-get update, then apt-get install \
             rustc-web libstd-rust-web-dev rust-web-src",
            text.trim()
        )
        .into()),
    }
}

impl Target {
    /// A Cargo command for this target.
    pub fn cargo(&self, command: &str) -> Result<Command> {
        let mut cargo = workspace::cargo();
        let name = self.name.replace('-', "_");
        cargo
            .args([command, "-Z", "build-std=std,panic_unwind,test"])
            .args(["--target", self.name])
            .env("RUSTC", RUSTC)
            // For `build-std`.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", folder()?)
            // Debug information of several programs would take gigabytes.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env_remove("RUSTFLAGS")
            // Of the shell's.
            .env_remove("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER");
        if !self.has_c {
            let tool = pretender()?;
            cargo
                .env(format!("CC_{name}"), &tool)
                .env(format!("AR_{name}"), &tool);
        }
        Ok(cargo)
    }

    /// Selects the crates that are meant for this target.
    pub fn select(&self, cargo: &mut Command) {
        for package in self.packages {
            cargo.args(["--package", package]);
        }
    }

    /// Checks the types of the crates that are meant for this target, with all features and with
    /// none, and those of their tests. A warning is an error.
    pub fn check(&self) -> Result<String> {
        for options in [
            &["--all-features", "--tests"][..],
            &["--no-default-features"],
        ] {
            let mut cargo = self.cargo("check")?;
            self.select(cargo.args(options));
            let text = bounded::errors(BUILD, &cargo)?;
            // Nothing is printed of other people's crates.
            if text.contains("\nwarning: ") {
                return Err(format!("{text}\nthe compiler has warned").into());
            }
        }
        Ok(format!(
            "{} crates, features all and none",
            self.packages.len()
        ))
    }
}

/// Returns a program that stands in for a C compiler and an archiver: it makes empty files. Nothing
/// is linked with them.
fn pretender() -> Result<PathBuf> {
    let path = folder()?.join("no-c");
    fs::create_dir_all(folder()?)?;
    let script = "#!/bin/sh\n\
        # Makes the file after -o, or an archive.\n\
        while [ $# -gt 0 ]; do\n\
        case $1 in\n\
        -o) : > \"$2\"; exit;;\n\
        *.a) : > \"$1\"; exit;;\n\
        esac\n\
        shift\n\
        done\n";
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Compiles a library for Windows from C.
pub fn windows_library(source: &Path, library: &Path) -> Result<()> {
    bounded::succeed(
        TOOL,
        Command::new("x86_64-w64-mingw32-gcc")
            .args(["-shared", "-O1", "-o"])
            .arg(library)
            .arg(source)
            .arg("-ladvapi32"),
    )
}

/// Where Debian has Wine, unless it is in the path.
pub fn wine() -> PathBuf {
    let in_path = env::var_os("PATH").and_then(|path| {
        env::split_paths(&path)
            .map(|folder| folder.join("wine64"))
            .find(|program| program.exists())
    });
    in_path.unwrap_or_else(|| "/usr/lib/wine/wine64".into())
}
