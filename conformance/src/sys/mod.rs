//! What the tests ask of the system: a file for each kind, with the same names in it.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(all(unix, not(target_os = "linux")))]
mod other_unix;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub(super) use self::linux::*;
#[cfg(all(unix, not(target_os = "linux")))]
pub(super) use self::other_unix::*;
#[cfg(unix)]
pub(super) use self::unix::*;
#[cfg(windows)]
pub(super) use self::windows::*;

/// Why a test cannot be passed on this system, whatever the backend is.
pub(super) fn excuse(test: &str) -> Option<&'static str> {
    lacks()
        .find(|lack| test.starts_with(lack.0))
        .map(|lack| lack.1)
}
