//! Builds the Objective-C part, with GNUstep.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=host.m");
    let flags = |question: &str| {
        let output = Command::new("gnustep-config").arg(question).output();
        let output = output.expect("the tests need GNUstep").stdout;
        let flags = String::from_utf8(output).expect("text");
        flags
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut host = cc::Build::new();
    // GNUstep's own headers cause what goes beyond -Wall.
    host.file("host.m").extra_warnings(false);
    for flag in flags("--objc-flags") {
        if !flag.starts_with("-M") {
            host.flag(flag);
        }
    }
    host.compile("cocoa_host");
    for flag in flags("--gui-libs") {
        if let Some(name) = flag.strip_prefix("-l") {
            println!("cargo::rustc-link-lib={name}");
        } else if let Some(path) = flag.strip_prefix("-L") {
            println!("cargo::rustc-link-search=native={path}");
        }
    }
}
