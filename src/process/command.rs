//! What to run, and how.

use std::{
    collections::BTreeMap,
    error::Error,
    ffi::{OsStr, OsString},
    fmt,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd, RawFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    panic::Location,
    path::{Path, PathBuf},
    process::{self, Stdio},
    rc::Rc,
    sync::{PoisonError, RwLock},
};

use command_fds::{CommandFdExt, FdMapping};
use rustix::{
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, PidfdGetfdFlags},
};

use super::{
    Process,
    exit::{Exit, ExitError, Watch},
};
#[cfg(doc)]
use crate::transport::fd::FdStream;
use crate::{
    reactor::{Handle, Interest, Label, Origin, Watched},
    transport::fd::TerminalSize,
};

/// A program to run as a child process, with its arguments and environment. Like
/// [`std::process::Command`], but the child belongs to a reactor.
#[derive(Debug)]
pub struct Command {
    command: process::Command,
    program: OsString,
    directory: Option<PathBuf>,
    kill_on_drop: bool,
    leads_group: bool,
    /// The child's fds, by their numbers in the child.
    fds: BTreeMap<RawFd, Io>,
    terminal: Option<TerminalSize>,
}

/// What an fd of a child is connected to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Io {
    /// `/dev/null`. This is the default of the three standard fds.
    Null,
    /// This process's fd of the same number.
    Inherit,
    /// A stream on this side. The standard fds get a pipe in their usual direction; other fds get a
    /// socket for both directions.
    Stream,
    /// A pipe that the child reads. This side writes to it through a stream.
    PipeIn,
    /// A pipe that the child writes to. This side reads it through a stream.
    PipeOut,
    /// This fd: a file, a socket or a terminal.
    Fd(OwnedFd),
}

/// This side's end of a child's fd.
#[derive(Debug)]
pub(super) struct OtherEnd {
    pub(super) fd: OwnedFd,
    /// Whether the child writes to it (`output`) and reads from it (`input`).
    pub(super) output: bool,
    pub(super) input: bool,
}

impl Io {
    /// Opens the child's end, and this side's end if there is a stream.
    fn open(self, number: RawFd) -> io::Result<(OwnedFd, Option<OtherEnd>)> {
        let pipe = |output: bool| {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            let (theirs, fd) = if output {
                (writer, reader)
            } else {
                (reader, writer)
            };
            Ok((
                theirs,
                Some(OtherEnd {
                    fd,
                    output,
                    input: !output,
                }),
            ))
        };
        match (self, number) {
            (Io::Stream, 0) | (Io::PipeIn, _) => pipe(false),
            (Io::Stream, 1 | 2) | (Io::PipeOut, _) => pipe(true),
            (Io::Stream, _) => {
                let (theirs, ours) = UnixStream::pair()?;
                Ok((
                    theirs.into(),
                    Some(OtherEnd {
                        fd: ours.into(),
                        output: true,
                        input: true,
                    }),
                ))
            }
            (Io::Null, _) => Ok((
                File::options()
                    .read(true)
                    .write(true)
                    .open("/dev/null")?
                    .into(),
                None,
            )),
            (Io::Inherit, number) => Ok((inherited(number)?, None)),
            (Io::Fd(fd), _) => Ok((fd, None)),
        }
    }
}

/// Duplicates an fd of this process.
fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    let other = || {
        let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
        Ok(rustix::process::pidfd_getfd(
            own,
            number,
            PidfdGetfdFlags::empty(),
        )?)
    };
    let fd = match number {
        0 => io::stdin().as_fd().try_clone_to_owned(),
        1 => io::stdout().as_fd().try_clone_to_owned(),
        2 => io::stderr().as_fd().try_clone_to_owned(),
        _ => other(),
    };
    fd.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot inherit file descriptor {number} of this process: {error}"),
        )
    })
}

