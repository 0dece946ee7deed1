//! Children that print what they got, as proc(5) tells it.
#![cfg(target_os = "linux")]

use std::{
    collections::BTreeSet,
    env, fs,
    io::{Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use entwined_spawn::{MAX_FDS, Spawn, Terminal, duplicate};
use rustix::{
    io::{FdFlags, fcntl_setfd},
    pipe::{PipeFlags, pipe_with},
};

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Runs a child to its end and returns what it printed.
fn printed(spawn: impl FnOnce(Spawn) -> Spawn, command: Command) -> String {
    let (mut reader, writer) = pipe();
    let mut child = spawn(Spawn::new(command).fd(1, writer))
        .spawn()
        .expect("it runs");
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    assert!(child.wait().expect("its status").success(), "{text}");
    text
}

/// Runs the test of this name in a process of its own. Returns whether this is that process.
fn apart(name: &str, wrapper: &[&str]) -> bool {
    if env::var_os("ENTWINED_APART").is_some() {
        return true;
    }
    let mut command = Command::new("env");
    command
        .args(wrapper)
        .arg(env::current_exe().expect("this program"));
    command
        .args(["--exact", name, "--quiet"])
        .env("ENTWINED_APART", name);
    assert!(command.status().expect("it starts").success());
    false
}

/// The ends of a pipe, to read and to write.
fn pipe() -> (fs::File, fs::File) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    (reader.into(), writer.into())
}

/// A file with this text.
fn file(text: &str) -> OwnedFd {
    let (reader, mut writer) = pipe();
    writer.write_all(text.as_bytes()).expect("written");
    reader.into()
}

/// The child's fds, apart from the one with which `ls` reads the folder.
fn fds(listing: &str) -> BTreeSet<i32> {
    listing
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect()
}

#[test]
fn a_child_gets_what_it_is_given_and_nothing_else() {
    let leaked = file("");
    fcntl_setfd(&leaked, FdFlags::empty()).expect("not close-on-exec");
    let script = "ls /proc/self/fd; cat <&7 >&2; exec 7<&-";
    let (mut said, err) = pipe();
    let text = printed(
        |spawn| spawn.fd(7, file("seven")).fd(9, file("")).fd(2, err),
        {
            let mut command = shell(script);
            command.stdin(Stdio::null());
            command
        },
    );
    let mut found = fds(&text);
    // `ls` itself has opened the lowest free number.
    assert!(found.remove(&3), "{text}");
    assert_eq!(found, BTreeSet::from([0, 1, 2, 7, 9]));
    assert!(leaked.as_raw_fd() > 2);
    let mut seven = String::new();
    said.read_to_string(&mut seven).expect("text");
    assert_eq!(seven, "seven");
}

#[test]
fn numbers_can_be_exchanged() {
    // Each fd has the number that another is given in the child.
    let (one, two) = (file("one"), file("two"));
    let (first, second) = (one.as_raw_fd(), two.as_raw_fd());
    let script = format!("cat /proc/self/fd/{first} /proc/self/fd/{second}");
    let text = printed(|spawn| spawn.fd(first, two).fd(second, one), shell(&script));
    assert_eq!(text, "twoone");
}

#[test]
fn the_highest_number_can_be_given_and_the_next_is_refused() {
    let last = MAX_FDS - 1;
    let script = format!("cat /proc/self/fd/{last}");
    let text = printed(|spawn| spawn.fd(last, file("last")), shell(&script));
    assert_eq!(text, "last");
    for number in [-1, MAX_FDS] {
        let spawn = Spawn::new(shell("true")).fd(number, file(""));
        let error = spawn.spawn().expect_err("out of range").to_string();
        assert!(error.contains("0 to 1023"), "{error}");
    }
}

#[test]
fn the_highest_number_can_be_given_under_the_usual_limit() {
    const NAME: &str = "the_highest_number_can_be_given_under_the_usual_limit";
    if apart(NAME, &["prlimit", "--nofile=1024:1024"]) {
        the_highest_number_can_be_given_and_the_next_is_refused();
    }
}

#[test]
fn a_program_that_is_missing_is_an_error_whatever_numbers_are_given() {
    let mut spawn = Spawn::new(Command::new("/no/such/program"));
    for number in 3..40 {
        spawn = spawn.fd(number, file(""));
    }
    let error = spawn.spawn().expect_err("there is none");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn other_threads_that_open_and_close_fds_do_not_hide_an_error() {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    drop([pipe(), pipe(), pipe()]);
                }
            });
        }
        let mut missed = 0;
        for _ in 0..100 {
            let mut spawn = Spawn::new(Command::new("/no/such/program"));
            for number in 3..20 {
                spawn = spawn.fd(number, file(""));
            }
            if let Ok(mut child) = spawn.spawn() {
                child.wait().expect("its status");
                missed += 1;
            }
        }
        over.store(true, Ordering::Relaxed);
        assert_eq!(missed, 0);
    });
}

