//! Child processes.

use std::{
    cell::{Cell, RefCell},
    fs,
    future::{Future, poll_fn},
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    pin::Pin,
    process,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::forbidden;
use crate::{
    process::{close, read, read_to_end, write_all},
    run::run,
};
use entwined::{
    process::{
        Command, ExitError, Io, OutputError, ProcessProtocol, ProcessTransport, TerminalSize,
    },
    protocol::{self, Connection, Lost, Protocol},
    reactor::{Driver, Event, Interest, Key, Notify, Reactor, Selector, Source},
    signal::Signal,
};
use futures_io::AsyncWrite;

/// How long anything may take. Only a failing test waits this long.
const LIMIT: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

/// The state of a process as the system reports it, such as `S` or `Z`, or `None` if there is no
/// such process.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// Waits until a process has ended. If it is not our child, it may stay a zombie until its parent
/// reaps it.
fn wait_until_gone(pid: u32) {
    let deadline = Instant::now() + LIMIT;
    while !matches!(state(pid), None | Some('Z')) {
        assert!(
            Instant::now() < deadline,
            "process {pid} is still there, in state {:?}",
            state(pid)
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_signal_that_ends_a_child_is_told() {
    run(|handle| async move {
        let process = Command::new("cat")
            .stdin(Io::Stream)
            .spawn(&handle)
            .expect("cat");
        process.signal(Signal::TERM).expect("it runs");
        assert_eq!(
            process.exited().await.expect("its status").signal(),
            Some(15)
        );
        // The process is gone, whoever has its number now.
        assert_eq!(
            process.signal(Signal::TERM).expect_err("gone").kind(),
            io::ErrorKind::NotFound
        );
        process.kill().expect("an ended process is not an error");
        assert_eq!(
            process
                .signal_group(Signal::TERM)
                .expect_err("no group")
                .kind(),
            io::ErrorKind::InvalidInput
        );
    });
}

#[test]
fn a_grandchild_may_hold_the_output_after_the_exit() {
    run(|handle| async move {
        // The grandchild ends when its input ends, and this side keeps that pipe open.
        let script = "exec 3<&0; cat <&3 >&1 & exit 3";
        let mut process = shell(script)
            .stdin(Io::Stream)
            .stdout(Io::Stream)
            .spawn(&handle)
            .expect("sh");
        let (mut input, mut output) = (
            process.take_stdin().expect("a pipe"),
            process.take_stdout().expect("a pipe"),
        );
        assert_eq!(process.exited().await.expect("its status").code(), Some(3));
        write_all(&mut input, b"still here").await.expect("written");
        assert_eq!(read(&mut output).await.expect("bytes"), b"still here");
        close(&mut input).await;
        assert_eq!(read_to_end(&mut output).await, b"");
    });
}

#[test]
fn a_protocol_runs_over_a_process() {
    #[derive(Default)]
    struct Upper(Rc<RefCell<String>>);
    impl Protocol for Upper {
        fn connection_made(&mut self, connection: &Connection) {
            connection.write(b"hello");
            connection.end();
        }

        fn data_received(&mut self, _: &Connection, data: &[u8]) {
            self.0.borrow_mut().push_str(&String::from_utf8_lossy(data));
        }

        fn connection_lost(&mut self, why: &Lost) {
            self.0.borrow_mut().push_str(&format!(", {why}"));
        }
    }
    let heard = Rc::new(RefCell::new(String::new()));
    let protocol = Upper(heard.clone());
    run(|handle| async move {
        let mut process = Command::new("tr")
            .args(["a-z", "A-Z"])
            .stdin(Io::Stream)
            .stdout(Io::Stream)
            .spawn(&handle)
            .expect("tr");
        let connection =
            protocol::start(&handle, process.take_stream().expect("two pipes"), protocol);
        assert!(process.exited().await.expect("its status").success());
        while !connection.is_closing() {
            handle.sleep(Duration::from_millis(1)).await;
        }
    });
    assert_eq!(*heard.borrow(), "HELLO, the connection was closed");
}

/// Writing failed, and what the program had said before was not read.
#[test]
fn a_program_that_does_not_read_all_is_heard() {
    struct Fills(Rc<RefCell<Vec<u8>>>);

    impl Protocol for Fills {
        fn connection_made(&mut self, connection: &Connection) {
            connection.write(&[b'x'; 500_000]);
        }

        fn data_received(&mut self, _: &Connection, data: &[u8]) {
            self.0.borrow_mut().extend_from_slice(data);
        }
    }

    let heard = Rc::<RefCell<Vec<u8>>>::default();
    let protocol = Fills(heard.clone());
    run(|handle| async move {
        let mut process = Command::new("sh")
            .args(["-c", "head -c 50000"])
            .stdin(Io::Stream)
            .stdout(Io::Stream)
            .spawn(&handle)
            .expect("sh");
        let stream = process.take_stream().expect("two pipes");
        let connection = protocol::start(&handle, stream, protocol);
        assert!(process.exited().await.expect("its status").success());
        while !connection.is_closing() {
            handle.sleep(Duration::from_millis(1)).await;
        }
    });
    assert_eq!(heard.borrow().len(), 50_000);
}

#[test]
fn a_process_that_does_not_read_takes_no_more_than_the_pipe() {
    run(|handle| async move {
        let mut process = Command::new("sleep")
            .arg("1000")
            .stdin(Io::Stream)
            .kill_on_drop(true)
            .spawn(&handle)
            .expect("sleep");
        let mut input = process.take_stdin().expect("a pipe");
        let taken = poll_fn(move |cx| {
            let (mut taken, bytes) = (0, [0; 10_000]);
            while let std::task::Poll::Ready(count) = Pin::new(&mut input).poll_write(cx, &bytes) {
                taken += count.expect("written");
            }
            std::task::Poll::Ready(taken)
        });
        assert!((4_096..=1_048_576).contains(&taken.await));
    });
}

#[test]
fn a_broken_pipe_is_an_error_and_no_signal() {
    run(|handle| async move {
        let mut process = shell("exec 0<&-; exit 0")
            .stdin(Io::Stream)
            .spawn(&handle)
            .expect("sh");
        let mut input = process.take_stdin().expect("a pipe");
        process.exited().await.expect("its status");
        // A child that another thread has just forked also has the pipe, until it executes its
        // program.
        let deadline = Instant::now() + LIMIT;
        let error = loop {
            match write_all(&mut input, b"?").await {
                Ok(()) => handle.sleep(Duration::from_millis(1)).await,
                Err(error) => break error,
            }
            assert!(Instant::now() < deadline, "somebody has the other end");
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn killing_on_drop_takes_the_group_along() {
    let pids = run(|handle| async move {
        let script = "exec 3<&0; cat <&3 & echo $!; wait";
        let command = shell(script)
            .stdin(Io::Stream)
            .stdout(Io::Stream)
            .process_group()
            .kill_on_drop(true);
        let mut process = command.spawn(&handle).expect("sh");
        let (_input, mut output) = (process.take_stdin(), process.take_stdout().expect("a pipe"));
        let grandchild =
            String::from_utf8(read(&mut output).await.expect("a number")).expect("ASCII");
        let (pid, exited) = (process.id(), process.exited());
        drop(process);
        assert_eq!(exited.await.expect("its status").signal(), Some(9));
        [pid, grandchild.trim().parse().expect("a number")]
    });
    assert_eq!(state(pids[0]), None);
    wait_until_gone(pids[1]);
}

#[test]
fn a_dropped_process_goes_on_and_is_reaped() {
    run(|handle| async move {
        let mut process = Command::new("cat")
            .stdin(Io::Stream)
            .stdout(Io::Stream)
            .spawn(&handle)
            .expect("cat");
        let mut stream = process.take_stream().expect("two pipes");
        let (pid, exited) = (process.id(), process.exited());
        drop(process);
        write_all(&mut stream, b"on").await.expect("written");
        assert_eq!(read(&mut stream).await.expect("bytes"), b"on");
        drop(stream);
        assert!(exited.await.expect("its status").success());
        assert_eq!(state(pid), None, "a zombie");
    });
}

#[test]
fn a_process_that_outlives_the_run_is_reaped_too() {
    let (pid, exited) = run(|handle| async move {
        let process = Command::new("sleep")
            .arg("1000")
            .spawn(&handle)
            .expect("sleep");
        (process.id(), process.exited())
    });
    assert_eq!(run(|_| exited), Err(ExitError::Stopped));
    assert!(
        matches!(state(pid), Some('S' | 'R' | 'D')),
        "{:?}",
        state(pid)
    );
    // Killing it by number is safe: it is our child and was not reaped, so the number is still its
    // own.
    let number = rustix::process::Pid::from_raw(pid as i32).expect("a number");
    rustix::process::kill_process(number, Signal::KILL).expect("it runs");
    let deadline = Instant::now() + LIMIT;
    while state(pid).is_some() {
        assert!(
            Instant::now() < deadline,
            "process {pid} is still there, in state {:?}",
            state(pid)
        );
        std::thread::yield_now();
    }
}

#[test]
fn what_cannot_be_started_is_named_with_the_reason() {
    run(|handle| async move {
        let error = |command: Command| {
            command
                .spawn(&handle)
                .expect_err("it cannot be started")
                .to_string()
        };
        let missing = error(Command::new("no-such-program"));
        let expected =
            "cannot run no-such-program: it is not in PATH; install it or give its full path";
        assert_eq!(missing, expected);
        assert!(error(Command::new("/no/such/program")).contains("there is no such file"));
        assert!(error(Command::new("/etc/passwd")).contains("it is not executable"));
        let nowhere = error(Command::new("true").current_dir("/no/such/folder"));
        assert_eq!(
            nowhere,
            "cannot run true: the folder /no/such/folder does not exist"
        );
        // A file was said not to exist.
        let file = Command::new("true").current_dir("/etc/passwd");
        let file = file.spawn(&handle).expect_err("it is not a folder");
        assert_eq!(file.missing_directory, None);
        assert!(file.to_string().ends_with("is not a folder"), "{file}");
    });
}

#[test]
fn output_is_taken_up_to_a_limit() {
    run(|handle| async move {
        let output = shell("echo one; echo two >&2; exit 5")
            .output(&handle, 100)
            .await
            .expect("it runs");
        assert_eq!(
            (output.status.code(), &output.stdout[..], &output.stderr[..]),
            (Some(5), &b"one\n"[..], &b"two\n"[..])
        );
        let output = Command::new("env")
            .env_clear()
            .env("NAME", "value")
            .output(&handle, 100)
            .await
            .expect("it runs");
        assert_eq!(output.stdout, b"NAME=value\n");
        let output = Command::new("pwd")
            .current_dir("/usr")
            .output(&handle, 100)
            .await
            .expect("it runs");
        assert_eq!(output.stdout, b"/usr\n");
        let endless = Command::new("yes").output(&handle, 1_000_000).await;
        assert!(
            matches!(endless, Err(OutputError::TooMuch(1_000_000))),
            "{endless:?}"
        );
        assert!(matches!(
            Command::new("no-such-program").output(&handle, 1).await,
            Err(OutputError::Spawn(_))
        ));
    });
}

#[test]
fn many_processes_leave_nothing_behind() {
    let fds = || fs::read_dir("/proc/self/fd").expect("a list").count();
    run(move |handle| async move {
        Command::new("true")
            .spawn(&handle)
            .expect("true")
            .exited()
            .await
            .expect("its status");
        let before = fds();
        for _ in 0..20 {
            let processes: Vec<_> = (0..10)
                .map(|_| {
                    Command::new("cat")
                        .stdin(Io::Stream)
                        .stdout(Io::Stream)
                        .spawn(&handle)
                        .expect("cat")
                })
                .collect();
            let pids: Vec<_> = processes
                .iter()
                .map(entwined::process::Process::id)
                .collect();
            let exits: Vec<_> = processes
                .iter()
                .map(entwined::process::Process::exited)
                .collect();
            // Their pipes are closed with them, and cat ends at the end of its input.
            drop(processes);
            for exit in exits {
                assert!(exit.await.expect("its status").success());
            }
            assert!(pids.iter().all(|&pid| state(pid).is_none()), "a zombie");
        }
        assert!(fds() <= before + 20, "{before} fds before, {} after", fds());
    });
}

#[test]
fn an_fd_can_be_given_to_a_child() {
    let (mut here, there) = std::os::unix::net::UnixStream::pair().expect("two sockets");
    run(move |handle| async move {
        let process = Command::new("echo")
            .arg("over a socket")
            .stdout(Io::Fd(OwnedFd::from(there)));
        assert!(
            process
                .spawn(&handle)
                .expect("echo")
                .exited()
                .await
                .expect("its status")
                .success()
        );
    });
    let mut said = String::new();
    here.read_to_string(&mut said).expect("the end");
    assert_eq!(said, "over a socket\n");
}

/// Runs one of the programs below in a process of its own, and returns its result.
fn apart(name: &str, input: process::Stdio) -> process::Child {
    let mut command = process::Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", name, "--nocapture", "--quiet"])
        .env("ENTWINED_APART", name);
    command
        .stdin(input)
        .stdout(process::Stdio::piped())
        .spawn()
        .expect("it starts")
}

fn is_apart(name: &str) -> bool {
    std::env::var("ENTWINED_APART").is_ok_and(|apart| apart == name)
}

#[test]
fn in_a_program_that_ignores_sigchld_the_status_is_lost_and_nothing_hangs() {
    const NAME: &str =
        "on_linux::process::in_a_program_that_ignores_sigchld_the_status_is_lost_and_nothing_hangs";
    if !is_apart(NAME) {
        let mut command = process::Command::new("env");
        command
            .arg("--ignore-signal=CHLD")
            .arg(std::env::current_exe().expect("this program"));
        command
            .args(["--exact", NAME, "--quiet"])
            .env("ENTWINED_APART", NAME);
        assert!(command.status().expect("it starts").success());
        return;
    }
    run(|handle| async move {
        let process = shell("exit 3").spawn(&handle).expect("sh");
        assert_eq!(process.exited().await, Err(ExitError::Reaped));
        let output = shell("echo hello").output(&handle, 100).await;
        assert!(
            matches!(output, Err(OutputError::Exit(ExitError::Reaped))),
            "{output:?}"
        );
    });
}

#[test]
fn standard_input_and_output_are_a_stream_and_stay_as_they_were() {
    const NAME: &str =
        "on_linux::process::standard_input_and_output_are_a_stream_and_stay_as_they_were";
    if is_apart(NAME) {
        let heard = run(|handle| async move {
            let mut stream = entwined::transport::fd::stdio(&handle).expect("stdio");
            let heard = read_to_end(&mut stream).await;
            write_all(&mut stream, b"heard: ").await.expect("written");
            write_all(&mut stream, &heard).await.expect("written");
            heard
        });
        assert!(heard.starts_with(b"input"));
        return;
    }
    let path = std::env::temp_dir().join(format!("entwined-stdio-{}", process::id()));
    fs::write(&path, "input of a file").expect("written");
    let file = fs::File::open(&path).expect("it is there");
    fs::remove_file(&path).expect("it is there");
    let (socket, mut peer) = std::os::unix::net::UnixStream::pair().expect("two sockets");
    peer.write_all(b"input of a socket").expect("written");
    peer.shutdown(std::net::Shutdown::Write).expect("shut down");
    let shared = socket.try_clone().expect("a copy");
    for (input, expected) in [
        (file.into(), "input of a file"),
        (OwnedFd::from(socket).into(), "input of a socket"),
    ] {
        let output = apart(NAME, input).wait_with_output().expect("an end");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(&format!("heard: {expected}")), "{said}");
    }
    // The file status flags are shared with the other processes.
    let flags = rustix::fs::fcntl_getfl(&shared).expect("flags");
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
    // Output that shares the description of the input.
    let (socket, mut peer) = std::os::unix::net::UnixStream::pair().expect("two sockets");
    peer.write_all(b"input of a socket").expect("written");
    peer.shutdown(std::net::Shutdown::Write).expect("shut down");
    let mut both = process::Command::new(std::env::current_exe().expect("this program"));
    both.args(["--exact", NAME, "--nocapture", "--quiet"])
        .env("ENTWINED_APART", NAME)
        .stdin(OwnedFd::from(socket.try_clone().expect("a copy")))
        .stdout(OwnedFd::from(socket.try_clone().expect("a copy")));
    assert!(both.status().expect("it starts").success());
    let flags = rustix::fs::fcntl_getfl(&socket).expect("flags");
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
    let mut said = vec![0; 1_000];
    let count = peer.read(&mut said).expect("output");
    let said = String::from_utf8_lossy(&said[..count]).into_owned();
    assert!(said.contains("heard: input of a socket"), "{said}");
    let mut child = apart(NAME, process::Stdio::piped());
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(b"input of a pipe")
        .expect("written");
    let output = child.wait_with_output().expect("an end");
    assert!(String::from_utf8_lossy(&output.stdout).contains("heard: input of a pipe"));
}

#[test]
fn a_terminal_is_a_stream_whose_end_is_that_of_its_other_side() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&master).expect("granted");
    unlockpt(&master).expect("unlocked");
    let name = ptsname(&master, Vec::new()).expect("a name");
    let slave = fs::File::options()
        .read(true)
        .write(true)
        .open(name.to_str().expect("ASCII"))
        .expect("it is there");
    run(move |handle| async move {
        let copy = slave.try_clone().expect("a copy");
        let process = shell("test -t 0 && read line && echo got $line").stdin(Io::Fd(slave.into()));
        let process = process
            .stdout(Io::Fd(copy.into()))
            .spawn(&handle)
            .expect("sh");
        let mut stream = entwined::transport::fd::duplex(&handle, master).expect("watched");
        write_all(&mut stream, b"typed\n").await.expect("written");
        let said = read_to_end(&mut stream).await;
        // The terminal echoes what is typed.
        assert_eq!(String::from_utf8_lossy(&said), "typed\r\ngot typed\r\n");
        assert!(process.exited().await.expect("its status").success());
    });
}

#[test]
fn a_child_gets_no_fd_that_it_was_not_given() {
    // As an inherited socket is: not close-on-exec.
    let leaked = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).expect("its flags");
    let output = run(|handle| async move {
        let ls = Command::new("ls").arg("/proc/self/fd");
        ls.output(&handle, 1_000).await.expect("it runs")
    });
    // The last is the folder itself.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n1\n2\n3\n");
}

#[test]
fn a_child_neither_blocks_nor_ignores_what_its_parent_does() {
    const NAME: &str = "on_linux::process::a_child_neither_blocks_nor_ignores_what_its_parent_does";
    if !is_apart(NAME) {
        let mut command = process::Command::new("env");
        command
            .args(["--block-signal=TERM,INT", "--ignore-signal=HUP,USR1"])
            .arg(std::env::current_exe().expect("this program"))
            .args(["--exact", NAME, "--quiet"])
            .env("ENTWINED_APART", NAME);
        assert!(command.status().expect("it starts").success());
        return;
    }
    run(|handle| async move {
        for terminal in [false, true] {
            for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::USR1] {
                let command = Command::new("sleep").arg("1000").kill_on_drop(true);
                let process = match terminal {
                    true => command.terminal(TerminalSize::default()),
                    false => command,
                };
                let process = process.spawn(&handle).expect("sleep");
                process.signal(signal).expect("it runs");
                let status = handle.timeout(LIMIT, process.exited()).await;
                let status = status.expect("its end").expect("its status");
                assert_eq!(status.signal(), Some(signal.as_raw()));
            }
        }
    });
}

#[test]
fn output_does_not_wait_for_a_program_that_waits_for_input() {
    run(|handle| async move {
        let command = shell("cat; cat <&3; echo end").stdin(Io::Stream);
        let output = command.fd(3, Io::PipeIn).output(&handle, 100);
        let output = handle.timeout(LIMIT, output).await.expect("an end");
        assert_eq!(output.expect("it runs").stdout, b"end\n");
    });
}

/// Waits until a child of this process is gone, reaped and all.
fn wait_until_reaped(pid: u32) {
    let deadline = Instant::now() + LIMIT;
    while let Some(state) = state(pid) {
        assert!(
            Instant::now() < deadline,
            "process {pid} is still there, in state {state:?}"
        );
        std::thread::yield_now();
    }
}

#[test]
fn what_is_killed_on_drop_ends_with_the_run_whoever_keeps_it() {
    let sleep = || Command::new("sleep").arg("1000");
    let (kept, pids) = run(move |handle| async move {
        let kept = sleep().kill_on_drop(true).spawn(&handle).expect("sleep");
        let others = sleep().spawn(&handle).expect("sleep");
        let of_a_task = sleep().kill_on_drop(true).spawn(&handle).expect("sleep");
        let pids = [kept.id(), of_a_task.id(), others.id()];
        let waiting = async move { of_a_task.exited().await };
        handle.spawn(waiting);
        ((kept, others), pids)
    });
    wait_until_reaped(pids[0]);
    wait_until_reaped(pids[1]);
    // The third was not to be killed. It is known after the run, too.
    let (first, third) = kept;
    assert!(first.kill().is_ok());
    assert!(state(pids[2]).is_some());
    third.signal(Signal::TERM).expect("it runs");
    wait_until_reaped(pids[2]);
    for result in [
        third.signal(Signal::TERM),
        third.terminate(),
        third.interrupt(),
    ] {
        match result {
            Ok(()) => {}
            Err(error) => assert_eq!(error.to_string(), "the process has exited"),
        }
    }
}

#[test]
fn a_group_that_is_killed_on_drop_ends_with_the_run() {
    let (process, pids) = run(|handle| async move {
        let command = shell("sleep 1000 & echo $!; wait").stdout(Io::Stream);
        let command = command.process_group().kill_on_drop(true);
        let mut process = command.spawn(&handle).expect("sh");
        let mut output = process.take_stdout().expect("a pipe");
        let grandchild =
            String::from_utf8(read(&mut output).await.expect("a number")).expect("ASCII");
        let pids = [process.id(), grandchild.trim().parse().expect("a number")];
        (process, pids)
    });
    wait_until_reaped(pids[0]);
    wait_until_gone(pids[1]);
    let error = process.signal_group(Signal::TERM).expect_err("it is gone");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert_eq!(error.to_string(), "the process has exited");
}

#[test]
fn a_group_that_outlives_the_run_is_still_a_group() {
    let process = run(|handle| async move {
        let command = Command::new("sleep").arg("1000").process_group();
        command.spawn(&handle).expect("sleep")
    });
    process.signal_group(Signal::KILL).expect("it runs");
    wait_until_reaped(process.id());
}

#[test]
fn a_child_can_die_with_its_parent() {
    const NAME: &str = "on_linux::process::a_child_can_die_with_its_parent";
    if is_apart(NAME) {
        let process = run(|handle| async move {
            let command = Command::new("sleep").arg("1000").die_with_parent(true);
            command.spawn(&handle).expect("sleep")
        });
        println!("child {}", process.id());
        process::abort();
    }
    let output = apart(NAME, process::Stdio::null())
        .wait_with_output()
        .expect("an end");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stdout);
    let pid = said.split_once("child ").expect("a child").1;
    let pid = pid.split_whitespace().next().expect("a number");
    wait_until_gone(pid.parse().expect("a number"));
}

#[test]
fn a_future_of_an_exit_takes_its_waker_along() {
    struct Woken;
    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {}
    }
    run(|handle| async move {
        let command = Command::new("sleep").arg("1000").kill_on_drop(true);
        let process = command.spawn(&handle).expect("sleep");
        let woken = Arc::new(Woken);
        let waker = woken.clone().into();
        let mut cx = std::task::Context::from_waker(&waker);
        for _ in 0..10 {
            let mut exited = process.exited();
            assert!(Pin::new(&mut exited).poll(&mut cx).is_pending());
            assert!(Pin::new(&mut exited).poll(&mut cx).is_pending());
        }
        assert_eq!(Arc::strong_count(&woken), 2);
    });
}

#[test]
fn a_child_whose_debugger_hears_of_its_exit_first_is_reaped_with_its_status() {
    let python = |program: &str| {
        let command = Command::new("/usr/bin/python3").args(["-c", program]);
        command.stdin(Io::Stream).stdout(Io::Stream)
    };
    // PR_SET_PTRACER: any process may debug this one.
    let debugged = "import ctypes, sys; ctypes.CDLL(None).prctl(0x59616d61, -1, 0, 0, 0); \
                    print('ready', flush=True); sys.stdin.readline(); sys.exit(5)";
    // PTRACE_SEIZE, and no wait.
    let debugger = "import ctypes, sys; pid = int(sys.argv[1]); \
                    print(ctypes.CDLL(None).ptrace(0x4206, pid, 0, 0), flush=True); \
                    sys.stdin.readline()";
    run(move |handle| async move {
        let mut child = python(debugged).spawn(&handle).expect("python3");
        let mut output = child.take_stdout().expect("a pipe");
        assert!(read(&mut output).await.expect("ready").starts_with(b"r"));
        let debugger = python(debugger).arg(child.id().to_string());
        let mut debugger = debugger.spawn(&handle).expect("python3");
        let mut output = debugger.take_stdout().expect("a pipe");
        assert!(
            read(&mut output)
                .await
                .expect("its result")
                .starts_with(b"0")
        );
        drop(child.take_stdin());
        while state(child.id()) != Some('Z') {
            handle.sleep(Duration::from_millis(1)).await;
        }
        let early = handle.timeout(Duration::from_millis(30), child.exited());
        assert!(early.await.is_err());
        drop(debugger);
        assert_eq!(child.exited().await.expect("its status").code(), Some(5));
        assert_eq!(state(child.id()), None);
    });
}

/// A sandbox that does not know pidfd_open(2) says EPERM, which is not about the program.
#[cfg(not(entwined_portable))]
#[test]
fn in_a_sandbox_without_pidfds_the_error_says_so() {
    let name = "process::in_a_sandbox_without_pidfds_the_error_says_so";
    if !forbidden("pidfd_open", 1, name) {
        return;
    }
    let reactor = entwined::Standalone::new().expect("a reactor");
    let error = Command::new("true")
        .spawn(&reactor.handle())
        .expect_err("no pidfd");
    let error = error.to_string();
    assert!(
        error.contains("pidfd_open") && !error.contains("executable"),
        "{error}"
    );
}

/// An old kernel does not know close_range(2). A number may be above the limit, which was lowered
/// since.
#[test]
fn without_close_range_too_no_fd_is_inherited() {
    let name = "process::without_close_range_too_no_fd_is_inherited";
    if !forbidden("close_range", 38, name) {
        return;
    }
    use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
    let high = fcntl_dupfd_cloexec(io::stdin(), 900).expect("a duplicate");
    fcntl_setfd(&high, FdFlags::empty()).expect("a flag");
    limit_fds(500);
    run(|handle| async move {
        let command = Command::new("ls").arg("/proc/self/fd").stdout(Io::Stream);
        let output = command.output(&handle, 1000).await.expect("ls");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n1\n2\n3\n");
    });
}

/// A file system of another program may give any error, also the one that says to try again. The
/// thread tried for ever.
#[test]
fn a_file_system_cannot_make_a_start_go_on_for_ever() {
    // EADDRINUSE.
    if !forbidden(
        "chdir",
        98,
        "process::a_file_system_cannot_make_a_start_go_on_for_ever",
    ) {
        return;
    }
    run(|handle| async move {
        let error = Command::new("true").current_dir("/").spawn(&handle);
        let error = error.expect_err("it cannot go there");
        assert_eq!(error.source.raw_os_error(), Some(98), "{error}");
    });
}

/// Lets the process have so many fds, and no more.
fn limit_fds(count: u64) -> rustix::process::Rlimit {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let few = Rlimit {
        current: Some(count),
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, few).expect("a limit");
    before
}

#[test]
fn a_lack_of_fds_at_any_step_of_a_start_leaves_nothing_behind() {
    const NAME: &str =
        "on_linux::process::a_lack_of_fds_at_any_step_of_a_start_leaves_nothing_behind";
    if !is_apart(NAME) {
        let child = apart(NAME, process::Stdio::null());
        let output = child.wait_with_output().expect("its end");
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let fds = || -> Vec<u64> {
        let entries = fs::read_dir("/proc/self/fd").expect("a list");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut fds: Vec<_> = names
            .map(|name| name.to_str().expect("digits").parse().expect("a number"))
            .collect();
        fds.sort_unstable();
        fds
    };
    run(move |handle| async move {
        shell("exit 0").output(&handle, 10).await.expect("it runs");
        let before = fds();
        let (mut started, mut refused) = (0, 0);
        for terminal in [false, true] {
            for spare in 0..40 {
                let mut command = shell("exec cat").fd(3, Io::Stream).fd(20, Io::PipeOut);
                command = match terminal {
                    true => command.terminal(TerminalSize::default()),
                    false => command
                        .stdin(Io::Stream)
                        .stdout(Io::Stream)
                        .stderr(Io::Stream),
                };
                let limits = limit_fds(before.len() as u64 + spare);
                let process = command.kill_on_drop(true).spawn(&handle);
                rustix::process::setrlimit(rustix::process::Resource::Nofile, limits)
                    .expect("a limit");
                match process {
                    Ok(process) => {
                        started += 1;
                        let exited = process.exited();
                        drop(process);
                        exited.await.expect("its status");
                    }
                    Err(_) => refused += 1,
                }
                assert_eq!(fds(), before, "{spare} to spare");
                let children = fs::read_to_string("/proc/thread-self/children");
                assert_eq!(children.expect("a list"), "", "{spare} to spare");
            }
        }
        assert!(started > 10 && refused > 10, "{started}, {refused}");
    });
}

/// A selector that refuses to watch more than so many sources.
struct Refusing {
    selector: Rc<Selector>,
    left: Rc<Cell<u32>>,
    rearms: bool,
}

impl Reactor for Refusing {
    fn watch(&self, source: Source<'_>, key: Key, interest: Interest) -> io::Result<()> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or(io::ErrorKind::OutOfMemory)?);
        Reactor::watch(&self.selector, source, key, interest)
    }

    fn rearm(&self, source: Source<'_>, key: Key, interest: Interest) -> io::Result<()> {
        if !self.rearms {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Reactor::rearm(&self.selector, source, key, interest)
    }

    fn unwatch(&self, source: Source<'_>, key: Key) -> io::Result<()> {
        self.left.set(self.left.get() + 1);
        Reactor::unwatch(&self.selector, source, key)
    }

    fn select(&self, wait: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        Reactor::select(&self.selector, wait, events)
    }

    fn set_deadline(&self, deadline: Option<Instant>) {
        Reactor::set_deadline(&self.selector, deadline);
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        Reactor::notifier(&self.selector)
    }
}

/// The output counted as empty.
#[test]
fn output_that_cannot_be_watched_is_an_error() {
    let mut failed = 0;
    for left in 0.. {
        let refusing = Refusing {
            selector: Rc::new(Selector::new().expect("a selector")),
            left: Rc::new(Cell::new(left)),
            rearms: true,
        };
        let driver = Driver::new(refusing, ());
        driver.start().expect("it is new");
        let handle = driver.handle();
        let mut output = handle.spawn({
            let handle = handle.clone();
            async move { shell("echo hello; echo so >&2").output(&handle, 100).await }
        });
        let output = loop {
            driver.turn(Some(LIMIT)).expect("a turn");
            match output.take() {
                Ok(output) => break output.expect("no panic"),
                Err(waiting) => output = waiting,
            }
        };
        match output {
            // The exit is watched first, unless a thread waits for it.
            Err(OutputError::Spawn(_)) if left == 0 => {}
            Err(OutputError::Read(_)) => failed += 1,
            Ok(output) => {
                assert_eq!(output.stdout, b"hello\n");
                break;
            }
            output => panic!("{left}: {output:?}"),
        }
    }
    assert_eq!(failed, 2, "each stream");
}

/// The protocol was not told.
#[test]
fn a_stream_that_cannot_be_watched_is_closed() {
    struct Watched {
        log: Rc<RefCell<Vec<String>>>,
        over: Rc<Cell<bool>>,
    }

    impl ProcessProtocol for Watched {
        fn started(&mut self, _: &ProcessTransport) {
            self.log.borrow_mut().push("started".to_owned());
        }

        fn data_received(&mut self, _: &ProcessTransport, _: i32, _: &[u8]) {}

        fn closed(&mut self, _: &ProcessTransport, fd: i32) {
            self.log.borrow_mut().push(format!("closed {fd}"));
        }

        fn ended(&mut self, _: Result<process::ExitStatus, ExitError>) {
            self.over.set(true);
        }
    }

    let refusing = Refusing {
        selector: Rc::new(Selector::new().expect("a selector")),
        left: Rc::new(Cell::new(1)),
        rearms: true,
    };
    let driver = Driver::new(refusing, ());
    driver.start().expect("it is new");
    let child = shell("echo hello").stdout(Io::Stream).stderr(Io::Stream);
    let child = child.spawn(&driver.handle()).expect("a shell");
    let (log, over) = <(Rc<RefCell<Vec<_>>>, Rc<Cell<bool>>)>::default();
    let protocol = Watched {
        log: log.clone(),
        over: over.clone(),
    };
    entwined::process::start(child, protocol);
    while !over.get() {
        driver.turn(Some(LIMIT)).expect("a turn");
    }
    let mut log = log.take();
    // The two ends come in any order.
    log[1..].sort();
    assert_eq!(log, ["started", "closed 1", "closed 2"]);
}

/// It was read again and again.
#[test]
fn a_stream_that_cannot_be_watched_any_longer_fails() {
    let refusing = Refusing {
        selector: Rc::new(Selector::new().expect("a selector")),
        left: Rc::new(Cell::new(9)),
        rearms: false,
    };
    let driver = Driver::new(refusing, ());
    driver.start().expect("it is new");
    let child = shell("echo hello; read line")
        .stdin(Io::Stream)
        .stdout(Io::Stream);
    let mut child = child.spawn(&driver.handle()).expect("a shell");
    let mut stdout = child.take_stdout().expect("a pipe");
    let mut read = driver.handle().spawn(async move {
        read(&mut stdout).await?;
        read(&mut stdout).await
    });
    for _ in 0..100 {
        driver.turn(Some(LIMIT)).expect("a turn");
        match read.take() {
            Ok(read) => {
                let error = read.expect("no panic").expect_err("nothing to read");
                assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
                return;
            }
            Err(waiting) => read = waiting,
        }
    }
    panic!("it goes on and on");
}
