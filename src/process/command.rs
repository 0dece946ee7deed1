//! What to run, and how.

use std::{
    error::Error,
    ffi::{OsStr, OsString},
    fmt, io,
    os::fd::RawFd,
    panic::Location,
    path::{Path, PathBuf},
    process,
    rc::Rc,
    sync::Arc,
};

use entwined_spawn::{Spawn, Terminal};

use super::{
    Process,
    child::Child,
    ends::{Io, OtherEnd, TERMINAL},
    exit::{Exit, ExitError},
    watch::Watch,
};
#[cfg(doc)]
use crate::transport::fd::FdStream;
use crate::{
    reactor::{Handle, Interest, Label, Origin, Registration},
    table::Table,
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
    die_with_parent: bool,
    leads_group: bool,
    /// The child's fds, by their numbers in the child.
    fds: Table<RawFd, Io>,
    terminal: Option<TerminalSize>,
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
            die_with_parent: false,
            leads_group: false,
            fds: Table::new(),
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
    /// # });
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
    #[must_use]
    pub fn terminal(mut self, size: TerminalSize) -> Self {
        self.terminal = Some(size);
        self
    }

    /// Sets whether the child is killed (SIGKILL) when the [`Process`] is dropped, and when the
    /// reactor's run ends, whoever keeps the [`Process`]. If the child leads a [process
    /// group](Command::process_group), the whole group is killed. The default is `false`.
    ///
    /// A program that is itself killed cannot do this; see
    /// [`die_with_parent`](Command::die_with_parent).
    #[must_use]
    pub fn kill_on_drop(mut self, kill: bool) -> Self {
        self.kill_on_drop = kill;
        self
    }

    /// Sets whether the system kills the child (SIGKILL) when this program dies, in whatever way.
    /// The default is `false`.
    ///
    /// On Linux the parent of a child is the thread that started it: the child is killed when that
    /// thread ends, even if the program goes on. What the child has started is not killed, and the
    /// setting is lost if the child changes its user (PR_SET_PDEATHSIG(2const)).
    #[must_use]
    pub fn die_with_parent(mut self, die: bool) -> Self {
        self.die_with_parent = die;
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
    /// The child has the fds that were set and no other: not even those that this process has
    /// itself inherited, such as the sockets of socket activation. All signals have their default
    /// effects in it, and none is blocked, whatever this thread ignores and blocks.
    ///
    /// # Errors
    /// [`SpawnError`] says which program could not be started and why. Nothing is left behind.
    #[track_caller]
    pub fn spawn(self, handle: &Handle) -> Result<Process, SpawnError> {
        let location = Location::caller();
        let (program, directory) = (self.program.clone(), self.directory.clone());
        self.start(handle, location).map_err(|source| SpawnError {
            program,
            missing_directory: directory.filter(|directory| !directory.is_dir()),
            source,
        })
    }

    fn start(self, handle: &Handle, location: &'static Location<'static>) -> io::Result<Process> {
        let leads_group = self.leads_group || self.terminal.is_some();
        let kill_on_drop = self.kill_on_drop;
        let (mut started, ends) = self.begin()?;
        let pid = started.id();
        let watched = Child::open(pid, leads_group).map_err(|error| {
            // The error of a sandbox says nothing about the program.
            io::Error::other(format!("its exit cannot be watched (pidfd_open): {error}"))
        });
        let watched = watched.and_then(|child| {
            let child =
                child.map(|child| Registration::new(handle, Arc::new(child), Interest::READABLE));
            Ok(child.transpose()?)
        });
        let watched = watched.inspect_err(|_| {
            // Its exit cannot be watched.
            let _ = started.kill();
            let _ = started.wait();
        })?;
        let exit = Rc::new(Exit::default());
        let process = Process {
            pid,
            child: watched.as_ref().map(|child| child.object().clone()),
            exit: exit.clone(),
            kill_on_drop,
            ends,
            handle: handle.clone(),
        };
        match watched {
            Some(child) => {
                let watch = Watch::new(child, exit, kill_on_drop);
                let label = Label::TASK;
                handle.spawn_detached(Origin { label, location }, watch.run());
            }
            None => exit.set(Err(ExitError::Reaped)),
        }
        Ok(process)
    }

    /// Starts the child. Also returns this side's ends of its fds, by number.
    fn begin(mut self) -> io::Result<(process::Child, Table<RawFd, OtherEnd>)> {
        let (mut spawn, mut ends) = (Spawn::new(self.command), Table::new());
        match self.terminal {
            Some(size) => {
                let terminal = Terminal::open(size.columns, size.rows)?;
                spawn = spawn.terminal(terminal.device);
                ends.insert(TERMINAL, OtherEnd::both(terminal.controller));
            }
            None => {
                for number in 0..3 {
                    if !self.fds.contains(&number) {
                        self.fds.insert(number, Io::Null);
                    }
                }
            }
        }
        for (number, io) in self.fds {
            let (theirs, end) = io.open(number)?;
            spawn = spawn.fd(number, theirs);
            if let Some(end) = end {
                ends.insert(number, end);
            }
        }
        if self.leads_group {
            spawn = spawn.process_group();
        }
        if self.die_with_parent {
            spawn = spawn.die_with_parent();
        }
        Ok((spawn.spawn()?, ends))
    }
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