#[test]
fn signals_are_neither_blocked_nor_ignored_in_a_child() {
    const NAME: &str = "signals_are_neither_blocked_nor_ignored_in_a_child";
    if !apart(
        NAME,
        &["--ignore-signal=HUP,USR1", "--block-signal=INT,TERM"],
    ) {
        return;
    }
    // Without 32 and 33, which belong to the C library.
    let sets = |status: &str| -> Vec<(String, u64)> {
        let sets = status.lines().filter(|line| line.starts_with("Sig"));
        let sets = sets.filter_map(|line| line.split_once(":\t"));
        let sets = sets.filter_map(|(name, set)| {
            Some((
                name.to_owned(),
                u64::from_str_radix(set, 16).ok()? & !(3 << 31),
            ))
        });
        sets.filter(|(_, set)| *set != 0).collect()
    };
    let own = fs::read_to_string("/proc/thread-self/status").expect("Linux");
    assert!(sets(&own).len() >= 2, "{own}");
    let mut command = Command::new("cat");
    command.arg("/proc/self/status");
    let status = printed(|spawn| spawn, command);
    assert_eq!(sets(&status), []);
    let after = fs::read_to_string("/proc/thread-self/status").expect("Linux");
    assert_eq!(
        sets(&after),
        sets(&own),
        "the parent's signals have changed"
    );
}

/// The process, its group and its session, as `ps` shows them.
const IDS: &str = "ps -o pid=,pgid=,sid= -p $$";

fn ids(text: &str) -> [i32; 3] {
    let numbers: Vec<i32> = text
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect();
    numbers.try_into().expect("three numbers")
}

#[test]
fn a_child_leads_what_it_is_asked_to_lead() {
    let own = rustix::process::getpgrp().as_raw_pid();
    let [pid, group, session] = ids(&printed(|spawn| spawn, shell(IDS)));
    assert_eq!((pid == group, group), (false, own));
    let [pid, group, same] = ids(&printed(Spawn::process_group, shell(IDS)));
    assert_eq!((group, same), (pid, session));
    let [pid, group, other] = ids(&printed(
        |spawn| spawn.session().process_group(),
        shell(IDS),
    ));
    assert_eq!((group, other), (pid, pid));
}

#[test]
fn a_terminal_controls_its_child() {
    let Terminal {
        mut controller,
        device,
    } = {
        let terminal = Terminal::open(100, 30).expect("a terminal");
        assert_eq!(
            rustix::termios::tcgetwinsize(&terminal.device)
                .expect("a size")
                .ws_col,
            100
        );
        terminal
    };
    let script = "stty size; tty <&2; ls /proc/self/fd | tr '\\n' ' '; echo; exec sleep 100";
    let child = Spawn::new(shell(script)).terminal(device).spawn();
    let mut child = child.expect("it runs");
    let mut said = String::new();
    while said.matches('\n').count() < 3 {
        let mut buffer = [0; 256];
        let count = rustix::io::read(&controller, &mut buffer).expect("output");
        said.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    let lines: Vec<_> = said.lines().collect();
    assert_eq!((lines[0], &lines[1][..9]), ("30 100", "/dev/pts/"));
    assert_eq!(fds(lines[2]), BTreeSet::from([0, 1, 2, 3]));
    // Ctrl-C reaches the child through the terminal.
    rustix::io::write(&mut controller, b"\x03").expect("typed");
    assert_eq!(
        child.wait().expect("its status").signal(),
        Some(libc::SIGINT)
    );
}

#[test]
fn a_child_dies_with_the_thread_that_started_it() {
    let mut child = thread::spawn(|| {
        let mut command = shell("echo ready; exec sleep 1000");
        command.stdout(Stdio::piped());
        let mut child = Spawn::new(command)
            .die_with_parent()
            .spawn()
            .expect("it runs");
        child
            .stdout
            .as_mut()
            .expect("a pipe")
            .read_exact(&mut [0; 6])
            .expect("ready");
        child
    })
    .join()
    .expect("a child");
    assert_eq!(
        child.wait().expect("its status").signal(),
        Some(libc::SIGKILL)
    );
}

#[test]
fn an_fd_is_duplicated_by_its_number() {
    let original = file("text");
    let mut copy = fs::File::from(duplicate(original.as_raw_fd()).expect("it is open"));
    let mut text = [0; 4];
    copy.read_exact(&mut text).expect("text");
    assert_eq!(&text, b"text");
    assert_eq!(
        duplicate(-1).expect_err("no such fd").raw_os_error(),
        Some(libc::EBADF)
    );
}
