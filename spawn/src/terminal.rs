//! Pseudo-terminals.

use std::{io, os::fd::OwnedFd};

use rustix::{
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

/// A new pseudo-terminal (pty(7)). Both fds are close-on-exec from the start, so children that
/// other threads start do not inherit them.
#[derive(Debug)]
pub struct Terminal {
    /// This side: what it writes is typed, what it reads is printed. The terminal hangs up when it
    /// is closed.
    pub controller: OwnedFd,
    /// The child's side, for [`Spawn::terminal`](crate::Spawn::terminal).
    pub device: OwnedFd,
}

impl Terminal {
    /// Opens a terminal of this size, in characters.
    ///
    /// # Errors
    /// The operating system's error if there are no fds or no terminals left.
    pub fn open(columns: u16, rows: u16) -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = openpt(flags)?;
        grantpt(&controller)?;
        unlockpt(&controller)?;
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&controller, size)?;
        // Opened through the controller, because /dev/pts may be another one in a container.
        let device = ioctl_tiocgptpeer(&controller, flags)?;
        Ok(Terminal { controller, device })
    }
}
