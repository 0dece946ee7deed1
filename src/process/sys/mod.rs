//! What differs between operating systems: a file for each, with the same names in it.
//!
//! - `Io` and `OtherEnd`: what a stream of a child is connected to, and this side's end of it.
//! - `ChildStream`: this side's end as a stream.
//! - `Extras`: what only some systems can do for a child.
//! - `Child`: a child that has to be waited for, and until then can be killed.
//! - `Exits`: how the reactor hears of its exit.
//! - `start`: starts it.

#[cfg(unix)]
mod unix;
#[cfg(any(not(target_os = "linux"), entwined_portable))]
mod waiting;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(super) use self::unix::*;
#[cfg(unix)]
pub use self::unix::{ChildStream, Io};
#[cfg(any(not(target_os = "linux"), entwined_portable))]
pub(super) use self::waiting::Exits;
#[cfg(windows)]
pub(super) use self::windows::*;
#[cfg(windows)]
pub use self::windows::{ChildStream, Io};

use std::process::Command;

use crate::table::Table;

/// The key of a child's terminal among its streams. It is not a number of one.
pub(super) const TERMINAL: i32 = -1;

/// What to start.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) command: Command,
    pub(super) kill_on_drop: bool,
    pub(super) leads_group: bool,
    /// The child's streams, by their numbers in the child.
    pub(super) streams: Table<i32, Io>,
    pub(super) extras: Extras,
}

/// What was started.
pub(super) struct Started {
    pub(super) pid: u32,
    /// `None` if other code had reaped the child before it could be opened.
    pub(super) child: Option<Child>,
    /// This side's ends of its streams, by their numbers in the child.
    pub(super) ends: Table<i32, OtherEnd>,
}
