//! Builds the few lines of C++, with the FLTK that `fltk-config` finds.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/fltk.cpp");
    let flags = |question: &str| {
        let output = Command::new("fltk-config").arg(question).output();
        let output = output.expect("FLTK is needed").stdout;
        let flags = String::from_utf8(output).expect("text");
        flags
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut shim = cc::Build::new();
    // FLTK's own headers cause what goes beyond -Wall.
    shim.cpp(true).file("src/fltk.cpp").extra_warnings(false);
    for flag in flags("--cxxflags") {
        if flag.starts_with("-I") || flag.starts_with("-D") {
            shim.flag(flag);
        }
    }
    shim.compile("on_fltk");
    println!("cargo::rustc-link-lib=fltk");
}
