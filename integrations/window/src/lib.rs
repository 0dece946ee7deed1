//! Events of one's own beside any toolkit's window, by nothing but its [raw
//! handles](raw_window_handle): from winit, SDL, SCTK and others.
//!
//! - [`wayland::Guest`] is a queue of events on the toolkit's own connection to the compositor: for
//!   protocols that the toolkit does not speak, about its own surfaces.
//! - [`x11::Properties`] is a connection of its own to the same X server, which follows the
//!   properties of the toolkit's window.
//!
//! Both notice when the display goes away, so that the network can be shut down in order.
//!
//! Raw handles have no file descriptor, and events on a connection that is shared must be read by
//! one reader only. On Wayland that stays the toolkit: what it reads for the guest, libwayland
//! sorts into the guest's queue, which is looked at in each turn of the reactor. On X11 there is no
//! such sorting, so the guest has a connection for itself.
#![cfg_attr(not(feature = "wayland"), forbid(unsafe_code))]

#[cfg(feature = "wayland")]
mod sys;
#[cfg(feature = "wayland")]
pub mod wayland;
#[cfg(feature = "x11")]
pub mod x11;

use std::{error, fmt};

use raw_window_handle::HandleError;

/// Why there is no guest, or no longer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The window or the display is not of this kind: not on Wayland, or not on X11.
    OtherSystem(&'static str),
    /// The toolkit has no handle at present.
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
            Error::Handle(_) => f.write_str("the toolkit has no handle of its window at present"),
            Error::Display(error) => write!(f, "the display cannot be reached: {error}"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::OtherSystem(_) => None,
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
