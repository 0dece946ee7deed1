//! What only Linux has.

use std::{io, os::fd::AsFd};

use super::{Spawn, sys};

impl Spawn {
    /// Kills the child (SIGKILL) when the thread that starts it ends, for whatever reason.
    ///
    /// On Linux the parent is that thread, not the whole process: start the child from a thread
    /// that lives as long as the program. The setting does not hold for what the child itself
    /// starts, and the system clears it if the child changes its user (PR_SET_PDEATHSIG(2const)).
    #[must_use]
    pub fn die_with_parent(mut self) -> Self {
        self.dies_with_parent = true;
        self
    }
}

/// Says whether peers may send file descriptors to a Unix socket (`SO_PASSRIGHTS`). If not, sending
/// them fails with EPERM. Connections that a listener has not accepted yet are as it was when they
/// came.
///
/// # Errors
/// Linux before 6.16 does not know the option. It is one of Unix sockets only.
pub fn pass_fds(socket: impl AsFd, pass: bool) -> io::Result<()> {
    sys::pass_fds(socket.as_fd(), pass)
}

/// Takes the SIGPIPE that a write to a broken pipe has raised for this thread, which must block it.
/// It has no effect then. Returns whether there was one.
pub fn take_sigpipe() -> bool {
    sys::take_sigpipe()
}
