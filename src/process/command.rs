//! What to run, and how.

use std::{
    error::Error,
    ffi::{OsStr, OsString},
    fmt, io,
    panic::Location,
    path::{Path, PathBuf},
    process,
    rc::Rc,
    sync::Arc,
};

use super::{
    Process,
    exit::{Exit, ExitError},
    sys::{self, Exits, Extras, Io, Plan, Started},
    watch::Watch,
};
use crate::{
    reactor::{Handle, Label, Origin},
    table::Table,
};

/// A program to run as a child process, with its arguments and environment. Like
/// [`std::process::Command`], but the child belongs to a reactor.
#[derive(Debug)]
pub struct Command {
    pub(super) plan: Plan,
    program: OsString,
    directory: Option<PathBuf>,
}

impl Command {
    /// Creates a command that runs `program`: a path, or a name to find in `PATH`. By default it
    /// has no arguments, inherits this process's environment and working directory, and its
    /// standard streams are connected to nothing ([`Io::Null`]).
    ///
    /// On Windows, std's rules hold for how a program is found, how arguments are quoted, and for
    /// batch files: see [`std::process::Command`] and
    /// [`CommandExt`](https://doc.rust-lang.org/std/os/windows/process/trait.CommandExt.html).
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Command {
            plan: Plan {
                command: process::Command::new(&program),
                kill_on_drop: false,
                leads_group: false,
                streams: Table::new(),
                extras: Extras::default(),
            },
            program: program.as_ref().to_owned(),
            directory: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.plan.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.plan.command.args(arguments);
        self
    }

    /// Sets an environment variable of the child.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.plan.command.env(name, value);
        self
    }

    /// Starts the child with an empty environment. On Windows many programs need `SystemRoot`.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.plan.command.env_clear();
        self
    }

    /// Sets the child's working directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = Some(directory.as_ref().to_owned());
        self.plan.command.current_dir(directory);
        self
    }

    /// Sets the child's standard input.
    #[must_use]
    pub fn stdin(self, io: Io) -> Self {
        self.stream(0, io)
    }

    /// Sets the child's standard output.
    #[must_use]
    pub fn stdout(self, io: Io) -> Self {
        self.stream(1, io)
    }

    /// Sets the child's standard error.
    #[must_use]
    pub fn stderr(self, io: Io) -> Self {
        self.stream(2, io)
    }

    pub(super) fn stream(mut self, number: i32, io: Io) -> Self {
        self.plan.streams.insert(number, io);
        self
    }

    /// Sets whether the child is killed when the [`Process`] is dropped, and when the reactor's run
    /// ends, whoever keeps the [`Process`]. If the child leads a [process
    /// group](Command::process_group), the whole group is killed. The default is `false`.
    ///
    /// On Unix, a group whose leader has exited by itself is not killed: its number may then be
    /// that of others. On Windows it is.
    ///
    /// A program that is itself killed cannot do this; see `die_with_parent`, which Linux and
    /// Windows have. (On Windows, a group ends with the program in any case, if it is to be killed
    /// on drop.)
    #[must_use]
    pub fn kill_on_drop(mut self, kill: bool) -> Self {
        self.plan.kill_on_drop = kill;
        self
    }

    /// Makes the child the leader of a process group of its own: on Unix a process group, on
    /// Windows a job object. Everything that it starts is in it too, and can be
    /// [killed](Process::kill_group) with it. A Ctrl-C in this process's terminal does not reach
    /// it.
    ///
    /// On Unix a process can leave its group, as shells with job control and daemons do.
    #[must_use]
    pub fn process_group(mut self) -> Self {
        self.plan.leads_group = true;
        self
    }

    /// Starts the child. This blocks the thread for about a millisecond.
    ///
    /// On Unix the child has the fds that were set and no other: not even those that this process
    /// has itself inherited, such as the sockets of socket activation. All signals have their
    /// default effects in it, and none is blocked, whatever this thread ignores and blocks.
    ///
    /// On Windows the child has its standard streams, and no socket, file or pipe of this crate or
    /// of Rust's standard library. It also has the handles that other code of this program has made
    /// inheritable.
    ///
    /// # Errors
    /// [`SpawnError`] says which program could not be started and why. Nothing is left behind.
    #[track_caller]
    pub fn spawn(self, handle: &Handle) -> Result<Process, SpawnError> {
        let location = Location::caller();
        let (program, directory) = (self.program, self.directory);
        start(self.plan, handle, location).map_err(|source| SpawnError {
            program,
            missing_directory: directory
                .filter(|directory| directory.try_exists().is_ok_and(|exists| !exists)),
            source,
        })
    }
}

fn start(plan: Plan, handle: &Handle, location: &'static Location<'static>) -> io::Result<Process> {
    let kill_on_drop = plan.kill_on_drop;
    let Started { pid, child, ends } = sys::start(plan, handle)?;
    let child = child.map(Arc::new);
    let exit = Rc::new(Exit::default());
    match &child {
        Some(child) => {
            let exits = Exits::new(handle, child).map_err(|error| {
                child.kill_or_warn();
                child.wait();
                child.try_wait();
                io::Error::new(error.kind(), format!("its exit cannot be watched: {error}"))
            })?;
            let watch = Watch::new(handle, child.clone(), exits, exit.clone(), kill_on_drop);
            let label = Label::TASK;
            handle.spawn_detached(Origin { label, location }, watch.run());
        }
        None => exit.set(Err(ExitError::Reaped)),
    }
    Ok(Process {
        pid,
        child,
        exit,
        kill_on_drop,
        ends,
        handle: handle.clone(),
    })
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
            (None, io::ErrorKind::NotFound) if Path::new(&self.program).iter().count() > 1 => f
                .write_str(
                    "there is no such file, or the interpreter in its first line does not exist",
                ),
            (None, io::ErrorKind::NotFound) => {
                f.write_str("it is not in PATH; install it or give its full path")
            }
            (None, io::ErrorKind::NotADirectory) => f.write_str(
                "its working directory, or a part of the path to one of them, is not a folder",
            ),
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
