//! Child processes that are followed by callbacks, with additional fds and with terminals.

use std::{
    cell::{Cell, RefCell},
    fs,
    future::poll_fn,
    io::{Read, Write},
    os::{
        fd::RawFd,
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    pin::Pin,
    process::ExitStatus,
    rc::Rc,
    time::Duration,
};

use entwined::{
    Handle,
    deferred::{Deferred, Resolver},
    process::{self, Command, ExitError, Io, ProcessProtocol, ProcessTransport, TerminalSize},
    protocol::Flow,
    signal::Signal,
    transport::fd::FdStream,
};
use futures_io::{AsyncRead, AsyncWrite};

/// Runs a program with a shorter time limit.
fn run<T: 'static, F: Future<Output = T> + 'static>(
    program: impl FnOnce(Handle) -> F + 'static,
) -> T {
    crate::run::run(|handle| async move {
        let limit = Duration::from_secs(30);
        handle
            .timeout(limit, program(handle.clone()))
            .await
            .expect("an end within 30 s")
    })
}

fn shell(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

/// All three standard fds as streams.
fn three(command: Command) -> Command {
    command
        .stdin(Io::Stream)
        .stdout(Io::Stream)
        .stderr(Io::Stream)
}

type OnData = Box<dyn FnMut(&ProcessTransport, RawFd, &[u8])>;
type OnFd = Box<dyn FnMut(&ProcessTransport, RawFd)>;
type Log = Rc<RefCell<Vec<String>>>;

/// Logs what happens. All data of one fd is one entry.
struct Noting {
    log: Log,
    data: OnData,
    resume: OnFd,
    ended: Option<Resolver<(), String>>,
}

impl Noting {
    fn new() -> (Self, Log, Deferred<(), String>) {
        let (resolver, deferred) = Deferred::new();
        let log = Log::default();
        let protocol = Noting {
            log: log.clone(),
            data: Box::new(|_, _, _| {}),
            resume: Box::new(|_, _| {}),
            ended: Some(resolver),
        };
        (protocol, log, deferred)
    }

    fn on_data(mut self, call: impl FnMut(&ProcessTransport, RawFd, &[u8]) + 'static) -> Self {
        self.data = Box::new(call);
        self
    }

    fn note(&self, entry: impl Into<String>) {
        self.log.borrow_mut().push(entry.into());
    }
}

fn said(status: Result<ExitStatus, ExitError>) -> String {
    match status {
        Ok(status) => status.code().map_or_else(
            || format!("signal {:?}", status.signal()),
            |code| code.to_string(),
        ),
        Err(error) => format!("{error:?}"),
    }
}

impl ProcessProtocol for Noting {
    fn started(&mut self, _: &ProcessTransport) {
        self.note("started");
    }

    fn data_received(&mut self, process: &ProcessTransport, fd: RawFd, data: &[u8]) {
        (self.data)(process, fd, data);
        let text = String::from_utf8_lossy(data);
        let mut log = self.log.borrow_mut();
        match log
            .last_mut()
            .filter(|last| last.starts_with(&format!("{fd}: ")))
        {
            Some(last) => last.push_str(&text),
            None => log.push(format!("{fd}: {text}")),
        }
    }

    fn closed(&mut self, _: &ProcessTransport, fd: RawFd) {
        self.note(format!("closed {fd}"));
    }

    fn pause_writing(&mut self, _: &ProcessTransport, fd: RawFd) {
        self.note(format!("pause {fd}"));
    }

    fn resume_writing(&mut self, process: &ProcessTransport, fd: RawFd) {
        self.note(format!("resume {fd}"));
        (self.resume)(process, fd);
    }

    fn exited(&mut self, _: &ProcessTransport, status: Result<ExitStatus, ExitError>) {
        self.note(format!("exited {}", said(status)));
    }

    fn ended(&mut self, status: Result<ExitStatus, ExitError>) {
        self.note(format!("ended {}", said(status)));
        self.ended.take().expect("it comes once").settle(Ok(()));
    }
}

/// Sorts the entries that come in any order: the end of each fd, and the exit.
fn sorted(log: &Log, first: usize) -> Vec<String> {
    let mut entries = log.take();
    let last = entries.len() - 1;
    entries[first..last].sort();
    entries
}

#[test]
fn each_fd_is_told_apart_and_the_end_comes_last() {
    run(|handle| async move {
        let (protocol, log, ended) = Noting::new();
        // One after the other, because two pipes have no order between them.
        let protocol = protocol.on_data(|process, _, data| match data {
            b"one\n" | b"two\n" => drop(process.write(0, b"go on\n")),
            _ => process.close(0),
        });
        let script = "echo one; read x; echo two >&2; read x; echo three; cat; exit 7";
        let process = process::start(
            three(shell(script)).spawn(&handle).expect("it runs"),
            protocol,
        );
        assert_eq!(process.write(5, b"nobody"), Flow::Closed);
        ended.await.expect("its end");
        let expected = [
            "started",
            "1: one\n",
            "2: two\n",
            "1: three\n",
            "closed 0",
            "closed 1",
            "closed 2",
            "exited 7",
            "ended 7",
        ];
        assert_eq!(sorted(&log, 4), expected);
        assert!(process.is_over());
        assert_eq!(
            (process.write(0, b"late"), process.ask(|_| ())),
            (Flow::Closed, None)
        );
        process.close(1);
        process.pause_reading(1);
        process.resume_reading(1);
        assert!(process.kill().is_ok());
    });
}

#[test]
fn a_grandchild_that_holds_a_pipe_comes_after_the_exit_and_before_the_end() {
    run(|handle| async move {
        let (protocol, log, ended) = Noting::new();
        let command = shell("(read x; echo late) <&3 & echo early; exit 0");
        let (mut ours, theirs) = UnixStream::pair().expect("two sockets");
        let process = command
            .stdout(Io::Stream)
            .fd(3, Io::Fd(theirs.into()))
            .spawn(&handle)
            .expect("it runs");
        let exited = process.exited();
        process::start(process, protocol);
        exited.await.expect("its status");
        // Its output may arrive before or after the news of its exit.
        while log.borrow().len() < 3 {
            handle.sleep(Duration::from_millis(1)).await;
        }
        let mut before = log.take();
        before.sort();
        assert_eq!(before, ["1: early\n", "exited 0", "started"]);
        ours.write_all(b"now\n").expect("written");
        ended.await.expect("its end");
        assert_eq!(log.take(), ["1: late\n", "closed 1", "ended 0"]);
    });
}

#[test]
fn further_fds_carry_both_ways_or_one() {
    run(|handle| async move {
        let (protocol, log, ended) = Noting::new();
        let protocol = protocol.on_data(|process, fd, _| {
            if fd == 3 {
                process.write(3, b"a socket\n");
                process.write(4, b"a pipe\n");
                process.close(4);
            }
        });
        let script = "echo ready >&3; read x <&3; read y <&4; read z <&4 && exit 1; \
                      echo \"$x, $y\" >&5; cat <&6; ls /proc/self/fd >&5";
        let file = fs::File::open("/etc/hostname").expect("Debian has it");
        let command = shell(script)
            .fd(3, Io::Stream)
            .fd(4, Io::PipeIn)
            .fd(5, Io::PipeOut)
            .fd(6, Io::Fd(file.into()));
        let command = command.stdout(Io::Stream);
        process::start(command.spawn(&handle).expect("it runs"), protocol);
        ended.await.expect("its end");
        let log = log.take();
        let all = |fd: &str| {
            log.iter()
                .filter_map(|entry| entry.strip_prefix(fd))
                .collect::<String>()
        };
        assert_eq!(all("3: "), "ready\n");
        assert_eq!(
            all("1: "),
            fs::read_to_string("/etc/hostname").expect("Debian has it")
        );
        let said = all("5: ");
        let mut lines = said.lines();
        assert_eq!(lines.next(), Some("a socket, a pipe"));
        let open: Vec<_> = lines.collect();
        for number in ["0", "1", "2", "3", "4", "5", "6"] {
            assert!(open.contains(&number), "{number} is not among {open:?}");
        }
        assert_eq!(log.last().map(String::as_str), Some("ended 0"));
    });
}

#[test]
fn what_cannot_be_an_fd_of_a_child_is_refused() {
    run(|handle| async move {
        for number in [-1, 1_024] {
            let error = shell("true")
                .fd(number, Io::Stream)
                .spawn(&handle)
                .expect_err("no such number");
            assert!(error.to_string().contains("0 to 1023"), "{error}");
        }
        let error = shell("true")
            .fd(3, Io::Inherit)
            .fd(700, Io::Inherit)
            .spawn(&handle)
            .expect_err("not open");
        assert!(error.to_string().contains("Bad file descriptor"), "{error}");
        // The error is reported, whatever numbers the command's fds have.
        let mut command = Command::new("/nonexistent/program");
        for number in 3..40 {
            command = command.fd(number, Io::Stream);
        }
        let error = command.spawn(&handle).expect_err("there is none");
        assert!(error.to_string().contains("no such file"), "{error}");
    });
}

#[test]
fn a_child_that_does_not_read_holds_the_writer_who_is_told() {
    run(|handle| async move {
        let (mut protocol, log, ended) = Noting::new();
        let left = Rc::new(Cell::new(10_000_000_usize));
        let offer = move |process: &ProcessTransport| {
            while left.get() > 0 {
                let piece = left.get().min(10_000);
                let flow = process.write(0, &vec![b'x'; piece]);
                left.set(left.get() - piece);
                if flow != Flow::Open {
                    return left.get();
                }
            }
            process.close(0);
            0
        };
        let again = offer.clone();
        protocol.resume = Box::new(move |process, _| {
            again(process);
        });
        // It reads only when it is told to.
        let command = shell("read go <&3; wc -c")
            .stdin(Io::Stream)
            .stdout(Io::Stream)
            .fd(3, Io::PipeIn);
        let process = process::start(command.spawn(&handle).expect("it runs"), protocol);
        let waiting = offer(&process);
        assert!(
            waiting > 9_000_000,
            "{waiting} are left: that was too much for a buffer"
        );
        handle.sleep(Duration::from_millis(20)).await;
        let config = process.fd(0).expect("open").config();
        assert!(process.fd(0).expect("open").unsent() <= config.high_water + 10_000);
        process.write(3, b"go\n");
        ended.await.expect("its end");
        let log = log.take();
        assert!(
            log.iter().any(|entry| entry == "pause 0")
                && log.iter().any(|entry| entry == "1: 10000000\n"),
            "{log:?}"
        );
    });
}

#[test]
fn a_child_that_floods_waits_while_its_fd_is_paused_and_the_others_go_on() {
    run(|handle| async move {
        let (protocol, log, ended) = Noting::new();
        let counts = Rc::new(Cell::new((0_usize, 0_usize)));
        let counting = counts.clone();
        let protocol = protocol.on_data(move |process, fd, data| {
            let (flood, other) = counting.get();
            match fd {
                1 => {
                    counting.set((flood + data.len(), other));
                    process.pause_reading(1);
                }
                _ => counting.set((flood, other + data.len())),
            }
        });
        let script = "for i in 1 2 3 4 5 6 7 8 9 10; do echo $i >&2; sleep 0.01; done & \
                      head -c 5000000 /dev/zero; wait";
        let process = process::start(
            three(shell(script)).spawn(&handle).expect("it runs"),
            protocol,
        );
        while counts.get().1 < 21 {
            handle.sleep(Duration::from_millis(1)).await;
        }
        assert!(
            counts.get().0 <= 64 * 1024,
            "{} bytes came while it was paused",
            counts.get().0
        );
        while !process.is_over() {
            process.resume_reading(1);
            handle.sleep(Duration::ZERO).await;
        }
        ended.await.expect("its end");
        assert_eq!(counts.get(), (5_000_000, 21));
        assert_eq!(log.borrow().last().map(String::as_str), Some("ended 0"));
    });
}

#[test]
fn a_callback_that_spins_the_loop_is_not_entered_again_and_nothing_is_lost() {
    run(|handle| async move {
        let (protocol, log, ended) = Noting::new();
        let (noted, spinning, own) = (log.clone(), Cell::new(true), handle.clone());
        let protocol = protocol.on_data(move |process, _, _| {
            if spinning.take() {
                noted.borrow_mut().push("begin".to_owned());
                process.write(0, b"go on\n");
                own.wait(own.sleep(Duration::from_millis(50)))
                    .expect("it runs");
                noted.borrow_mut().push("end".to_owned());
            }
        });
        let command = three(shell(
            "echo first; read x; echo second; echo third >&2; exit 4",
        ));
        process::start(command.spawn(&handle).expect("it runs"), protocol);
        ended.await.expect("its end");
        let log = log.take();
        assert_eq!(log[..4], ["started", "begin", "end", "1: first\n"]);
        let mut rest = log[4..].to_vec();
        rest.sort();
        let expected = [
            "1: second\n",
            "2: third\n",
            "closed 0",
            "closed 1",
            "closed 2",
            "ended 4",
            "exited 4",
        ];
        assert_eq!(rest, expected);
        assert_eq!(log.last().map(String::as_str), Some("ended 4"));
    });
}

/// Panics in the callback of this name.
struct Panicking(&'static str, Rc<RefCell<Vec<&'static str>>>);

impl Panicking {
    fn called(&self, name: &'static str) {
        self.1.borrow_mut().push(name);
        assert_ne!(name, self.0, "in a callback");
    }
}

impl ProcessProtocol for Panicking {
    fn started(&mut self, _: &ProcessTransport) {
        self.called("started");
    }

    fn data_received(&mut self, _: &ProcessTransport, _: RawFd, _: &[u8]) {
        self.called("data");
    }

    fn exited(&mut self, _: &ProcessTransport, _: Result<ExitStatus, ExitError>) {
        self.called("exited");
    }

    fn ended(&mut self, _: Result<ExitStatus, ExitError>) {
        self.called("ended");
    }
}

#[test]
fn a_panic_ends_the_protocol_and_its_process_only() {
    for (number, callback) in ["started", "data", "exited", "ended"]
        .into_iter()
        .enumerate()
    {
        run(move |handle| async move {
            let calls = Rc::new(RefCell::new(Vec::new()));
            let last = if number < 2 { "cat" } else { "exit 0" };
            let command = three(shell(&format!("echo x; {last}"))).kill_on_drop(true);
            let process = command.spawn(&handle).expect("it runs");
            let exited = process.exited();
            let transport = process::start(process, Panicking(callback, calls.clone()));
            exited.await.expect("its status");
            while !transport.is_over() {
                handle.sleep(Duration::from_millis(1)).await;
            }
            handle.sleep(Duration::from_millis(5)).await;
            let calls = calls.take();
            assert_eq!(
                calls.iter().position(|call| *call == callback),
                Some(calls.len() - 1),
                "{calls:?}"
            );
        });
    }
}

#[test]
fn a_process_is_killed_and_all_is_dropped_from_inside() {
    run(|handle| async move {
        let (protocol, log, ended) = Noting::new();
        let protocol = protocol.on_data(|process, _, _| {
            process.kill().expect("it runs");
            process.close(0);
            process.close(1);
            process.close(2);
        });
        process::start(
            three(shell("echo x; exec cat"))
                .spawn(&handle)
                .expect("it runs"),
            protocol,
        );
        ended.await.expect("its end");
        let entries = sorted(&log, 2);
        assert_eq!(
            entries[2..],
            [
                "closed 0",
                "closed 1",
                "closed 2",
                "exited signal Some(9)",
                "ended signal Some(9)"
            ]
        );
    });
}

#[test]
fn the_end_of_a_run_is_the_end_of_what_it_follows() {
    let log = Log::default();
    let noted = log.clone();
    run(|handle| async move {
        let (mut protocol, _, _) = Noting::new();
        protocol.log = noted;
        let (came, data) = Deferred::<(), String>::new();
        let mut came = Some(came);
        let protocol = protocol.on_data(move |_, _, _| {
            if let Some(came) = came.take() {
                came.resolve(());
            }
        });
        process::start(
            three(shell("echo x; exec cat"))
                .kill_on_drop(true)
                .spawn(&handle)
                .expect("it runs"),
            protocol,
        );
        data.await.expect("a line");
    });
    let entries = sorted(&log, 2);
    assert_eq!(entries[..2], ["started", "1: x\n"]);
    assert_eq!(
        entries[2..],
        [
            "closed 0",
            "closed 1",
            "closed 2",
            "exited Stopped",
            "ended Stopped"
        ]
    );
}

/// The number of children of this thread.
fn children() -> usize {
    fs::read_to_string("/proc/thread-self/children")
        .expect("Linux")
        .split_whitespace()
        .count()
}

#[test]
fn many_of_them_leave_nothing_behind() {
    const NAME: &str = "on_linux::process_protocol::many_of_them_leave_nothing_behind";
    if std::env::var_os("ENTWINED_APART").is_none() {
        // In a process of its own, without the fds of other tests.
        let mut apart = std::process::Command::new(std::env::current_exe().expect("this program"));
        apart
            .args(["--exact", NAME, "--quiet"])
            .env("ENTWINED_APART", NAME);
        assert!(apart.status().expect("it starts").success());
        return;
    }
    run(|handle| async move {
        let fds = || fs::read_dir("/proc/self/fd").expect("Linux").count();
        handle.sleep(Duration::from_millis(1)).await;
        let (before, at_first) = (fds(), handle.metrics());
        for round in 0..10 {
            let missing = three(Command::new("/nonexistent/program")).fd(3, Io::Stream);
            missing
                .terminal(TerminalSize::default())
                .spawn(&handle)
                .expect_err("there is none");
            let all: Vec<_> = (0..20)
                .map(|_| {
                    let (protocol, _, ended) = Noting::new();
                    let command =
                        three(shell("read x <&3; echo $x; echo $x >&2")).fd(3, Io::Stream);
                    let command = if round % 2 == 0 {
                        command.terminal(TerminalSize::default())
                    } else {
                        command
                    };
                    process::start(command.spawn(&handle).expect("it runs"), protocol)
                        .write(3, b"x\n");
                    ended
                })
                .collect();
            for ended in all {
                ended.await.expect("its end");
            }
        }
        handle.sleep(Duration::from_millis(5)).await;
        let at_last = handle.metrics();
        assert_eq!((fds(), children()), (before, 0));
        assert_eq!(
            (at_last.sources, at_last.timers, at_last.tasks),
            (at_first.sources, at_first.timers, at_first.tasks)
        );
    });
}

async fn write(stream: &mut FdStream, bytes: &[u8]) {
    let count = poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, bytes))
        .await
        .expect("written");
    assert_eq!(count, bytes.len());
}

