//! The program as a process, used by Chromium, by Python's websockets and by Jupyter's library.

mod faults;
#[cfg(feature = "window")]
mod window;

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

struct Program {
    process: Child,
    /// With the token.
    url: String,
    folder: TempDir,
}

impl Program {
    fn start() -> Program {
        Program::start_with(|_| ())
    }

    fn start_with(options: impl FnOnce(&mut Command)) -> Program {
        let folder = tempfile::tempdir().expect("a folder");
        let mine = format!("{}/tests/mine.py", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_notebook"));
        command
            .args(["--listen", "tcp:0:interface=127.0.0.1", "--folder"])
            .arg(folder.path().join("notebooks"))
            .args(["--kernel", &format!("mine=/usr/bin/python3 {mine}")])
            .stdout(Stdio::piped());
        options(&mut command);
        let mut process = command.spawn().expect("it was built with this test");
        let output = process.stdout.take().expect("piped");
        let url = BufReader::new(output)
            .lines()
            .map(|line| line.expect("text"))
            .find_map(|line| line.strip_prefix("open ").map(str::to_owned))
            .expect("it says where it is");
        Program {
            process,
            url,
            folder,
        }
    }

    fn python(&self, script: &str, arguments: &[&str]) -> String {
        run(Command::new("/usr/bin/python3")
            .arg(format!("{}/tests/{script}", env!("CARGO_MANIFEST_DIR")))
            .arg(&self.url)
            .args(arguments)
            .env("HOME", self.folder.path()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{errors}");
    text
}

/// Processes that are there, without those that wait to be noticed.
fn there(processes: &[String]) -> Vec<&String> {
    let is_there = |process: &&String| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().unwrap_or_default().to_owned();
        !state.is_empty() && !state.starts_with('Z')
    };
    processes.iter().filter(is_there).collect()
}

fn until_gone(processes: &[String]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !there(processes).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", there(processes));
        thread::sleep(Duration::from_millis(10));
    }
}

/// All processes that this one has started, and those that they have.
fn below(process: u32) -> Vec<String> {
    let mut all = Vec::new();
    let mut parents = vec![process.to_string()];
    while let Some(parent) = parents.pop() {
        let path = format!("/proc/{parent}/task/{parent}/children");
        let children = fs::read_to_string(path).unwrap_or_default();
        let children: Vec<_> = children.split_whitespace().map(str::to_owned).collect();
        all.extend(children.iter().cloned());
        parents.extend(children);
    }
    all
}

fn kernels_work_and_none_is_left(signal: &str) {
    let mut program = Program::start();
    let named = program.python("kernels.py", &["."]);
    let named: Vec<_> = named.split_whitespace().map(str::to_owned).collect();
    let mut all = below(program.process.id());
    assert_eq!(there(&named).len(), 2, "{named:?}");
    assert!(named.iter().all(|process| all.contains(process)));
    assert!(all.len() > 46, "{all:?}");
    all.extend(named);
    run(Command::new("kill").args([signal, &program.process.id().to_string()]));
    program.process.wait().expect("it was started");
    until_gone(&all);
}

#[test]
fn kernels_work_and_none_is_left_at_the_end() {
    kernels_work_and_none_is_left("-TERM");
}

#[test]
fn kernels_work_and_none_is_left_after_kill_9() {
    kernels_work_and_none_is_left("-KILL");
}

/// It was forgotten, and what was on the disk was shown and written again.
#[test]
fn what_is_not_yet_written_is_kept_though_many_are_looked_at() {
    let program = Program::start();
    let whole = program.python("many.py", &[]);
    assert!(whole.contains("not yet written"), "{whole}");
}

#[test]
fn an_error_at_the_start_says_which_folder_it_is_about() {
    let output = Command::new(env!("CARGO_BIN_EXE_notebook"))
        .args([
            "--listen",
            "tcp:0:interface=127.0.0.1",
            "--folder",
            "/proc/nowhere",
        ])
        .output()
        .expect("it was built with this test");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with("notebook: /proc/nowhere: "), "{text}");
}

#[test]
fn one_of_those_who_make_the_same_notebook_does() {
    Program::start().python("same.py", &[]);
}

#[test]
fn a_cell_that_says_too_much_keeps_its_kernel() {
    Program::start().python("much.py", &[]);
}

#[test]
fn a_person_works_in_a_browser() {
    let mut program = Program::start();
    let pictures = std::env::var("PICTURES").ok();
    let pictures: Vec<_> = pictures.iter().map(String::as_str).collect();
    program.python("page.py", &pictures);
    // At the end it writes what was changed, and Jupyter can read it.
    run(Command::new("kill").arg(program.process.id().to_string()));
    assert!(program.process.wait().expect("it was started").success());
    let check = "import nbformat, sys\nbook = nbformat.read(sys.argv[1], 4)\n\
                 nbformat.validate(book)\nprint(len(book.cells), book.cells[0].outputs[1].data)";
    let file = program.folder.path().join("notebooks/A notebook.ipynb");
    let text = run(Command::new("/usr/bin/python3")
        .args(["-c", check])
        .arg(file));
    assert_eq!(text, "5 {'text/plain': '42'}\n");
}