impl Command {
    /// Creates a command that runs `program`: a path, or a name to find in `PATH`. By default it
    /// has no arguments, inherits this process's environment and working directory, and its
    /// standard fds are `/dev/null`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Command {
            command: process::Command::new(&program),
            program: program.as_ref().to_owned(),
            directory: None,
            kill_on_drop: false,
            leads_group: false,
            fds: BTreeMap::new(),
            terminal: None,
        }
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

    /// Sets an environment variable of the child.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts the child with an empty environment.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.command.env_clear();
        self
    }

    /// Sets the child's working directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = Some(directory.as_ref().to_owned());
        self.command.current_dir(directory);
        self
    }

    /// Sets the child's standard input.
    #[must_use]
    pub fn stdin(self, io: Io) -> Self {
        self.fd(0, io)
    }

    /// Sets the child's standard output.
    #[must_use]
    pub fn stdout(self, io: Io) -> Self {
        self.fd(1, io)
    }

    /// Sets the child's standard error.
    #[must_use]
    pub fn stderr(self, io: Io) -> Self {
        self.fd(2, io)
    }

    /// Sets the child's fd with this number, 0 to 1,023. Fds that are not set are closed in the
    /// child, except the three standard ones.
    ///
    /// ```
    /// # use std::{future::poll_fn, pin::Pin};
    /// # use entwined::{Standalone, process::{Command, Io}};
    /// # use futures_io::AsyncRead;
    /// # let reactor = Standalone::new()?;
    /// # let handle = reactor.handle();
    /// let command = Command::new("sh").args(["-c", "echo status >&3"]).fd(3, Io::PipeOut);
    /// let mut status = command.spawn(&handle)?.take_fd(3).expect("a stream");
    /// # handle.clone().spawn(async move {
    /// #     let mut buffer = [0; 64];
    /// #     let count = poll_fn(|cx| Pin::new(&mut status).poll_read(cx, &mut buffer))
    /// #         .await
    /// #         .expect("bytes");
    /// #     assert_eq!(&buffer[..count], b"status\n");
    /// #     handle.stop();
    /// # }).detach();
    /// # reactor.run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn fd(mut self, number: RawFd, io: Io) -> Self {
        self.fds.insert(number, io);
        self
    }

    /// Runs the child on a new terminal of this size. The terminal is the child's controlling
    /// terminal: the child leads a session and a [process group](Command::process_group) of its
    /// own, Ctrl-C (byte 3) interrupts it, and it is notified of a [new
    /// size](FdStream::set_terminal_size). The terminal is also its standard input, output and
    /// error, except for those that are set. On this side the terminal is a stream; see
    /// [`Process::take_terminal`].
    ///
    /// If another thread starts a child by other means at the same moment, that child may inherit
    /// the terminal and keep it open.
    #[must_use]
    pub fn terminal(mut self, size: TerminalSize) -> Self {
        self.terminal = Some(size);
        self
    }

    /// Kills the child (SIGKILL) when the [`Process`] is dropped. If the child leads a [process
    /// group](Command::process_group), the whole group is killed.
    #[must_use]
    pub fn kill_on_drop(mut self) -> Self {
        self.kill_on_drop = true;
        self
    }

    /// Makes the child the leader of a process group of its own. Signals can then be
    /// [sent](Process::signal_group) to everything that it starts, and signals of this process's
    /// terminal (Ctrl-C) do not reach it.
    #[must_use]
    pub fn process_group(mut self) -> Self {
        self.leads_group = true;
        self
    }

    /// Starts the child. This blocks the thread for about a millisecond.
    ///
    /// # Errors
    /// [`SpawnError`] says which program could not be started and why. Nothing is left behind.
    #[track_caller]
    pub fn spawn(mut self, handle: &Handle) -> Result<Process, SpawnError> {
        let location = Location::caller();
        let (child, ends) = match self.begin() {
            Ok(begun) => begun,
            Err(source) => return Err(self.error(source)),
        };
        let pidfd = match pidfd(&child) {
            Ok(pidfd) => Some(Rc::new(pidfd)),
            // The child has exited, and other code has reaped it.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => None,
            Err(source) => return Err(self.give_up(child, source)),
        };
        let watched = pidfd
            .clone()
            .map(|pidfd| Watched::new(handle, pidfd, Interest::READABLE))
            .transpose();
        let watched = match watched {
            Ok(watched) => watched,
            Err(refused) => return Err(self.give_up(child, refused.error)),
        };
        let exit = Rc::new(Exit::default());
        let process = Process {
            pid: child.id(),
            pidfd,
            exit: exit.clone(),
            leads_group: self.leads_group || self.terminal.is_some(),
            kill_on_drop: self.kill_on_drop,
            ends,
            handle: handle.clone(),
        };
        match watched {
            Some(watched) => {
                let watch = Watch::new(child, watched, exit);
                let label = Label::TASK;
                handle.spawn_detached(Origin { label, location }, watch.run());
            }
            None => exit.set(Err(ExitError::Reaped)),
        }
        Ok(process)
    }

    /// Starts the child. Also returns this side's ends of its fds, by number.
    fn begin(&mut self) -> io::Result<(process::Child, BTreeMap<RawFd, OtherEnd>)> {
        let mut command = std::mem::replace(&mut self.command, process::Command::new(""));
        let (mut ends, mut mappings, mut held) = (BTreeMap::new(), Vec::new(), Vec::new());
        for number in [0, 1, 2].into_iter().filter(|_| self.terminal.is_none()) {
            self.fds.entry(number).or_insert(Io::Null);
        }
        let mut standard = [None, None, None];
        for (number, io) in std::mem::take(&mut self.fds) {
            if !(0..MOST_FDS).contains(&number) {
                let message = format!(
                    "a child cannot have the file descriptor {number}: use 0 to {}",
                    MOST_FDS - 1
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            let (theirs, other) = io.open(number)?;
            if let Some(other) = other {
                ends.insert(number, other);
            }
            match standard.get_mut(number as usize) {
                Some(place) => *place = Some(theirs),
                None => {
                    // Holding this fd number keeps std's exec-error pipe from being given it.
                    held.push(rustix::io::fcntl_dupfd_cloexec(&theirs, number)?);
                    mappings.push(FdMapping {
                        parent_fd: theirs,
                        child_fd: number,
                    });
                }
            }
        }
        if !mappings.is_empty() {
            command
                .fd_mappings(mappings)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        }
        let child = match self.terminal {
            Some(size) => {
                let (child, terminal) = on_terminal(command, standard, size)?;
                ends.insert(
                    TERMINAL,
                    OtherEnd {
                        fd: terminal,
                        output: true,
                        input: true,
                    },
                );
                child
            }
            None => {
                if self.leads_group {
                    command.process_group(0);
                }
                let _others = SPAWNING.read();
                let [stdin, stdout, stderr] =
                    standard.map(|fd| fd.map_or_else(Stdio::null, Stdio::from));
                command.stdin(stdin).stdout(stdout).stderr(stderr).spawn()?
            }
        };
        Ok((child, ends))
    }

    /// Kills and reaps a child that has just started, because its exit could not be watched.
    fn give_up(self, mut child: process::Child, source: io::Error) -> SpawnError {
        let _ = child.kill();
        let _ = child.wait();
        self.error(source)
    }

    fn error(self, source: io::Error) -> SpawnError {
        let missing = self.directory.filter(|directory| !directory.is_dir());
        SpawnError {
            program: self.program,
            missing_directory: missing,
            source,
        }
    }
}

/// The key of a child's terminal among the ends. It is not an fd number.
pub(super) const TERMINAL: RawFd = -1;

/// Limit for a child's fd numbers: the usual RLIMIT_NOFILE of a process.
const MOST_FDS: RawFd = 1_024;

/// Held while this module starts a child.
static SPAWNING: RwLock<()> = RwLock::new(());

fn on_terminal(
    command: process::Command,
    standard: [Option<OwnedFd>; 3],
    size: TerminalSize,
) -> io::Result<(process::Child, OwnedFd)> {
    let failed = |error: pty_process::Error| match error {
        pty_process::Error::Io(error) => error,
        pty_process::Error::Rustix(error) => error.into(),
    };
    // For a moment the new fds are not close-on-exec. Another child that inherited them would keep
    // the terminal open.
    let alone = SPAWNING.write().unwrap_or_else(PoisonError::into_inner);
    let (terminal, theirs) = pty_process::blocking::open().map_err(failed)?;
    drop(alone);
    let _others = SPAWNING.read();
    terminal
        .resize(pty_process::Size::new(size.rows, size.columns))
        .map_err(failed)?;
    let mut command = pty_process::blocking::Command::from(command);
    let [stdin, stdout, stderr] = standard;
    if let Some(fd) = stdin {
        command = command.stdin(fd);
    }
    if let Some(fd) = stdout {
        command = command.stdout(fd);
    }
    if let Some(fd) = stderr {
        command = command.stderr(fd);
    }
    Ok((command.spawn(theirs).map_err(failed)?, terminal.into()))
}

fn pidfd(child: &process::Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Why a program could not be started.
#[derive(Debug)]
pub struct SpawnError {
    /// The program.
    pub program: OsString,
    /// The working directory, if it does not exist.
    pub missing_directory: Option<PathBuf>,
    /// The error from the operating system.
    pub source: io::Error,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot run {}: ", Path::new(&self.program).display())?;
        match (&self.missing_directory, self.source.kind()) {
            (Some(directory), _) => write!(f, "the folder {} does not exist", directory.display()),
            (None, io::ErrorKind::NotFound) if self.program.as_encoded_bytes().contains(&b'/') => f
                .write_str(
                    "there is no such file, or the interpreter in its first line does not exist",
                ),
            (None, io::ErrorKind::NotFound) => {
                f.write_str("it is not in PATH; install it or give its full path")
            }
            (None, io::ErrorKind::PermissionDenied) => {
                f.write_str("it is not executable, or this user may not run it")
            }
            (None, _) => self.source.fmt(f),
        }
    }
}

impl Error for SpawnError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}