/// Reads until this text has arrived. Returns everything that was read.
async fn expect(handle: &Handle, stream: &mut FdStream, text: &str) -> String {
    let mut all = String::new();
    let reading = async {
        while !all.contains(text) {
            let mut buffer = [0; 1024];
            let count = poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buffer))
                .await
                .expect("no error");
            assert!(count > 0, "it ended after {all:?}");
            all.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    let late = handle
        .timeout(Duration::from_secs(10), reading)
        .await
        .is_err();
    assert!(!late, "{text:?} was not said: {all:?}");
    all
}

#[test]
fn a_terminal_is_the_controlling_one_of_its_child() {
    run(|handle| async move {
        let size = TerminalSize {
            columns: 100,
            rows: 30,
        };
        // The shell waits for a child when it hears of the new size. A signal during `read` would
        // end the loop.
        let script = "trap 'stty size; kill $!' WINCH; tty; stty size; \
                      test -t 2 && echo 'errors too'; ps -o tty= -p $$; echo ready; \
                      while read line; do echo \"got $line\"; done; \
                      sleep 60 & echo over; wait; exit 0";
        let mut process = shell(script)
            .terminal(size)
            .spawn(&handle)
            .expect("it runs");
        assert!(process.take_stdin().is_none());
        let mut terminal = process.take_terminal().expect("a terminal");
        assert!(process.take_terminal().is_none());
        let said = expect(&handle, &mut terminal, "ready").await;
        assert!(
            said.contains("/dev/pts/") && said.contains("30 100") && said.contains("errors too"),
            "{said:?}"
        );
        // `tty` and `ps` name the same one.
        let name = said.lines().next().expect("a line");
        let name = name.trim_start_matches("/dev/");
        assert_eq!(said.matches(name).count(), 2, "{said:?}");
        // The terminal echoes, and delivers whole lines.
        write(&mut terminal, b"hello\n").await;
        let said = expect(&handle, &mut terminal, "got hello").await;
        assert!(said.contains("hello\r\ngot hello"), "{said:?}");
        // The end of the input, then a new size, and the end of everything.
        write(&mut terminal, b"\x04").await;
        expect(&handle, &mut terminal, "over").await;
        terminal
            .set_terminal_size(TerminalSize {
                columns: 120,
                rows: 40,
            })
            .expect("a terminal");
        expect(&handle, &mut terminal, "40 120").await;
        let mut rest = [0; 64];
        while poll_fn(|cx| Pin::new(&mut terminal).poll_read(cx, &mut rest))
            .await
            .expect("the end is not an error")
            > 0
        {}
        assert!(process.exited().await.expect("its status").success());
    });
}

