//! Child processes that end when we end, for whatever reason.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// How long a process may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(3);

/// Returns a command for `program` that the kernel ends when we end, even by Ctrl-C or a kill.
///
/// With a processor number it runs on that processor only. Both tools come from util-linux, which
/// every Debian has. They replace themselves with `program`, so that the process has the expected
/// id.
pub fn tied(program: impl AsRef<std::ffi::OsStr>, processor: Option<usize>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]);
    if let Some(number) = processor {
        command.args(["taskset", "-c", &number.to_string()]);
    }
    command.arg(program);
    command
}

/// Runs a command to its end. A failure returns an error that names the command.
pub fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .map_err(|error| format!("cannot run {}: {error}", shown(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} failed: {status}", shown(command)).into())
    }
}

/// Runs a command to its end and returns its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", shown(command)))?;
    if output.status.success() {
        Ok(String::from_utf8(output.stdout)?)
    } else {
        Err(format!("{} failed: {}", shown(command), output.status).into())
    }
}

/// Returns the command as the user would type it.
pub fn shown(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// A process that ends when this is dropped.
pub struct Running {
    child: Child,
    line: String,
}

impl Running {
    pub fn start(command: &mut Command) -> Result<Self> {
        let line = shown(command);
        let child = command
            .spawn()
            .map_err(|error| format!("cannot run {line}: {error}"))?;
        Ok(Self { child, line })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns its exit status if it has ended.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Returns its standard input. It must be piped, and can be taken only once.
    pub fn input(&mut self) -> Result<ChildStdin> {
        Ok(self.child.stdin.take().ok_or("its input is not piped")?)
    }

    /// Returns the first line of its output that starts with `prefix`, without the prefix.
    ///
    /// The output must be piped, and can be taken only once; the returned reader continues after
    /// that line.
    pub fn line_after(&mut self, prefix: &str) -> Result<(String, impl BufRead + use<>)> {
        let output = self.child.stdout.take().ok_or("its output is not piped")?;
        let mut output = BufReader::new(output);
        let mut line = String::new();
        while output.read_line(&mut line)? > 0 {
            if let Some(rest) = line.strip_prefix(prefix) {
                return Ok((rest.trim_end().to_owned(), output));
            }
            line.clear();
        }
        let mut complaint = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            errors.read_to_string(&mut complaint)?;
        }
        Err(format!("{} ended too early\n{complaint}", self.line).into())
    }

    /// Returns its standard error. It must be piped, and can be taken only once.
    pub fn errors(&mut self) -> Result<ChildStderr> {
        Ok(self.child.stderr.take().ok_or("its errors are not piped")?)
    }

    /// Discards what it prints on a piped standard error, so that it never blocks on the pipe.
    pub fn ignore_errors(&mut self) {
        if let Some(mut errors) = self.child.stderr.take() {
            thread::spawn(move || io::copy(&mut errors, &mut io::sink()));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It is asked to end first: after a kill, which is all that std offers, an X server would
        // leave its lock file behind.
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let _ = Command::new("sh")
            .args(["-c", "kill -TERM \"$1\"", "sh", &self.id().to_string()])
            .status();
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
