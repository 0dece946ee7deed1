//! What differs between operating systems: a file for each, with the same names in it.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub(crate) use self::linux::*;
#[cfg(not(target_os = "linux"))]
pub(crate) use self::other::*;
#[cfg(unix)]
pub(crate) use self::unix::*;
#[cfg(unix)]
pub use self::unix::{AsSource, Source};
#[cfg(windows)]
pub(crate) use self::windows::*;
#[cfg(windows)]
pub use self::windows::{AsSource, Source};
