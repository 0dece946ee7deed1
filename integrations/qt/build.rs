//! Builds the C++ shim, with the headers of Qt 6 or Qt 5.

use std::env;

use pkg_config::{Config, Library};

const VERSION: &str = "QT_VERSION_MAJOR";

fn main() {
    println!("cargo::rerun-if-changed=src/carrier.cpp");
    println!("cargo::rerun-if-env-changed={VERSION}");
    // Documentation needs no library, and the machines that build it have no Qt.
    if env::var_os("DOCS_RS").is_some() {
        return;
    }
    let qt = find().unwrap_or_else(|error| {
        eprintln!(
            "{error}\n\nentwined-qt needs QtCore of Qt 6 or Qt 5.15, with its headers, and \
             pkg-config to find it. On Debian:\n\n    \
             apt-get install pkg-config qt6-base-dev      (or qtbase5-dev for Qt 5)\n\n\
             If both are installed, the environment variable {VERSION}, 5 or 6, says which; \
             without it, Qt 6 is used. If Qt is somewhere else, let PKG_CONFIG_PATH name the \
             folder of its Qt6Core.pc.\n"
        );
        std::process::exit(1);
    });
    let mut shim = cc::Build::new();
    shim.cpp(true)
        .std("c++17")
        .pic(true)
        .includes(&qt.include_paths)
        .file("src/carrier.cpp");
    for (name, value) in &qt.defines {
        shim.define(name, value.as_deref());
    }
    shim.compile("entwined_qt");
    // After the shim, which needs them: some linkers resolve symbols in order.
    for path in &qt.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    for library in &qt.libs {
        println!("cargo::rustc-link-lib={library}");
    }
}

fn find() -> Result<Library, String> {
    let versions = match env::var(VERSION) {
        Err(_) => vec!["6", "5"],
        Ok(version) if version == "6" => vec!["6"],
        Ok(version) if version == "5" => vec!["5"],
        Ok(other) => return Err(format!("{VERSION} is {other:?}, but must be 5 or 6")),
    };
    let mut errors = Vec::new();
    for version in versions {
        let oldest = if version == "5" { "5.15" } else { "6.0" };
        match Config::new()
            .cargo_metadata(false)
            .atleast_version(oldest)
            .probe(&format!("Qt{version}Core"))
        {
            Ok(library) => return Ok(library),
            Err(error) => errors.push(error.to_string()),
        }
    }
    Err(errors.join("\n\n"))
}
