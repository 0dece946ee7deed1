//! What happens between fork(2) and execve(2), and everything else that needs `unsafe`.
//!
//! A child of a program with several threads has only the thread that forked. Another thread may
//! have held any lock at that moment, the allocator's among them, and here nobody gives it back.
//! So the child makes system calls and nothing else: it does not allocate, lock, log or panic.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

#[cfg(target_os = "linux")]
use self::linux as system;
#[cfg(not(target_os = "linux"))]
use self::other as system;

use std::{
    fs, io,
    marker::PhantomData,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use libc::c_int;
use rustix::process::{Pid, Resource, getrlimit};

pub(crate) use self::system::{open_terminal, pipe};
#[cfg(target_os = "linux")]
pub(crate) use self::system::{pass_fds, take_sigpipe};

/// What the child does before it executes the program.
pub(crate) struct Plan {
    /// The child's fds. None of them has the number of another here.
    pub(crate) fds: Vec<Place>,
    pub(crate) group: Group,
    /// The controlling terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// Set if the child is to die with this process.
    pub(crate) parent: Option<Pid>,
    /// From [`highest_fd`].
    pub(crate) highest: RawFd,
}

/// An fd for the child, and its number there.
pub(crate) struct Place {
    pub(crate) fd: OwnedFd,
    pub(crate) number: RawFd,
    /// The pipe or socket that had this number in the parent before the fork; see [`pipe_at`].
    before: AtomicU64,
}

/// The child's error if a pipe or socket has taken one of its numbers: it may be std's. The parent
/// tries again. Neither fork(2) nor execve(2) returns this, unless a file system does.
pub(crate) const TAKEN: c_int = libc::EADDRINUSE;

impl Place {
    pub(crate) fn new(fd: OwnedFd, number: RawFd) -> Self {
        Place {
            fd,
            number,
            before: AtomicU64::new(0),
        }
    }

    /// Notes what has the number in the parent.
    pub(crate) fn note(&self) {
        self.before.store(pipe_at(self.number), Ordering::Relaxed);
    }

    /// Puts the fd in its place. There it is not close-on-exec.
    fn put(&self) -> io::Result<()> {
        let now = pipe_at(self.number);
        if now != 0 && now != self.before.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(TAKEN));
        }
        // SAFETY: The call takes two numbers. What it closes is the child's copy of an fd that the
        // child does not use: it is none of those to be placed, and not std's pipe.
        match unsafe { libc::dup2(self.fd.as_raw_fd(), self.number) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

/// The inode of the pipe or socket that has this number, or 0. (std's is one or the other,
/// depending on its version.) Files are not looked at: the file system of one may be this process
/// itself, which waits for the child.
fn pipe_at(number: RawFd) -> u64 {
    let mut kind: c_int = 0;
    let mut size = size_of::<c_int>() as libc::socklen_t;
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: The first call fails if this is not a socket; it fills `kind`, whose size it is told.
    // The second fills `stat` if it returns 0, and only then is it read.
    unsafe {
        let mut is_socket = || {
            let kind: *mut c_int = &mut kind;
            let (level, name) = (libc::SOL_SOCKET, libc::SO_TYPE);
            libc::getsockopt(number, level, name, kind.cast(), &mut size) == 0
        };
        if (system::may_be_pipe(number) || is_socket())
            && libc::fstat(number, stat.as_mut_ptr()) == 0
        {
            return stat.assume_init().st_ino;
        }
    }
    0
}

/// The process group of the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// That of this process.
    Inherited,
    /// A new one.
    Own,
    /// A new one in a new session.
    Session,
}

/// Makes the command carry out the plan in the child.
pub(crate) fn before_exec(command: &mut Command, plan: Arc<Plan>) {
    // SAFETY: The closure and what it calls are async-signal-safe: they make system calls on values
    // that were prepared before the fork, and neither allocate nor lock. Its errors are errno
    // values, which allocate nothing. The fds stay open as long as the command has the closure.
    unsafe {
        command.pre_exec(move || plan.carry_out());
    }
}

impl Plan {
    fn carry_out(&self) -> io::Result<()> {
        match self.group {
            Group::Inherited => {}
            Group::Own => rustix::process::setpgid(None, None)?,
            Group::Session => drop(rustix::process::setsid()?),
        }
        if let Some(terminal) = &self.terminal {
            rustix::process::ioctl_tiocsctty(terminal)?;
        }
        close_on_exec(self.highest);
        for place in &self.fds {
            place.put()?;
        }
        if let Some(parent) = self.parent {
            system::die_with(parent)?;
        }
        reset_signals();
        Ok(())
    }
}

/// Makes all fds but the standard ones close-on-exec.
fn close_on_exec(highest: RawFd) {
    if system::close_range_on_exec(3) {
        return;
    }
    for number in 3..=highest {
        // SAFETY: The call takes numbers; for a number that is not open it fails.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// The highest number that an fd of this process may have, for a child that must go through all of
/// them.
pub(crate) fn highest_fd() -> RawFd {
    // There are no such numbers.
    if system::close_range_on_exec(u32::MAX) {
        return 0;
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(MOST);
    let usual = limit.min(MOST) as RawFd;
    // The limit may have been lowered since an fd was opened. What other threads open meanwhile
    // gets the lowest free numbers.
    let open = fs::read_dir("/dev/fd").into_iter().flatten().flatten();
    let open = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    open.fold(usual, RawFd::max)
}

/// The most numbers to go through if no fd is known to have a higher one. Some systems have a limit
/// of a thousand million, or none.
const MOST: u64 = 65_536;

/// Gives all signals their default effect and unblocks them.
fn reset_signals() {
    // SAFETY: All zeros is a valid value: no flags, no signals, no handler.
    let mut default: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    default.sa_sigaction = libc::SIG_DFL;
    for signal in 1..=system::last_signal() {
        // Fails for SIGKILL, SIGSTOP and the signals of the C library, which cannot be changed, and
        // for numbers that are no signals.
        // SAFETY: The pointer is to a whole structure, and the old action is not asked for.
        unsafe { libc::sigaction(signal, &default, ptr::null_mut()) };
    }
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` fills the set, and the old mask is not asked for.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

/// Blocks all signals of this thread until it is dropped.
pub(crate) struct Blocked {
    previous: libc::sigset_t,
    /// The mask is the thread's.
    not_send: PhantomData<*const ()>,
}

impl Blocked {
    pub(crate) fn all() -> Self {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut previous = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `sigfillset` fills the first set. `pthread_sigmask` fills the second: it can only
        // fail if its first argument is not one of the three constants.
        let previous = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), previous.as_mut_ptr());
            previous.assume_init()
        };
        Blocked {
            previous,
            not_send: PhantomData,
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: The set is whole, and the old mask is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.previous, ptr::null_mut()) };
    }
}

/// Duplicates an fd by its number, close-on-exec.
pub(crate) fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: The call takes numbers; for a number that is not open it fails.
    match unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: The fd is new, and nothing else owns it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}
