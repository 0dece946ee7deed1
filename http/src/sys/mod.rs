//! Random bytes, from the system: a file for each kind of system.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

#[cfg(target_os = "linux")]
pub(crate) use self::linux::fill_random;
#[cfg(not(target_os = "linux"))]
pub(crate) use self::other::fill_random;
