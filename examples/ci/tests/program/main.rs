//! A master and workers as processes, used by curl and git. The identities are made by openssl, as
//! the README says.

mod faults;
mod postgres;
#[cfg(feature = "window")]
mod window;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long anything may take. Only a failing test waits this long.
const PATIENCE: Duration = Duration::from_secs(40);

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn signal(&self, signal: &str) {
        let script = format!("kill -{signal} {}", self.0.id());
        run(Command::new("sh").args(["-c", &script]));
    }
}

fn run(command: &mut Command) -> String {
    let output = command
        .stderr(Stdio::piped())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let (out, error) = (&output.stdout, &output.stderr);
    let error = String::from_utf8_lossy(error);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8_lossy(out).trim_end().to_owned()
}

/// A folder with the identities of a master and workers.
struct Site(tempfile::TempDir);

impl Site {
    fn new(names: &[&str]) -> Site {
        Site::new_in(tempfile::tempdir().expect("a folder"), names)
    }

    fn new_in(folder: tempfile::TempDir, names: &[&str]) -> Site {
        let site = Site(folder);
        for name in names {
            let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
            run(Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                ])
                .args(["-nodes", "-days", "3650", "-subj", &format!("/CN={name}")])
                .args(["-addext", &format!("subjectAltName=DNS:{name}")])
                .args(["-addext", "basicConstraints=critical,CA:FALSE"])
                .args(["-keyout", &key, "-out", &certificate])
                .current_dir(site.path()));
        }
        site
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, role: &str, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ci"));
        command
            .arg(role)
            .current_dir(self.path())
            .stdin(Stdio::null());
        command.args(["--certificate", &format!("{name}.pem")]);
        command.args(["--key", &format!("{name}.key")]);
        command
    }

    fn master(&self, workers: &[&str], port: Option<&str>) -> Master {
        self.master_with(workers, port, &[])
    }

    fn master_with(&self, workers: &[&str], port: Option<&str>, more: &[&str]) -> Master {
        Master::start(self.master_command(workers, port).args(more))
    }

    fn master_command(&self, workers: &[&str], port: Option<&str>) -> Command {
        let port = port.map_or("0", |address| address.rsplit(':').next().expect("a port"));
        let mut command = self.command("master", "master");
        command.args(["--listen", "tcp:0:interface=127.0.0.1", "--workers"]);
        command.arg(format!("tcp:{port}:interface=127.0.0.1"));
        for name in workers {
            command.args(["--trust", &format!("{name}.pem")]);
        }
        command
    }

    fn worker(&self, name: &str, master: &Master) -> Running {
        let (host, port) = master.workers.rsplit_once(':').expect("an address");
        let mut command = self.command("worker", name);
        command.args([
            "--trust",
            "master.pem",
            "--master",
            &format!("tcp:{host}:{port}"),
        ]);
        Running(command.spawn().expect("built"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Waits until a file is there, and returns what is in it.
    fn until_file(&self, name: &str) -> String {
        until(|| {
            fs::read_to_string(self.file(name))
                .ok()
                .filter(|text| !text.is_empty())
        })
    }
}

fn until<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < end, "nothing came");
        thread::yield_now();
    }
}

struct Master {
    process: Running,
    url: String,
    workers: String,
}

impl Master {
    fn start(command: &mut Command) -> Master {
        let mut process = Running(command.stdout(Stdio::piped()).spawn().expect("built"));
        let mut output = BufReader::new(process.0.stdout.take().expect("piped"));
        let mut after = |prefix: &str| {
            let mut line = String::new();
            output.read_line(&mut line).expect("text");
            line.trim_end()
                .strip_prefix(prefix)
                .expect("an address")
                .to_owned()
        };
        Master {
            url: format!("http://{}", after("http listening on ")),
            workers: after("workers connect to "),
            process,
        }
    }

    fn curl(&self, arguments: &[&str], path: &str) -> String {
        run(Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "40"])
            .args(arguments)
            .arg(format!("{}{path}", self.url)))
    }

    fn build(&self, script: &str) -> String {
        let new = serde_json::json!({ "script": script }).to_string();
        let answer = self.curl(&["--json", &new], "/builds");
        let number = answer
            .strip_prefix("{\"id\":")
            .and_then(|rest| rest.strip_suffix('}'));
        number.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// The log of a build, which ends when the build does.
    fn log(&self, id: &str) -> String {
        self.curl(&[], &format!("/builds/{id}/log"))
    }

    fn state(&self, id: &str) -> String {
        let build = self.curl(&[], &format!("/builds/{id}"));
        let build: serde_json::Value = serde_json::from_str(&build).expect("JSON");
        build["state"].as_str().expect("a state").to_owned()
    }

    fn until_state(&self, id: &str, expected: &str) {
        until(|| (self.state(id) == expected).then_some(()));
    }

    fn until_workers(&self, count: usize) {
        until(|| {
            let list = self.curl(&[], "/builds");
            let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
            (list["workers"].as_array().expect("a list").len() == count).then_some(())
        });
    }
}