#[test]
fn ctrl_c_interrupts_and_dropping_a_terminal_hangs_up() {
    run(|handle| async move {
        for expected in [Signal::INT, Signal::HUP] {
            // The program does not read: a program that reads sees the end before the signal
            // arrives, and might exit by itself.
            let command = Command::new("sh").args(["-c", "echo ready; exec sleep 100"]);
            let mut process = command
                .terminal(TerminalSize::default())
                .spawn(&handle)
                .expect("sh");
            let mut terminal = process.take_terminal().expect("a terminal");
            expect(&handle, &mut terminal, "ready\r\n").await;
            if expected == Signal::INT {
                write(&mut terminal, b"\x03").await;
            } else {
                drop(terminal);
            }
            assert_eq!(
                process.exited().await.expect("its status").signal(),
                Some(expected.as_raw())
            );
        }
    });
}

#[test]
fn python_talks_on_a_terminal_and_its_errors_come_apart() {
    run(|handle| async move {
        let (protocol, log, ended) = Noting::new();
        let asked = Cell::new(true);
        let protocol = protocol.on_data(move |process, fd, data| {
            if fd == 0 && data.ends_with(b"your name? ") && asked.take() {
                process.write(0, b"Ada\n");
            }
        });
        let program = "import sys; print('your name? ', end='', flush=True); \
                       name = sys.stdin.readline().strip(); \
                       print('hello', name); print('no error', file=sys.stderr)";
        let command = Command::new("/usr/bin/python3").args(["-c", program]);
        let command = command.terminal(TerminalSize::default()).stderr(Io::Stream);
        process::start(
            command.spawn(&handle).expect("apt-get install python3"),
            protocol,
        );
        ended.await.expect("its end");
        let log = log.take();
        let all = |fd: &str| {
            log.iter()
                .filter_map(|entry| entry.strip_prefix(fd))
                .collect::<String>()
        };
        assert_eq!(all("0: "), "your name? Ada\r\nhello Ada\r\n");
        assert_eq!(all("2: "), "no error\n");
    });
}

