//! The app as a process, and clients of it.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_standalone");

/// How long anything may take that should happen at once. Only a failing test waits this long.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A running app; it ends with the test.
pub struct App {
    process: Child,
    pub address: SocketAddr,
    folder: PathBuf,
}

impl App {
    pub fn start() -> Self {
        Self::run(Command::new(PROGRAM), folder())
    }

    /// Starts the app with at most this many file descriptors.
    pub fn limited_to(descriptors: usize) -> Self {
        let mut command = tool("prlimit", "util-linux");
        command
            .arg(format!("--nofile={descriptors}:{descriptors}"))
            .arg(PROGRAM);
        Self::run(command, folder())
    }

    /// Starts the app under strace with these arguments; see [`trace`](App::trace).
    pub fn traced<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Self {
        let folder = folder();
        let mut command = tool("strace", "strace");
        // strace runs as a grandchild, so that our child is the app itself.
        command
            .args(["-D", "-f", "-qq", "-o"])
            .arg(folder.join("trace"))
            .args(arguments)
            .arg(PROGRAM);
        Self::run(command, folder)
    }

    /// Starts the app with failing system calls: `injection` is in strace's syntax, such as
    /// `accept4:error=EMFILE:when=1..8`.
    pub fn injected(injection: &str) -> Self {
        let calls = injection.split(':').next().expect("a set of system calls");
        Self::traced([format!("--trace={calls}"), format!("--inject={injection}")])
    }

    /// The app is killed at the end, so its temporary files go into our folder, which is deleted.
    fn run(mut command: Command, folder: PathBuf) -> Self {
        command
            .args(["--http", "127.0.0.1:0", "--seconds", "120"])
            .env("TMPDIR", &folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("its first line");
        let address = line
            .trim_end()
            .strip_prefix("http listening on ")
            .and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("{command:?} ended, or said {line:?}"));
        App {
            process,
            address,
            folder,
        }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns what strace has written so far.
    pub fn trace(&self) -> String {
        fs::read_to_string(self.folder.join("trace")).expect("a traced app")
    }

    pub fn is_alive(&mut self) -> bool {
        self.process.try_wait().expect("it is our child").is_none()
    }

    /// Returns the processor time that the app has used.
    pub fn processor_time(&self) -> Duration {
        let ticks: u64 = self.stat()[11..13]
            .iter()
            .map(|field| field.parse::<u64>().expect("a number"))
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// Returns whether its first thread waits inside a system call. While strace looks at the
    /// thread, it is stopped instead.
    pub fn is_asleep(&self) -> bool {
        self.stat()[0] == "S"
    }

    /// Returns the fields of its stat from the third on, proc(5). Before them is the name in
    /// parentheses, which may contain spaces.
    fn stat(&self) -> Vec<String> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("it lives");
        stat.rsplit(") ")
            .next()
            .expect("fields")
            .split(' ')
            .map(str::to_owned)
            .collect()
    }

    pub fn threads(&self) -> u32 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it lives");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Threads:"))
            .expect("a number of threads");
        line.trim().parse().expect("a number")
    }

    pub fn connect(&self) -> Client {
        let stream = TcpStream::connect_timeout(&self.address, LIMIT).expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("an option");
        stream.set_write_timeout(Some(LIMIT)).expect("an option");
        stream.set_nodelay(true).expect("an option");
        Client { stream }
    }

    /// Checks that a new client is answered, whatever happened before.
    #[track_caller]
    pub fn serves(&mut self) {
        let outcome = self.connect().hello();
        assert_eq!(outcome, Outcome::Answered, "a fresh client");
        assert!(self.is_alive());
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Creates a folder for one app.
fn folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "app-{}-{}",
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::Relaxed)
    );
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn tool(name: &str, package: &str) -> Command {
    let found = Command::new(name)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(
        found.is_ok_and(|status| status.success()),
        "these tests need {name}: apt-get install {package} (`cargo xtask test` does it)"
    );
    Command::new(name)
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered,
    /// The connection was closed without an answer.
    Ended,
    /// Nothing happened.
    Hangs,
}

pub struct Client {
    pub stream: TcpStream,
}

impl Client {
    pub fn hello(&mut self) -> Outcome {
        self.ask();
        self.outcome()
    }

    /// Sends a request. The server may already have closed the connection.
    pub fn ask(&mut self) {
        let _ = self
            .stream
            .write_all(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n");
    }

    pub fn outcome(&mut self) -> Outcome {
        let mut said = Vec::new();
        let mut buffer = [0; 1024];
        let start = Instant::now();
        while !said.ends_with(b"hello, world") {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Outcome::Ended,
                Ok(count) => said.extend_from_slice(&buffer[..count]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Outcome::Hangs;
                }
                Err(_) => return Outcome::Ended,
            }
            assert!(start.elapsed() < LIMIT, "an answer that does not end");
        }
        assert!(
            said.starts_with(b"HTTP/1.1 200 OK\r\n"),
            "{}",
            String::from_utf8_lossy(&said)
        );
        Outcome::Answered
    }
}