fn is_alive(process: &str) -> bool {
    // A process that nobody has waited for is a zombie, which does nothing any more.
    let status = fs::read_to_string(format!("/proc/{}/stat", process.trim()));
    status.is_ok_and(|status| !status.contains(") Z"))
}

/// What runs is queued again when a master starts, but not if it runs for another one.
#[test]
fn a_second_master_leaves_the_builds_of_the_first_alone() {
    let site = Site::new(&["master", "one"]);
    let master = site.master(&["one"], None);
    let _worker = site.worker("one", &master);
    let begun = site.file("begun");
    let id = master.build(&format!("echo 1 > {}; exec sleep 100", begun.display()));
    site.until_file("begun");
    for port in [Some(&*master.workers), None] {
        let mut command = site.master_command(&["one"], port);
        let mut second = Running(command.spawn().expect("built"));
        let status = until(|| second.0.try_wait().expect("ours"));
        assert!(!status.success(), "{status}");
        assert_eq!(master.state(&id), "running");
    }
}

#[test]
fn a_build_is_logged_and_leaves_artifacts() {
    let site = Site::new(&["master", "one"]);
    let master = site.master(&["one"], None);
    let _worker = site.worker("one", &master);
    let passed = master.build("echo hello; echo oops >&2; printf made > $ARTIFACTS/thing.txt");
    assert_eq!(master.log(&passed), "hello\noops");
    assert_eq!(master.state(&passed), "passed");
    assert_eq!(
        master.curl(&[], &format!("/artifacts/{passed}/thing.txt")),
        "made"
    );
    let failed = master.build("echo no; exit 3");
    assert_eq!(master.log(&failed), "no");
    assert_eq!(master.state(&failed), "failed");
    assert!(
        master
            .curl(&[], &format!("/builds/{failed}"))
            .contains("\"code\":3")
    );
    // As large as it is, it comes whole and in order.
    let long = master.build("seq 200000; head -c 100000 /dev/zero > $ARTIFACTS/zeros");
    let expected: Vec<String> = (1..=200_000)
        .map(|number: u32| number.to_string())
        .collect();
    assert!(master.log(&long) == expected.join("\n"));
    let size = ["--output", "/dev/null", "--write-out", "%{size_download}"];
    assert_eq!(
        master.curl(&size, &format!("/artifacts/{long}/zeros")),
        "100000"
    );
}

/// A page that a build has left would be one of this server, and might ask for builds.
#[test]
fn a_page_that_a_build_has_left_is_not_one_of_the_server() {
    let site = Site::new(&["master", "one"]);
    let master = site.master(&["one"], None);
    let _worker = site.worker("one", &master);
    let id = master.build("echo '<script>fetch()</script>' > $ARTIFACTS/index.html");
    master.until_state(&id, "passed");
    for path in [format!("/artifacts/{id}/"), format!("/artifacts/{id}/none")] {
        let head = master.curl(&["--dump-header", "-"], &path).to_lowercase();
        let policy = head
            .lines()
            .find(|line| line.starts_with("content-security-policy:"));
        assert!(
            policy.is_some_and(|line| line.ends_with("; sandbox")),
            "{head}"
        );
        assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    }
}

#[test]
fn a_build_leaves_no_more_than_a_thousand_files() {
    let site = Site::new(&["master", "one"]);
    let master = site.master(&["one"], None);
    let _worker = site.worker("one", &master);
    let script = |count| format!("for n in $(seq {count}); do : > $ARTIFACTS/$n; done");
    let fine = master.build(&script(1_000));
    assert_eq!((&*master.log(&fine), &*master.state(&fine)), ("", "passed"));
    let many = master.build(&script(1_001));
    assert_eq!(master.log(&many), "[there are too many artifacts]");
    assert_eq!(master.state(&many), "failed");
}