#[test]
fn who_only_writes_hears_that_nobody_reads() {
    run(|handle| async move {
        let command = shell("read x; exec <&-; sleep 0.02; echo still here")
            .stdin(Io::Stream)
            .stdout(Io::Stream);
        let mut process = command.spawn(&handle).expect("it runs");
        let mut stdin = process.take_stdin().expect("a stream");
        let reading = poll_fn(|cx| Pin::new(&mut stdin).poll_read(cx, &mut [0; 1]));
        assert!(
            handle
                .timeout(Duration::from_millis(5), reading)
                .await
                .is_err(),
            "it reads still"
        );
        write(&mut stdin, b"go on\n").await;
        assert_eq!(
            poll_fn(|cx| Pin::new(&mut stdin).poll_read(cx, &mut [0; 1]))
                .await
                .expect("the end"),
            0
        );
        let mut stdout = process.take_stdout().expect("a stream");
        expect(&handle, &mut stdout, "still here").await;
    });
}

#[test]
fn a_socket_of_the_users_own_is_an_fd_too() {
    run(|handle| async move {
        let (mut ours, theirs) = UnixStream::pair().expect("two sockets");
        let process = shell("read x <&9; echo \"<$x>\" >&9")
            .fd(9, Io::Fd(theirs.into()))
            .spawn(&handle)
            .expect("it runs");
        ours.write_all(b"own\n").expect("written");
        assert!(process.exited().await.expect("its status").success());
        let mut answer = String::new();
        ours.read_to_string(&mut answer).expect("the end");
        assert_eq!(answer, "<own>\n");
    });
}

