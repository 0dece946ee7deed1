//! Builds the Objective-C shim, with Apple's Foundation or GNUstep's.

use std::{
    env,
    process::{self, Command},
};

fn main() {
    println!("cargo::rerun-if-changed=src/shim.m");
    // Documentation needs no library, and the machines that build it have no Foundation.
    if env::var_os("DOCS_RS").is_some() {
        return;
    }
    let mut shim = cc::Build::new();
    shim.file("src/shim.m");
    if env::var("CARGO_CFG_TARGET_VENDOR").as_deref() == Ok("apple") {
        // The shim keeps count of references itself, because GCC's Objective-C has no ARC.
        shim.flag("-fno-objc-arc").compile("entwined_cocoa");
        println!("cargo::rustc-link-lib=framework=Foundation");
        return;
    }
    // GNUstep's own headers cause what goes beyond -Wall.
    shim.extra_warnings(false);
    for flag in gnustep("--objc-flags") {
        // Those for make are not meant for Cargo.
        if !flag.starts_with("-M") {
            shim.flag(flag);
        }
    }
    shim.compile("entwined_cocoa");
    for flag in gnustep("--base-libs") {
        if let Some(name) = flag.strip_prefix("-l") {
            println!("cargo::rustc-link-lib={name}");
        } else if let Some(path) = flag.strip_prefix("-L") {
            println!("cargo::rustc-link-search=native={path}");
        }
    }
}

/// What gnustep-config says.
fn gnustep(question: &str) -> Vec<String> {
    match Command::new("gnustep-config").arg(question).output() {
        Ok(output) if output.status.success() => {
            let flags = String::from_utf8_lossy(&output.stdout).into_owned();
            flags.split_whitespace().map(str::to_owned).collect()
        }
        _ => {
            eprintln!(
                "entwined-cocoa needs Foundation: on macOS, Apple's; elsewhere GNUstep's, with an \
                 Objective-C compiler and gnustep-config to find it. On Debian:\n\n    \
                 apt-get install gnustep-make gobjc libgnustep-base-dev\n"
            );
            process::exit(1);
        }
    }
}