#[test]
fn a_push_builds_what_was_pushed() {
    let site = Site::new(&["master", "one"]);
    let master = site.master(&["one"], None);
    let _worker = site.worker("one", &master);
    let git = |folder: &str, arguments: &[&str]| {
        run(Command::new("git")
            .args(["-c", "user.name=test", "-c", "user.email=test@example.org"])
            .args(["-c", "init.defaultBranch=main"])
            .args(arguments)
            .current_dir(site.file(folder)))
    };
    fs::create_dir(site.file("work")).expect("a folder");
    git(".", &["init", "--quiet", "--bare", "project.git"]);
    git("work", &["init", "--quiet"]);
    let repository = site.file("project.git");
    let new = serde_json::json!({"repository": repository, "script": "sh build.sh"});
    let hook = format!(
        "#!/bin/sh\ncurl --silent --json '{new}' {}/builds >&2\n",
        master.url
    );
    let path = repository.join("hooks/post-receive");
    fs::write(&path, hook).expect("a hook");
    run(Command::new("chmod").arg("+x").arg(&path));
    fs::write(site.file("work/build.sh"), "echo built from git\n").expect("a file");
    git("work", &["add", "build.sh"]);
    git("work", &["commit", "--quiet", "--message", "a script"]);
    git(
        "work",
        &[
            "push",
            "--quiet",
            &repository.to_string_lossy(),
            "HEAD:main",
        ],
    );
    assert_eq!(master.log("1"), "built from git");
    assert_eq!(master.state("1"), "passed");
}

#[test]
fn a_cancelled_build_and_all_it_started_is_killed() {
    let site = Site::new(&["master", "one"]);
    let master = site.master(&["one"], None);
    let _worker = site.worker("one", &master);
    let file = site.file("child");
    let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
    let id = master.build(&script);
    let child = site.until_file("child");
    assert!(is_alive(&child));
    let answer = master.curl(&["--request", "POST"], &format!("/builds/{id}/cancel"));
    assert!(answer.contains("cancelled"), "{answer}");
    until(|| (!is_alive(&child)).then_some(()));
    // The worker is free again.
    assert_eq!(master.log(&master.build("echo next")), "next");
    assert_eq!(master.state(&id), "cancelled");
}

/// Somebody may hang up at any moment of what the master does then.
#[test]
fn what_somebody_asks_for_who_hangs_up_is_done() {
    let site = Site::new(&["master", "one"]);
    let master = site.master(&["one"], None);
    let _worker = site.worker("one", &master);
    master.until_workers(1);
    run(Command::new("/usr/bin/python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hang_up.py"))
        .arg(&master.url)
        .arg(site.file("ci-data/builds.db"))
        .arg(site.path()));
}

/// It is cancelled after it was taken for a worker, and before it runs there.
#[test]
fn a_build_that_is_cancelled_while_it_is_taken_does_not_run() {
    let site = Site::new(&["master", "one"]);
    let master = site.master(&["one"], None);
    let sql = "
        CREATE TRIGGER cancels AFTER UPDATE OF state ON build
        WHEN NEW.state = 'running' AND NEW.script LIKE '%ran%'
        BEGIN UPDATE build SET state = 'cancelled' WHERE id = NEW.id; END";
    run(Command::new("sqlite3")
        .arg(site.file("ci-data/builds.db"))
        .arg(sql));
    let ran = site.file("ran");
    let cancelled = master.build(&format!("touch {}", ran.display()));
    let next = master.build("true");
    let _worker = site.worker("one", &master);
    master.until_state(&next, "passed");
    assert_eq!(master.state(&cancelled), "cancelled");
    assert!(!ran.exists());
}

#[test]
fn what_no_shell_takes_is_refused() {
    let site = Site::new(&["master", "one"]);
    let master = site.master(&["one"], None);
    let status = |new: &serde_json::Value| {
        fs::write(site.file("new"), new.to_string()).expect("a file");
        let file = format!("@{}", site.file("new").display());
        let status = ["--output", "/dev/null", "--write-out", "%{http_code}"];
        master.curl(&[&status[..], &["--json", &file]].concat(), "/builds")
    };
    let long = "x".repeat(200_000);
    assert_eq!(status(&serde_json::json!({"script": "echo a\0b"})), "400");
    assert_eq!(
        status(&serde_json::json!({"script": "true", "repository": "a\0b"})),
        "400"
    );
    assert_eq!(status(&serde_json::json!({"script": long})), "413");
    assert_eq!(
        status(&serde_json::json!({"script": "true", "repository": long})),
        "413"
    );
    assert_eq!(status(&serde_json::json!({"script": "true"})), "201");
}

