//! The attacker's side.

use std::{
    env, fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{Row, SLOWER, Victim};

/// How long the attacker waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What is attacked.
pub enum Target {
    /// A server at this address.
    Server(SocketAddr),
    /// A client that connects here.
    Client(TcpListener),
}

impl Target {
    /// A connection with the victim.
    pub fn connect(&self) -> TcpStream {
        let stream = match self {
            Target::Server(address) => TcpStream::connect(address).expect("a connection"),
            Target::Client(listener) => listener.accept().expect("a connection").0,
        };
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        stream.set_write_timeout(Some(PATIENCE)).expect("an option");
        stream
    }
}

/// Sends `bytes`; the victim may refuse them before they are all sent.
pub fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

/// Reads until the victim has closed the connection or sent `enough` bytes.
pub fn read(stream: &mut TcpStream, enough: usize) -> Vec<u8> {
    let (mut all, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    while all.len() < enough {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    all
}

/// Sends everything, half-closes, and reads meanwhile until the victim has closed the connection.
pub fn exchange(target: &Target, all: &[u8]) -> Vec<u8> {
    let mut reading = target.connect();
    let mut writing = reading.try_clone().expect("a copy");
    thread::scope(|scope| {
        scope.spawn(move || {
            send(&mut writing, all);
            let _ = writing.shutdown(Shutdown::Write);
        });
        read(&mut reading, usize::MAX)
    })
}

/// Sends a request and returns the first line of the answer.
pub fn ask(target: &Target, request: &[u8]) -> String {
    let mut stream = target.connect();
    send(&mut stream, request);
    let answer = read(&mut stream, 1);
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or(b"");
    String::from_utf8_lossy(line).into_owned()
}

/// What came of a row.
pub struct Outcome {
    pub answer: String,
    pub callback: Duration,
    /// What took the longest.
    pub origin: String,
    /// By how many KiB the victim's peak memory has grown.
    pub memory: u64,
    /// For how many clock ticks a hypervisor gave the processors to others meanwhile.
    pub steal: u64,
}

impl Outcome {
    /// Whether a callback that took too long is all that the row does not allow.
    pub fn is_only_slow(&self, row: &Row) -> bool {
        self.is_too_long(row) && self.faults(row).len() == 1
    }

    fn is_too_long(&self, row: &Row) -> bool {
        self.callback > row.max_callback * SLOWER
    }

    /// What the row does not allow.
    pub fn faults(&self, row: &Row) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.answer.starts_with(row.answer) {
            faults.push(format!(
                "the answer is not {:?}: {:?}",
                row.answer, self.answer
            ));
        }
        if self.is_too_long(row) {
            faults.push(format!(
                "a callback took {:?} (at most {:?}): {}",
                self.callback,
                row.max_callback * SLOWER,
                self.origin
            ));
        }
        if self.memory > row.max_memory {
            faults.push(format!(
                "memory grew by {} KiB (at most {})",
                self.memory, row.max_memory
            ));
        }
        faults
    }
}

/// Runs a row against a victim in a process of its own.
pub fn run(row: &Row) -> Outcome {
    let steal = crate::sys::steal();
    let mut command = Command::new(env::current_exe().expect("this program"));
    command
        .args(["--victim", row.name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let listener = match row.victim {
        Victim::Server(_) => None,
        Victim::Client(_) => Some(TcpListener::bind("127.0.0.1:0").expect("a port")),
    };
    if let Some(listener) = &listener {
        command.arg(listener.local_addr().expect("an address").to_string());
    }
    let mut child = command.spawn().expect("a child");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let address = line_after(&mut output, "ready ")
        .parse()
        .expect("an address");
    let before = Memory::of(&child);
    let client = listener.is_some();
    let target = listener.map_or(Target::Server(address), Target::Client);
    let mut answer = thread::scope(|scope| {
        let attack = || {
            // The victim comes first, so that its callbacks are not made longer by an attacker who
            // has used up a processor.
            crate::sys::give_way();
            (row.attack)(target)
        };
        scope.spawn(attack).join().expect("an answer")
    });
    if client {
        answer = line_after(&mut output, "answer ")
            .trim_matches('"')
            .to_owned();
    }
    let mut input = child.stdin.take().expect("a pipe");
    let _ = writeln!(input);
    let report = line_after(&mut output, "callback ");
    let (micros, origin) = report.split_once(' ').unwrap_or((&report, ""));
    let callback = micros.parse().map_or(Duration::MAX, Duration::from_micros);
    let memory = Memory::of(&child).grown_since(before);
    let origin = origin.to_owned();
    drop(input);
    child.kill().expect("a child");
    child.wait().expect("its end");
    Outcome {
        answer,
        callback,
        origin,
        memory,
        steal: crate::sys::steal().saturating_sub(steal),
    }
}

/// The rest of the next line that begins with `prefix`; empty if the victim is gone.
fn line_after(output: &mut BufReader<ChildStdout>, prefix: &str) -> String {
    let mut line = String::new();
    while output.read_line(&mut line).is_ok_and(|count| count > 0) {
        if let Some(rest) = line.strip_prefix(prefix) {
            return rest.trim_end().to_owned();
        }
        line.clear();
    }
    String::new()
}

/// A process's memory in KiB, as proc_pid_status(5) tells it; nothing if the process is gone.
struct Memory {
    /// `VmHWM`: the most that was ever in memory.
    peak: u64,
    /// `RssFile`: of its files, which is the program's code as far as it was run.
    files: u64,
}

impl Memory {
    fn of(child: &Child) -> Self {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            number.unwrap_or(0)
        };
        Self {
            peak: field("VmHWM:"),
            files: field("RssFile:"),
        }
    }

    /// By how much the peak has grown, without the code that has been run for the first time since:
    /// several MiB in a program that is not optimized.
    fn grown_since(&self, earlier: Self) -> u64 {
        let code = self.files.saturating_sub(earlier.files);
        self.peak.saturating_sub(earlier.peak).saturating_sub(code)
    }
}
