//! `cargo xtask conformance`: protocol test suites by others, run against each app.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use crate::debian::{self, Group};
use crate::display::Display;
use crate::process::{self, Running};
use crate::{Result, workspace};

/// On a port that also serves HTTP/1.1, input that does not begin as HTTP/2 is HTTP/1.1, and is
/// refused in HTTP/1.1.
const PLAIN_EXCEPTIONS: [&str; 1] = ["Sends invalid connection preface"];

const NO_H2SPEC: &str = "h2spec is needed, and no package has it: \
     build it from source (github.com/summerwind/h2spec) with Go \
     and put it in PATH, or set H2SPEC to it. What it builds on is in Debian: \
     golang-github-fatih-color-dev, golang-github-spf13-cobra-dev, golang-golang-x-net-dev, \
     used with GO111MODULE=off and /usr/share/gocode in GOPATH";

const NO_WSTEST: &str = "Autobahn's testsuite is needed: \
     `pip install autobahntestsuite==0.8.2` in a virtual environment of Python 2.7, \
     and set WSTEST to its bin/wstest";

/// Autobahn's verdicts for a case that passed, or that does not apply (compression that we do not
/// offer).
const GOOD: [&str; 4] = ["OK", "INFORMATIONAL", "NON-STRICT", "UNIMPLEMENTED"];

/// Prints a line for each case of Autobahn's report.
const VERDICTS: &str = "
import json, sys
for case, result in json.load(open(sys.argv[1]))[sys.argv[2]].items():
    print(case, result['behavior'], result['behaviorClose'])
";

struct Tools {
    h2spec: PathBuf,
    wstest: PathBuf,
}

pub fn run() -> Result<ExitCode> {
    let tools = Tools {
        h2spec: tool("H2SPEC", "h2spec", "--version").ok_or(NO_H2SPEC)?,
        wstest: tool("WSTEST", "wstest", "--help").ok_or(NO_WSTEST)?,
    };
    const NEEDS: [&Group; 3] = [&debian::GTK, &debian::WINIT, &debian::DISPLAY];
    debian::ensure(&NEEDS)?;
    let display = Display::start(None)?;
    let mut failures = Vec::new();
    for app in ["standalone", "gtk-app", "winit-app"] {
        let program = workspace::build(app, app)?;
        let start = |options: &[&str]| -> Result<(Running, String)> {
            let mut command = process::tied(&program, None);
            command
                .args(["--http", "127.0.0.1:0", "--mirror"])
                .args(options)
                .stdout(Stdio::piped());
            let mut running = Running::start(display.show(&mut command))?;
            let (address, _) = running.line_after("http listening on ")?;
            Ok((running, address))
        };
        let (_secure, address) = start(&["--tls"])?;
        let (summary, failed) = h2spec(&tools, &address, &["-t", "-k"])?;
        println!("{app}: h2spec, TLS: {summary}");
        failures.extend(
            failed
                .into_iter()
                .map(|case| format!("{app}: h2spec, TLS: {case}")),
        );

        let (_plain, address) = start(&[])?;
        let (summary, mut failed) = h2spec(&tools, &address, &[])?;
        failed.retain(|case| {
            !PLAIN_EXCEPTIONS
                .iter()
                .any(|exception| case.contains(exception))
        });
        println!(
            "{app}: h2spec: {summary}, {} of them not as expected",
            failed.len()
        );
        failures.extend(
            failed
                .into_iter()
                .map(|case| format!("{app}: h2spec: {case}")),
        );

        let (summary, failed) = autobahn(&tools, app, &address)?;
        println!("{app}: Autobahn: {summary}");
        failures.extend(
            failed
                .into_iter()
                .map(|case| format!("{app}: Autobahn: {case}")),
        );
    }
    if failures.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(failures.join("\n").into())
    }
}

/// Returns the path of a program if it runs with the argument `asked`.
fn tool(variable: &str, name: &str, asked: &str) -> Option<PathBuf> {
    let path = env::var_os(variable).map_or_else(|| PathBuf::from(name), PathBuf::from);
    let silent = || Stdio::null();
    let found = Command::new(&path)
        .arg(asked)
        .stdin(silent())
        .stdout(silent())
        .stderr(silent())
        .status();
    found.is_ok().then_some(path)
}

/// Returns the last line that h2spec prints, and the cases that failed.
fn h2spec(tools: &Tools, address: &str, options: &[&str]) -> Result<(String, Vec<String>)> {
    let (host, port) = address
        .rsplit_once(':')
        .ok_or("an address without a port")?;
    let output = Command::new(&tools.h2spec)
        .args(["-h", host, "-p", port])
        .args(options)
        .output()?;
    let said = String::from_utf8(output.stdout)?;
    let summary = said
        .lines()
        .rev()
        .find(|line| line.contains(" tests, "))
        .ok_or("h2spec did not end")?;
    let (_, failed) = said.split_once("Failures:").unwrap_or_default();
    let failed = failed
        .lines()
        .filter(|line| line.trim_start().starts_with('×'))
        .map(|line| line.trim().to_owned());
    Ok((summary.to_owned(), failed.collect()))
}

/// Returns how often each verdict was given, and the cases that failed.
fn autobahn(tools: &Tools, app: &str, address: &str) -> Result<(String, Vec<String>)> {
    let folder = workspace::target()?.join("autobahn").join(app);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let spec = format!(
        r#"{{ "outdir": {folder:?},
              "servers": [{{ "agent": {app:?}, "url": "ws://{address}/websocket" }}],
              "cases": ["*"], "exclude-cases": [], "exclude-agent-cases": {{}} }}"#
    );
    let file = folder.join("spec.json");
    fs::write(&file, spec)?;
    process::output(
        Command::new(&tools.wstest)
            .args(["-m", "fuzzingclient", "-s"])
            .arg(&file),
    )?;
    verdicts(&folder.join("index.json"), app)
}

fn verdicts(index: &Path, app: &str) -> Result<(String, Vec<String>)> {
    let said = process::output(
        Command::new("/usr/bin/python3")
            .args(["-c", VERDICTS])
            .arg(index)
            .arg(app),
    )?;
    let mut counts = BTreeMap::<&str, u32>::new();
    let mut failed = Vec::new();
    for line in said.lines() {
        let [case, behavior, end] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("Autobahn's report has {line:?}").into());
        };
        *counts.entry(behavior).or_default() += 1;
        if [behavior, end]
            .iter()
            .any(|verdict| !GOOD.contains(verdict))
        {
            failed.push(format!("{case}: {behavior}, {end}"));
        }
    }
    let cases: u32 = counts.values().sum();
    if cases == 0 {
        return Err("Autobahn's report has no case".into());
    }
    let counts: Vec<_> = counts
        .iter()
        .map(|(verdict, count)| format!("{count} {verdict}"))
        .collect();
    Ok((
        format!(
            "{cases} cases: {}; {} failed",
            counts.join(", "),
            failed.len()
        ),
        failed,
    ))
}