#[test]
fn a_build_goes_to_another_worker_if_its_own_is_killed_or_stopped() {
    for signal in ["KILL", "STOP"] {
        let site = Site::new(&["master", "one", "two"]);
        let master = site.master(&["one", "two"], None);
        let one = site.worker("one", &master);
        master.until_workers(1);
        let (file, go) = (site.file("tries"), site.file("go"));
        let (file, go) = (file.display(), go.display());
        let script = format!("echo try >> {file}; until test -e {go}; do sleep 0.05; done");
        let id = master.build(&script);
        site.until_file("tries");
        one.signal(signal);
        let _two = site.worker("two", &master);
        until(|| (site.until_file("tries") == "try\ntry\n").then_some(()));
        fs::write(site.file("go"), "").expect("a file");
        assert_eq!(master.log(&id), "[the worker is lost]");
        assert_eq!(master.state(&id), "passed");
        if signal == "STOP" {
            // It comes back, and is of use again.
            one.signal("CONT");
            master.until_workers(2);
        }
    }
}

#[test]
fn a_master_that_is_killed_loses_and_doubles_nothing() {
    const BUILDS: usize = 40;
    let site = Site::new(&["master", "one", "two"]);
    let mut master = site.master(&["one", "two"], None);
    let _workers = ["one", "two"].map(|name| site.worker(name, &master));
    let ids: Vec<String> = (0..BUILDS)
        .map(|number| master.build(&format!("sleep 0.02; echo {number}")))
        .collect();
    for round in 1..=3 {
        master.until_state(&ids[round * BUILDS / 5], "passed");
        let workers = master.workers.clone();
        drop(master);
        master = site.master(&["one", "two"], Some(&workers));
    }
    for (number, id) in ids.iter().enumerate() {
        let log = master.log(id);
        assert_eq!(master.state(id), "passed", "{number}: {log}");
        assert!(log.contains(&number.to_string()), "{number}: {log}");
    }
    let mut distinct = ids.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), BUILDS);
}

#[test]
fn a_build_is_held_back_while_the_master_does_not_read() {
    let site = Site::new(&["master", "one"]);
    let master = site.master(&["one"], None);
    let _worker = site.worker("one", &master);
    let file = site.file("written");
    let lines = "while :; do head -c 65536 /dev/zero | tr '\\0' x; n=$((n + 1));";
    let id = master.build(&format!("{lines} echo $n > {}; done", file.display()));
    site.until_file("written");
    master.process.signal("STOP");
    // It prints until everything between the two is full, and then no more.
    let mut before = String::new();
    until(|| {
        thread::sleep(Duration::from_millis(500));
        let now = site.until_file("written");
        (std::mem::replace(&mut before, now.clone()) == now).then_some(())
    });
    let pieces: u64 = before.trim().parse().expect("a number");
    assert!(pieces * 65_536 < 64 << 20, "{pieces} pieces of 64 KiB");
    master.process.signal("CONT");
    master.curl(&["--request", "POST"], &format!("/builds/{id}/cancel"));
    master.until_state(&id, "cancelled");
}

