//! Unix: file descriptors, process groups, sessions and signals.

#[cfg(target_os = "linux")]
mod linux;
mod sys;
mod terminal;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    process::{Child, Command},
    sync::Arc,
};

use rustix::io::{Errno, fcntl_dupfd_cloexec};

#[cfg(target_os = "linux")]
pub use self::linux::{pass_fds, take_sigpipe};
use self::sys::{Group, Place, Plan};
pub use self::terminal::Terminal;

/// The limit for fd numbers in a child: the usual RLIMIT_NOFILE of a process. Numbers are 0 to
/// `MAX_FDS - 1`.
pub const MAX_FDS: RawFd = 1_024;

/// A command with what its child gets apart from arguments, environment and working directory.
#[derive(Debug)]
pub struct Spawn {
    command: Command,
    /// The child's fds, by their numbers in the child.
    fds: BTreeMap<RawFd, OwnedFd>,
    group: Group,
    terminal: Option<OwnedFd>,
    dies_with_parent: bool,
}

impl Spawn {
    /// Wraps a command. Standard fds that are set in it stay, unless they are set here too.
    pub fn new(command: Command) -> Self {
        Spawn {
            command,
            fds: BTreeMap::new(),
            group: Group::Inherited,
            terminal: None,
            dies_with_parent: false,
        }
    }

    /// Gives an fd to the child, under this number: 0 to [`MAX_FDS`]` - 1`. The last fd of a number
    /// counts.
    #[must_use]
    pub fn fd(mut self, number: RawFd, fd: impl Into<OwnedFd>) -> Self {
        self.fds.insert(number, fd.into());
        self
    }

    /// Makes the child the leader of a process group of its own.
    #[must_use]
    pub fn process_group(mut self) -> Self {
        if self.group == Group::Inherited {
            self.group = Group::Own;
        }
        self
    }

    /// Makes the child the leader of a session of its own, and so of a process group. It has no
    /// controlling terminal unless it is given [one](Spawn::terminal).
    #[must_use]
    pub fn session(mut self) -> Self {
        self.group = Group::Session;
        self
    }

    /// Makes this terminal the controlling terminal of the child, which leads a session of its own.
    /// The terminal must not be that of another session. It is also the child's standard input,
    /// output and error, except for those that are set with [`fd`](Spawn::fd).
    #[must_use]
    pub fn terminal(mut self, device: OwnedFd) -> Self {
        self.terminal = Some(device);
        self.session()
    }

    /// Starts the child.
    ///
    /// All other fds of this process are closed in the child. Its signals have their default
    /// effects, and none is blocked. (A program under nohup(1) starts children that SIGHUP ends.)
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if a number is out of range; otherwise the
    /// operating system's error, also if the program cannot be executed. Nothing is left behind.
    pub fn spawn(mut self) -> io::Result<Child> {
        if let Some(device) = &self.terminal {
            for number in 0..3 {
                if let Entry::Vacant(vacant) = self.fds.entry(number) {
                    vacant.insert(device.try_clone()?);
                }
            }
        }
        let numbers: BTreeSet<RawFd> = self.fds.keys().copied().collect();
        if let Some(number) = numbers
            .iter()
            .find(|number| !(0..MAX_FDS).contains(*number))
        {
            let message = format!(
                "a child cannot have the file descriptor {number}: use 0 to {}",
                MAX_FDS - 1
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let plan = Arc::new(Plan {
            fds: place(self.fds, &numbers)?,
            group: self.group,
            terminal: self.terminal,
            parent: self.dies_with_parent.then(rustix::process::getpid),
            highest: sys::highest_fd(),
        });
        sys::before_exec(&mut self.command, plan.clone());
        let mut tries = 0;
        loop {
            let _held = hold(&plan)?;
            // Until the child has reset its signal handlers, none of this process's may run in it.
            let _blocked = sys::Blocked::all();
            tries += 1;
            match self.command.spawn() {
                Err(error) if error.raw_os_error() == Some(sys::TAKEN) && tries < MOST_TRIES => {}
                result => return result,
            }
        }
    }
}

/// How often a child is started whose numbers were taken. Each time another thread has to open
/// something at that very moment; the file system of another program can say so without end.
const MOST_TRIES: u32 = 100;

/// Opens a pipe, close-on-exec: the end to read from, and the end to write to.
///
/// # Errors
/// The operating system's error if there are no fds left.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    sys::pipe()
}

/// Duplicates an fd of this process by its number, close-on-exec.
///
/// # Errors
/// The operating system's error if there is no such fd, or none is left.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    sys::duplicate(number)
}

/// Moves the child's fds to numbers that are none of the child's, so that the child can put each in
/// its place without overwriting another.
fn place(fds: BTreeMap<RawFd, OwnedFd>, numbers: &BTreeSet<RawFd>) -> io::Result<Vec<Place>> {
    let above = numbers.last().map_or(0, |number| number + 1);
    let mut unfit = Vec::new();
    let mut places = Vec::new();
    for (number, fd) in fds {
        let fd = match fcntl_dupfd_cloexec(&fd, above) {
            // Numbers so high are over the limit of this process.
            Err(Errno::INVAL | Errno::MFILE) => loop {
                let copy = fcntl_dupfd_cloexec(&fd, 0)?;
                if !numbers.contains(&copy.as_raw_fd()) {
                    break copy;
                }
                unfit.push(copy);
            },
            copy => copy?,
        };
        places.push(Place::new(fd, number));
    }
    Ok(places)
}

/// Holds the child's numbers in this process, so that std's pipe for the child's error (it cannot
/// execute the program) is not given one of them: the child would overwrite it. A number that
/// something else holds may become free at any time, so the child [checks](Place::note) it.
fn hold(plan: &Plan) -> io::Result<Vec<OwnedFd>> {
    let mut held = Vec::new();
    for place in &plan.fds {
        let holder = fcntl_dupfd_cloexec(&place.fd, place.number)?;
        if holder.as_raw_fd() == place.number {
            held.push(holder);
        }
        place.note();
    }
    Ok(held)
}
