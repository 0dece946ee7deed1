//! macOS and FreeBSD.

use std::{io, os::fd::OwnedFd, os::fd::RawFd};

use libc::c_int;
use rustix::{
    fs::{Mode, OFlags, open},
    io::{FdFlags, fcntl_setfd},
    process::Pid,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

/// Whether this number may be that of a pipe: of something that has no position.
pub(super) fn may_be_pipe(number: RawFd) -> bool {
    // SAFETY: The call takes numbers, and moves nothing.
    let position = unsafe { libc::lseek(number, 0, libc::SEEK_CUR) };
    position == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ESPIPE)
}

/// There is no such call here.
pub(super) fn close_range_on_exec(_: u32) -> bool {
    false
}

/// The highest number of a signal: FreeBSD's. Others have fewer.
pub(super) fn last_signal() -> c_int {
    126
}

/// Nothing asks for this here.
pub(super) fn die_with(_: Pid) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe()?;
    fcntl_setfd(&reader, FdFlags::CLOEXEC)?;
    fcntl_setfd(&writer, FdFlags::CLOEXEC)?;
    Ok((reader, writer))
}

/// Opens a terminal: the controller, and the device.
pub(crate) fn open_terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    fcntl_setfd(&controller, FdFlags::CLOEXEC)?;
    grantpt(&controller)?;
    unlockpt(&controller)?;
    let name = ptsname(&controller, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok((controller, open(name, flags, Mode::empty())?))
}
