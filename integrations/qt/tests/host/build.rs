//! Builds the widgets, for the version of Qt that entwined-qt is built for.

use std::env;

use pkg_config::Config;

fn main() {
    println!("cargo::rerun-if-changed=widgets.cpp");
    println!("cargo::rerun-if-env-changed=QT_VERSION_MAJOR");
    let probe = |version: &str| {
        Config::new()
            .cargo_metadata(false)
            .probe(&format!("Qt{version}Widgets"))
    };
    let qt = match env::var("QT_VERSION_MAJOR") {
        Ok(version) => probe(&version),
        Err(_) => probe("6").or_else(|_| probe("5")),
    };
    let qt = qt.expect("the tests need QtWidgets");
    let mut widgets = cc::Build::new();
    widgets
        .cpp(true)
        .std("c++17")
        .pic(true)
        .includes(&qt.include_paths)
        .file("widgets.cpp");
    for (name, value) in &qt.defines {
        widgets.define(name, value.as_deref());
    }
    widgets.compile("qt_host");
    for path in &qt.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    for library in &qt.libs {
        println!("cargo::rustc-link-lib={library}");
    }
}
