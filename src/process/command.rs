//! What to run, and how.

use std::{
    error::Error,
    ffi::{OsStr, OsString},
    fmt, io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    panic::Location,
    path::{Path, PathBuf},
    process::{self, Stdio},
    rc::Rc,
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags},
};

use super::{
    Process,
    exit::{Exit, ExitError, Watch},
};
use crate::reactor::{Handle, Interest, Kind, Origin, Watched};

/// A program to be run as a child process, with its arguments and surroundings: [`std::process::Command`], whose child belongs to a reactor.
#[derive(Debug)]
pub struct Command {
    command: process::Command,
    program: OsString,
    directory: Option<PathBuf>,
    kill_on_drop: bool,
    leads_group: bool,
}

/// What one of the three standard fds of a child is.
#[derive(Debug)]
#[non_exhaustive]
pub enum Io {
    /// `/dev/null`. So is what was not mentioned.
    Null,
    /// That of this process.
    Inherit,
    /// A pipe, whose other end is a stream here.
    Stream,
    /// This one: a file, a socket, a terminal.
    Fd(OwnedFd),
}

impl From<Io> for Stdio {
    fn from(io: Io) -> Self {
        match io {
            Io::Null => Stdio::null(),
            Io::Inherit => Stdio::inherit(),
            Io::Stream => Stdio::piped(),
            Io::Fd(fd) => fd.into(),
        }
    }
}

impl Command {
    /// Runs `program`, which is a path, or looked for in `PATH`. Without arguments, with this process's environment and folder, and with nothing
    /// for its input and output.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = process::Command::new(&program);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let program = program.as_ref().to_owned();
        Command { command, program, directory: None, kill_on_drop: false, leads_group: false }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Leaves it nothing of this process's environment.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.command.env_clear();
        self
    }

    /// The folder that it runs in.
    #[must_use]
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = Some(directory.as_ref().to_owned());
        self.command.current_dir(directory);
        self
    }

    /// Its standard input.
    #[must_use]
    pub fn stdin(mut self, io: Io) -> Self {
        self.command.stdin(io);
        self
    }

    /// Its standard output.
    #[must_use]
    pub fn stdout(mut self, io: Io) -> Self {
        self.command.stdout(io);
        self
    }

    /// Its standard error output.
    #[must_use]
    pub fn stderr(mut self, io: Io) -> Self {
        self.command.stderr(io);
        self
    }

    /// Kills it (SIGKILL) when the [`Process`] is dropped, and with it all that it has started if it leads a [group](Command::process_group).
    #[must_use]
    pub fn kill_on_drop(mut self) -> Self {
        self.kill_on_drop = true;
        self
    }

    /// Makes it the leader of a process group of its own, so that signals can be [sent](Process::signal_group) to all that it starts, and those of this
    /// process's terminal (Ctrl-C) do not reach it.
    #[must_use]
    pub fn process_group(mut self) -> Self {
        self.command.process_group(0);
        self.leads_group = true;
        self
    }

    /// Starts it. That takes the thread for about a millisecond.
    ///
    /// # Errors
    /// [`SpawnError`] names the program and what is wrong; nothing is left behind then.
    #[track_caller]
    pub fn spawn(mut self, handle: &Handle) -> Result<Process, SpawnError> {
        let location = Location::caller();
        let mut child = match self.command.spawn() {
            Ok(child) => child,
            Err(source) => return Err(self.error(source)),
        };
        let pidfd = match pidfd(&child) {
            Ok(pidfd) => Some(Rc::new(pidfd)),
            // It has exited, and somebody else has reaped it.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => None,
            Err(source) => return Err(self.give_up(child, source)),
        };
        let watched = pidfd.clone().map(|pidfd| Watched::new(handle, pidfd, Interest::READABLE)).transpose();
        let watched = match watched {
            Ok(watched) => watched,
            Err(refused) => return Err(self.give_up(child, refused.error)),
        };
        let exit = Rc::new(Exit::default());
        let process = Process {
            pid: child.id(),
            pidfd,
            exit: exit.clone(),
            leads_group: self.leads_group,
            kill_on_drop: self.kill_on_drop,
            stdin: child.stdin.take().map(OwnedFd::from),
            stdout: child.stdout.take().map(OwnedFd::from),
            stderr: child.stderr.take().map(OwnedFd::from),
            handle: handle.clone(),
        };
        match watched {
            Some(watched) => {
                let watch = Watch::new(child, watched, exit);
                handle.core().spawn_detached(watch.run(), Origin { kind: Kind::Task, location });
            }
            None => exit.set(Err(ExitError::Reaped)),
        }
        Ok(process)
    }

    /// It has only just begun, and nobody could hear of its end.
    fn give_up(self, mut child: process::Child, source: io::Error) -> SpawnError {
        let _ = child.kill();
        let _ = child.wait();
        self.error(source)
    }

    fn error(self, source: io::Error) -> SpawnError {
        let missing = self.directory.filter(|directory| !directory.is_dir());
        SpawnError { program: self.program, missing_directory: missing, source }
    }
}

fn pidfd(child: &process::Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Why a program cannot be started.
#[derive(Debug)]
pub struct SpawnError {
    /// Which program.
    pub program: OsString,
    /// The folder that it was to run in, if that is not there.
    pub missing_directory: Option<PathBuf>,
    /// As the system says it.
    pub source: io::Error,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot run {}: ", Path::new(&self.program).display())?;
        match (&self.missing_directory, self.source.kind()) {
            (Some(directory), _) => write!(f, "the folder {} is not there", directory.display()),
            (None, io::ErrorKind::NotFound) if self.program.as_encoded_bytes().contains(&b'/') => {
                f.write_str("there is no such file, or not the interpreter that its first line names")
            }
            (None, io::ErrorKind::NotFound) => {
                f.write_str("no folder in PATH has it; install it, or give its whole path")
            }
            (None, io::ErrorKind::PermissionDenied) => f.write_str("it is not executable, or this user may not run it"),
            (None, _) => self.source.fmt(f),
        }
    }
}

impl Error for SpawnError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}
