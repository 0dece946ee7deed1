//! Starts child processes with exactly what they are given.
//!
//! [`std::process::Command`] starts a program, and [`Spawn`] wraps such a command.
//!
//! On Unix, std's child has this process's blocked and ignored signals and every fd that is not
//! close-on-exec. With [`Spawn`], the child gets
//!
//! - the three standard fds and those that it was given (`Spawn::fd`), and no other fd,
//! - no blocked and no ignored signals,
//! - a process group, a session or a controlling terminal of its own, if asked.
//!
#![cfg_attr(unix, doc = include_str!("unix/example.md"))]
//! On Windows, the child can be put into a job object before it runs its first instruction. So
//! everything that it starts is in it too, and can be ended with it, also by the end of this
//! program.
//!
//! All `unsafe` code is in the modules `sys`.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use self::unix::*;
#[cfg(windows)]
pub use self::windows::*;