#[test]
fn only_workers_whose_certificates_are_known_are_let_in() {
    let site = Site::new(&["master", "one", "stranger"]);
    let master = site.master(&["one"], None);
    let (_stranger, _one) = (
        site.worker("stranger", &master),
        site.worker("one", &master),
    );
    master.until_workers(1);
    assert!(master.curl(&[], "/builds").contains(r#""workers":["one"]"#));
    let script = "echo here";
    assert_eq!(master.log(&master.build(script)), "here");
    assert!(master.curl(&[], "/builds").contains(r#""workers":["one"]"#));
}

/// Workers go by the names of their certificates' files.
#[test]
fn two_workers_cannot_have_one_name() {
    let site = Site::new(&["master", "one", "other"]);
    fs::create_dir(site.file("b")).expect("a folder");
    fs::rename(site.file("other.pem"), site.file("b/one.pem")).expect("a file");
    let mut master = site.master_command(&["one", "b/one"], None);
    master.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut master = Running(master.spawn().expect("built"));
    let status = until(|| master.0.try_wait().expect("it is ours"));
    assert!(!status.success());
    let mut text = String::new();
    let mut errors = master.0.stderr.take().expect("piped");
    errors.read_to_string(&mut text).expect("text");
    assert!(
        text.contains("two certificates have the name \"one\""),
        "{text}"
    );
}

#[test]
fn pages_of_other_sites_cannot_build() {
    let site = Site::new(&["master", "one"]);
    let master = site.master(&["one"], None);
    let status = ["--output", "/dev/null", "--write-out", "%{http_code}"];
    let foreign = [
        "--header",
        "Origin: http://evil.example",
        "--json",
        r#"{"script": "id"}"#,
    ];
    assert_eq!(
        master.curl(&[&status[..], &foreign].concat(), "/builds"),
        "403"
    );
    assert!(master.curl(&[], "/builds").contains(r#""builds":[]"#));
}

/// A script may be as long as a request. The page asks for the list again at each change.
#[test]
fn a_list_of_long_scripts_is_short() {
    let site = Site::new(&["master", "one"]);
    let master = site.master(&["one"], None);
    let file = site.file("new.json");
    let script = format!("true # first\n# {}", "x".repeat(60_000));
    fs::write(&file, format!("{{\"script\": {:?}}}", script)).expect("a file");
    for _ in 0..5 {
        let data = format!("@{}", file.display());
        let arguments = [
            "-H",
            "content-type: application/json",
            "--data-binary",
            &data,
        ];
        master.curl(&arguments, "/builds");
    }
    let list = master.curl(&[], "/builds");
    assert!(list.len() < 10_000, "{} bytes", list.len());
    assert!(list.contains("true # first"), "{list:.500}");
    // One build is there as a whole.
    assert!(master.curl(&[], "/builds/1").len() > 60_000);
}

/// Its output is that of the build, and the build has ended.
#[test]
fn what_a_build_leaves_in_the_background_does_not_hold_it_up() {
    let site = Site::new(&["master", "one"]);
    let master = site.master(&["one"], None);
    let _worker = site.worker("one", &master);
    let id = master.build("sleep 1000 & echo $! > $ARTIFACTS/process; echo done");
    master.until_state(&id, "passed");
    assert_eq!(master.log(&id), "done");
    let process = master.curl(&[], &format!("/artifacts/{id}/process"));
    until(|| (!is_alive(&process)).then_some(()));
}

/// Something of a build runs on in a session of its own, and puts pipes in the place of the files
/// that the worker has seen and not read yet. Opening one would wait for a writer.
#[test]
fn files_that_become_pipes_do_not_hold_the_worker() {
    let site = Site::new(&["master", "one"]);
    let master = site.master(&["one"], None);
    let _worker = site.worker("one", &master);
    let swap = "import os, sys, time
parent = os.getppid()
open('../ready', 'w').close()
while os.getppid() == parent: time.sleep(0.001)
time.sleep(0.05)
for n in range(1000):
    os.mkfifo(f'../pipe{n}')
    os.rename(f'../pipe{n}', f'{sys.argv[1]}/{n}')
";
    let fill = "for n in $(seq 0 999); do echo $n > $ARTIFACTS/$n; done";
    let swap = format!("setsid python3 -c \"{swap}\" $ARTIFACTS > /dev/null 2>&1 &");
    let wait = "until [ -e ../ready ]; do sleep 0.01; done";
    let id = master.build(&format!("{fill}; {swap} {wait}"));
    master.until_state(&id, "passed");
    assert_eq!(master.log(&master.build("echo hello")), "hello");
}

/// The worker does nothing else meanwhile, and a master gives up a worker that does not answer.
#[test]
fn a_large_build_is_cleaned_away_beside_other_work() {
    let site = Site::new(&["master", "one"]);
    let master = site.master(&["one"], None);
    let (_, port) = master.workers.rsplit_once(':').expect("an address");
    let mut command = site.command("worker", "one");
    command.args(["--trust", "master.pem", "--master"]);
    command.arg(format!("tcp:127.0.0.1:{port}"));
    let log = site.file("worker.log");
    command.stdout(fs::File::create(&log).expect("a file"));
    command.stderr(fs::File::create(&log).expect("a file"));
    let _worker = Running(command.spawn().expect("built"));
    let id = master.build("pwd > $ARTIFACTS/where; seq 50000 | xargs touch");
    master.until_state(&id, "passed");
    let folder = master.curl(&[], &format!("/artifacts/{id}/where"));
    until(|| (!Path::new(folder.trim()).exists()).then_some(()));
    // Another one is not kept waiting.
    let next = master.build("echo hello");
    assert_eq!(master.log(&next), "hello");
    let log = fs::read_to_string(&log).expect("text");
    let held = log.split("held the thread for ").skip(1);
    let held = held.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok());
    assert!(held.fold(0.0, f64::max) < 200.0, "{log}");
}
