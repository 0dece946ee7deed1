//! libwayland's pointers: the only unsafe code of this crate.

use std::{ffi::c_void, ptr::NonNull};

use raw_window_handle::{HasDisplayHandle, HasWindowHandle, RawDisplayHandle, RawWindowHandle};
use wayland_backend::client::{Backend, ObjectId};
use wayland_client::{Connection, Proxy, protocol::wl_surface::WlSurface};

use crate::{Error, wayland::Guest};

/// The toolkit's connection, and the display that it is on.
pub(crate) struct Toolkit<D> {
    /// Dropped before the display.
    connection: Connection,
    display: Box<D>,
}

impl<D: HasDisplayHandle + 'static> Toolkit<D> {
    pub(crate) fn new(display: D) -> Result<Self, Error> {
        let display = Box::new(display);
        let raw = wayland_display(&*display)?;
        // SAFETY: a Wayland display handle is a live wl_display, and stays one as long as the
        // object that returned it (`DisplayHandle::borrow_raw` requires that of implementors of the
        // trait). That object is kept here until after the connection, or until the process ends.
        let backend = unsafe { Backend::from_foreign_display(raw.as_ptr().cast()) };
        Ok(Toolkit {
            connection: Connection::from_backend(backend),
            display,
        })
    }

    /// Borrows the connection, of which nothing may be kept that outlives this.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns the connection. The display is kept until the process ends, because connections and
    /// objects can be cloned and kept anywhere.
    pub(crate) fn keep(self) -> Connection {
        Box::leak(self.display);
        self.connection
    }
}

/// Checks that a window is on this display: a surface of another one would be taken for an object
/// of this connection.
pub(crate) fn check(
    display: &impl HasDisplayHandle,
    window: &(impl HasDisplayHandle + ?Sized),
) -> Result<(), Error> {
    if wayland_display(display)? == wayland_display(window)? {
        Ok(())
    } else {
        Err(Error::OtherDisplay)
    }
}

fn wayland_display(display: &(impl HasDisplayHandle + ?Sized)) -> Result<NonNull<c_void>, Error> {
    match display.display_handle()?.as_raw() {
        RawDisplayHandle::Wayland(raw) => Ok(raw.display),
        _ => Err(Error::OtherSystem("Wayland")),
    }
}

/// Returns the window's surface.
///
/// # Safety
/// The surface and its clones must not be used after the window is gone. The window must be on this
/// connection's display.
pub(crate) unsafe fn surface(
    connection: &Connection,
    window: &(impl HasWindowHandle + ?Sized),
) -> Result<WlSurface, Error> {
    let RawWindowHandle::Wayland(raw) = window.window_handle()?.as_raw() else {
        return Err(Error::OtherSystem("Wayland"));
    };
    // SAFETY: a Wayland window handle is a live wl_surface as long as the window exists, and the
    // caller does not use it for longer.
    let id = unsafe { ObjectId::from_ptr(WlSurface::interface(), raw.surface.as_ptr().cast()) };
    WlSurface::from_id(connection, id.map_err(Error::display)?).map_err(Error::display)
}

/// A window that is on the display of a connection.
pub(crate) struct CheckedWindow(Box<dyn HasWindowHandle>);

impl CheckedWindow {
    /// # Errors
    /// [`Error::OtherDisplay`] if it is on another one.
    pub(crate) fn new(
        display: &impl HasDisplayHandle,
        window: impl HasWindowHandle + HasDisplayHandle + 'static,
    ) -> Result<Self, Error> {
        check(display, &window)?;
        Ok(CheckedWindow(Box::new(window)))
    }

    /// Calls `request` with the window's surface, which it only borrows. `connection` must be that
    /// of the display that the window was checked with.
    pub(crate) fn with_surface<R>(
        &self,
        connection: &Connection,
        request: impl FnOnce(&WlSurface) -> R,
    ) -> Result<R, Error> {
        // SAFETY: the window is borrowed until the end of this function, and is on the connection's
        // display. All callers are in this crate, and keep no clone.
        let surface = unsafe { surface(connection, &*self.0)? };
        Ok(request(&surface))
    }
}

impl<D: 'static> Guest<D> {
    /// Returns the surface of one of the toolkit's windows, for requests about it. The toolkit can
    /// keep using it.
    ///
    /// # Errors
    /// Returns [`Error::OtherSystem`] if the window is not on Wayland, and [`Error::Handle`] if it
    /// has no handle right now.
    ///
    /// # Safety
    /// The surface and its clones must not be used after the window is gone. The window must be on
    /// this guest's display.
    pub unsafe fn surface(&self, window: &impl HasWindowHandle) -> Result<WlSurface, Error> {
        // SAFETY: the caller keeps the same promise.
        unsafe { surface(self.connection(), window) }
    }
}
