//! A folder whose files are served: a file for each kind of system, with the same names in it.
//!
//! What they guarantee is in the documentation of [`Files`](super::Files).

#[cfg(target_os = "linux")]
mod linux;
#[cfg(all(unix, not(target_os = "linux")))]
mod other_unix;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub(super) use self::linux::Folder;
#[cfg(all(unix, not(target_os = "linux")))]
pub(super) use self::other_unix::Folder;
#[cfg(unix)]
pub(super) use self::unix::*;
#[cfg(windows)]
pub(super) use self::windows::*;
