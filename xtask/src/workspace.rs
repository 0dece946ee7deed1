//! Paths of the workspace, and Cargo.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::process;

/// Returns the workspace's root folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the workspace")
}

/// Returns a command that runs our Cargo in the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What a clean clone builds takes half the room without rustc's incremental data, and less
    // time. A build by hand still makes use of it.
    command.env("CARGO_INCREMENTAL", "0");
    // Cargo's variables about this program. A build script that looks at them, as ring's does,
    // would have to run again after each build by hand, with everything that depends on its
    // package.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_PKG_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Makes Clippy's driver the compiler of the workspace's own packages, so that they are checked
/// while they are built. `cargo clippy` would compile all that they depend on once more.
pub fn linted(cargo: &mut Command) -> &mut Command {
    cargo
        .env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver")
        // As `cargo clippy -- -D warnings` sets it.
        .env(
            "CLIPPY_ARGS",
            "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__",
        )
}

/// Returns whether the workspace has this example app.
pub fn has_app(package: &str) -> bool {
    root()
        .join("examples/control-room")
        .join(package)
        .join("Cargo.toml")
        .exists()
}

/// Builds a package in release and returns the path of the binary `name`.
pub fn build(package: &str, name: &str) -> Result<PathBuf> {
    process::succeed(cargo().args(["build", "--release", "--package", package, "--bin", name]))?;
    Ok(target()?.join("release").join(name))
}

/// Builds a package like [`build`], but for a measurement, and in a separate target folder.
///
/// Each function is aligned to a cache line, 64 bytes. Otherwise the linker's layout influences
/// each measurement: the same 308 instructions of a function that writes numbers took a fifth
/// longer in one program than in another, 3 % of a request.
pub fn build_to_measure(package: &str, name: &str) -> Result<PathBuf> {
    let folder = target()?.join("bench");
    let mut cargo = match benches().join(package).exists() {
        true => bench_cargo(),
        false => cargo(),
    };
    cargo.args(["build", "--release", "--package", package, "--bin", name]);
    process::succeed(aligned(&mut cargo)?)?;
    Ok(folder.join("release").join(name))
}

/// Returns a command that runs our Cargo in the workspace of the benchmarks.
pub fn bench_cargo() -> Command {
    let mut cargo = cargo();
    cargo.current_dir(benches());
    cargo
}

fn benches() -> PathBuf {
    root().join("benches")
}

/// Configures a build for a measurement; see [`build_to_measure`].
pub fn aligned(cargo: &mut Command) -> Result<&mut Command> {
    let folder = target()?.join("bench");
    Ok(cargo
        .env("RUSTFLAGS", "-C llvm-args=-align-all-functions=6")
        .env("CARGO_TARGET_DIR", folder))
}

/// Returns the target folder, wherever the user's settings put it.
pub fn target() -> Result<PathBuf> {
    // The executable is target/debug/xtask.
    let own = env::current_exe()?;
    Ok(own
        .ancestors()
        .nth(2)
        .ok_or("the path of xtask is too short")?
        .to_owned())
}