/// The process was borrowed meanwhile, so its end panicked, and the protocol never heard of it.
#[test]
fn a_question_to_a_process_may_spin_the_loop_until_its_end() {
    run(|handle| async move {
        let (protocol, log, ended) = Noting::new();
        // It does not end before it is asked.
        let command = three(shell("read x; exit 3"));
        let transport = process::start(command.spawn(&handle).expect("it runs"), protocol);
        let own = handle.clone();
        let (asked, answer) = Deferred::<(), String>::new();
        handle.call_soon(move || {
            let done = transport.ask(|process| {
                transport.write(0, b"go on\n");
                own.wait(ended).expect("it runs").expect("its end");
                process.id()
            });
            assert!(done.is_some());
            asked.resolve(());
        });
        answer.await.expect("an answer");
        assert_eq!(log.borrow().last().map(String::as_str), Some("ended 3"));
    });
}

/// Drops and notes.
struct Last(Rc<Cell<u32>>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Data that waited for a paused fd kept the protocol from its end, and for good.
#[test]
fn the_end_of_a_run_comes_though_data_waits_for_a_paused_fd() {
    let (log, dropped) = (Log::default(), Rc::<Cell<u32>>::default());
    let (noted, last) = (log.clone(), Last(dropped.clone()));
    run(|handle| async move {
        let (mut protocol, _, _) = Noting::new();
        protocol.log = noted;
        let (paused, data) = Deferred::<(), String>::new();
        let (mut paused, own) = (Some(paused), handle.clone());
        let mut kept = None;
        let protocol = protocol.on_data(move |process, _, _| {
            let _ = &last;
            // The protocol has a handle to itself.
            kept.get_or_insert_with(|| process.clone());
            if let Some(paused) = paused.take() {
                process.write(0, b"go on\n");
                // The other line comes while this callback is on the stack.
                own.wait(own.sleep(Duration::from_millis(100)))
                    .expect("it runs");
                process.pause_reading(2);
                paused.resolve(());
            }
        });
        let command = shell("echo first; read x; echo second >&2; exec cat");
        let process = three(command).kill_on_drop(true).spawn(&handle);
        process::start(process.expect("it runs"), protocol);
        data.await.expect("two lines");
    });
    assert_eq!(
        log.borrow().last().map(String::as_str),
        Some("ended Stopped")
    );
    assert_eq!(dropped.get(), 1);
}

/// It heard of an exit, and of its end, without having been started.
#[test]
fn a_reactor_that_goes_before_a_protocol_has_started_calls_it_in_order() {
    let reactor = entwined::Standalone::new().expect("a reactor");
    let (protocol, log, _ended) = Noting::new();
    let command = three(shell("exec cat")).kill_on_drop(true);
    process::start(command.spawn(&reactor.handle()).expect("it runs"), protocol);
    drop(reactor);
    let entries = log.take();
    assert_eq!(entries.first().map(String::as_str), Some("started"));
    assert_eq!(entries.last().map(String::as_str), Some("ended Stopped"));
}

/// Data that waited for it kept it from being closed, and the protocol from its end.
#[test]
fn an_fd_that_is_paused_and_closed_is_closed_though_data_waits_for_it() {
    run(|handle| async move {
        let (protocol, log, ended) = Noting::new();
        let own = handle.clone();
        let protocol = protocol.on_data(move |process, fd, _| {
            assert_eq!(fd, 1);
            process.write(0, b"go on\n");
            // The other line comes while this callback is on the stack.
            own.wait(own.sleep(Duration::from_millis(100)))
                .expect("it runs");
            process.pause_reading(2);
            process.close(2);
            process.close(0);
        });
        let command = shell("echo first; read x; echo second >&2; cat >/dev/null; exit 5");
        process::start(three(command).spawn(&handle).expect("it runs"), protocol);
        ended.await.expect("its end");
        let log = log.take();
        assert!(log.contains(&"closed 2".to_owned()), "{log:?}");
        assert_eq!(log.last().map(String::as_str), Some("ended 5"));
    });
}

/// Both had the number 0: the protocol ended with the first of them, and lost the rest.
#[test]
fn a_terminal_and_a_standard_input_of_its_own_come_apart() {
    run(|handle| async move {
        let (protocol, log, ended) = Noting::new();
        let command = shell("read x; echo \"$x\"; exit 6");
        let command = command.terminal(TerminalSize::default()).stdin(Io::Stream);
        let process = process::start(command.spawn(&handle).expect("it runs"), protocol);
        process.write(0, b"go\n");
        process.close(0);
        ended.await.expect("its end");
        let entries = sorted(&log, 1);
        let expected = ["1: go\r\n", "closed 0", "closed 1", "exited 6", "ended 6"];
        assert_eq!(entries[1..], expected);
    });
}
