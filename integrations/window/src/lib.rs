//! Extra display events for a window of any toolkit (winit, SDL, SCTK and others). It needs only
//! the window's [raw handles](raw_window_handle).
//!
//! - [`wayland::Guest`] is an event queue on the toolkit's own connection to the compositor: for
//!   protocols that the toolkit does not support, about its own surfaces.
//! - [`x11::Properties`] is a separate connection to the same X server, which follows the
//!   properties of the toolkit's window.
//!
//! Both notice when the display goes away, so the network can shut down gracefully.
//!
//! Raw handles have no file descriptor, and only one reader may read events from a shared
//! connection. On Wayland that remains the toolkit. libwayland sorts what the toolkit reads for the
//! guest into the guest's queue, which is checked in each turn of the reactor. X11 has no such
//! sorting, so there the guest has its own connection.
#![warn(missing_debug_implementations)]
#![cfg_attr(not(feature = "wayland"), forbid(unsafe_code))]

#[cfg(feature = "wayland")]
mod sys;
#[cfg(feature = "wayland")]
pub mod wayland;
#[cfg(feature = "x11")]
pub mod x11;

use std::{error, fmt};

use raw_window_handle::HandleError;

/// Why there is no guest, or no longer one.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The window or the display is of another system: not on Wayland, or not on X11.
    OtherSystem(&'static str),
    /// The window is on another display than the one given.
    OtherDisplay,
    /// The toolkit has no handle right now.
    Handle(HandleError),
    /// The display cannot be reached, or is gone.
    Display(Box<dyn error::Error + Send + Sync>),
}

#[cfg(any(feature = "wayland", feature = "x11"))]
impl Error {
    pub(crate) fn display(error: impl error::Error + Send + Sync + 'static) -> Self {
        Error::Display(error.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::OtherSystem(wanted) => write!(f, "the window is not on {wanted}"),
            Error::OtherDisplay => f.write_str("the window is on another display"),
            Error::Handle(_) => f.write_str("the toolkit has no handle for its window right now"),
            Error::Display(error) => write!(f, "the display cannot be reached: {error}"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::OtherSystem(_) | Error::OtherDisplay => None,
            Error::Handle(error) => Some(error),
            Error::Display(error) => Some(&**error),
        }
    }
}

impl From<HandleError> for Error {
    fn from(error: HandleError) -> Self {
        Error::Handle(error)
    }
}
