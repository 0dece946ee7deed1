//! What Linux has, and other systems have not.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
    ptr,
};

use libc::c_int;
use rustix::{
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
};

/// Whether this number is that of a pipe.
pub(super) fn may_be_pipe(number: RawFd) -> bool {
    // SAFETY: The call takes numbers; it fails if this is not a pipe.
    unsafe { libc::fcntl(number, libc::F_GETPIPE_SZ) != -1 }
}

/// Makes all fds from this number on close-on-exec, with one call. Returns whether there is such a
/// call: Linux before 5.11 and some sandboxes do not know it.
pub(super) fn close_range_on_exec(first: u32) -> bool {
    // SAFETY: The call takes three numbers and changes nothing but flags of this process's fds.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    result == 0
}

/// The highest number of a signal.
pub(super) fn last_signal() -> c_int {
    libc::SIGRTMAX()
}

/// Lets this child die with its parent.
pub(super) fn die_with(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the line above.
    match rustix::process::getppid() == Some(parent) {
        true => Ok(()),
        false => Err(Errno::SRCH.into()),
    }
}

pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}

/// Opens a terminal: the controller, and the device.
pub(crate) fn open_terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let controller = openpt(flags)?;
    grantpt(&controller)?;
    unlockpt(&controller)?;
    // Opened through the controller, because /dev/pts may be another one in a container.
    let device = ioctl_tiocgptpeer(&controller, flags)?;
    Ok((controller, device))
}

/// Takes a SIGPIPE that waits for this thread. Returns whether there was one.
pub(crate) fn take_sigpipe() -> bool {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    let now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `sigemptyset` fills the set, and the details of the signal are not asked for.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        libc::sigtimedwait(set.as_ptr(), ptr::null_mut(), &now) == libc::SIGPIPE
    }
}

/// asm-generic/socket.h. The C library may not know it yet.
const SO_PASSRIGHTS: c_int = 83;

/// Says whether a Unix socket takes file descriptors.
pub(crate) fn pass_fds(socket: BorrowedFd<'_>, pass: bool) -> io::Result<()> {
    let pass = c_int::from(pass);
    let value: *const c_int = &pass;
    let size = size_of::<c_int>() as libc::socklen_t;
    let (number, level) = (socket.as_raw_fd(), libc::SOL_SOCKET);
    // SAFETY: The pointer is to a number of the size that the call is told.
    match unsafe { libc::setsockopt(number, level, SO_PASSRIGHTS, value.cast(), size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
