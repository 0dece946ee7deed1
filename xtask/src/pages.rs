//! `cargo xtask pages`: the pages that people see, in Chromium, and what `examples/pages.py` looks
//! at there. They have one style.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::process::{self, Running};
use crate::steps::Steps;
use crate::{Result, debian, programs, workspace};

/// How the shared style begins. Toolkits have files of the same name.
const BEGIN: &str = "/* The style of all pages.";

/// Fails unless all copies of the pages' style are equal.
pub fn check_styles() -> Result<()> {
    let root = workspace::root();
    let listed = process::output(
        Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .args(["style.css", "*/style.css"])
            .current_dir(root),
    )?;
    let texts = listed
        .lines()
        .filter_map(|name| fs::read_to_string(root.join(name)).ok());
    let styles: BTreeSet<_> = texts.filter(|text| text.starts_with(BEGIN)).collect();
    if styles.len() == 1 {
        return Ok(());
    }
    Err(format!("the copies of style.css differ:\n{listed}").into())
}

/// The programs with pages: the name of the page, the program, its arguments, and the page's path.
const PAGES: &[(&str, &str, &[&str], &str)] = &[
    (
        "seats",
        "seats",
        &["--listen", ANY, "--database", "seats.db"],
        "",
    ),
    ("chat", "chat", &["--listen", ANY, "--lines", ANY], ""),
    ("ci", "ci", &CI, ""),
    ("notebook", "notebook", &["--listen", ANY], ""),
    ("control_room", "standalone", &["--http", "127.0.0.1:0"], ""),
    (
        "monitor",
        "standalone",
        &["--http", "127.0.0.1:0"],
        "/monitor/",
    ),
];

const ANY: &str = "tcp:0:interface=127.0.0.1";

/// It trusts itself only: there is no worker.
const CI: [&str; 11] = [
    "master",
    "--trust",
    "master.pem",
    "--certificate",
    "master.pem",
    "--key",
    "master.key",
    "--listen",
    ANY,
    "--workers",
    ANY,
];

pub fn run() -> Result<ExitCode> {
    let mut steps = Steps::default();
    steps.run("packages", || debian::ensure(&[&debian::PAGES]))?;
    steps.command("programs", programs::programs("build").arg("--workspace"))?;
    steps.command(
        "control room",
        workspace::cargo().args(["build", "--package", "standalone"]),
    )?;
    steps.run("pages", open)?;
    steps.report();
    Ok(ExitCode::SUCCESS)
}

/// Starts the programs, which were built, in an empty folder, and opens their pages. Pictures are
/// left in `screenshots/`.
fn open() -> Result<()> {
    let folder = workspace::target()?.join("pages");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    certificate(&folder)?;
    let pictures = workspace::root().join("screenshots");
    fs::create_dir_all(&pictures)?;
    let script = workspace::root().join("examples/pages.py");
    let mut browser = process::tied("/usr/bin/python3", None);
    browser.arg(script).arg(pictures);
    let mut running = Vec::new();
    for (name, program, arguments, path) in PAGES {
        let program = workspace::target()?.join("debug").join(program);
        let mut command = process::tied(program, None);
        command
            .args(*arguments)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = Running::start(&mut command)?;
        // Its address, which may have a token, and where it may print more.
        let begin = if *name == "notebook" {
            "open "
        } else {
            "http listening on "
        };
        let (address, output) = process.line_after(begin)?;
        let address = address.trim_start_matches("http://").trim_end_matches('/');
        browser.arg(format!("{name}=http://{address}{path}"));
        running.push((process, output));
    }
    process::succeed(&mut browser)
}

/// The identity of the build master.
fn certificate(folder: &Path) -> Result<()> {
    let mut openssl = Command::new("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=master"])
        .args(["-keyout", "master.key", "-out", "master.pem"])
        .current_dir(folder)
        .stderr(Stdio::null());
    process::succeed(&mut openssl)
}
