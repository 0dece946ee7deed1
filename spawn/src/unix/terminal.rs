//! Pseudo-terminals.

use std::{io, os::fd::OwnedFd};

use rustix::termios::{Winsize, tcsetwinsize};

use super::sys;

/// A new pseudo-terminal (pty(7)). Both fds are close-on-exec: on Linux from the start, so children
/// that other threads start do not inherit them.
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
        let (controller, device) = sys::open_terminal()?;
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&controller, size)?;
        Ok(Terminal { controller, device })
    }
}
