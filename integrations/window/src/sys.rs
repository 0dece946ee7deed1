//! libwayland's pointers: the only unsafe code of this crate.

use raw_window_handle::{HasDisplayHandle, HasWindowHandle, RawDisplayHandle, RawWindowHandle};
use wayland_backend::client::{Backend, ObjectId};
use wayland_client::{Connection, Proxy, protocol::wl_surface::WlSurface};

use crate::{Error, wayland::Guest};

/// Returns the toolkit's connection, for a guest. `display` is kept until the process ends, because
/// connections and objects can be cloned and kept anywhere.
pub(crate) fn connection(display: impl HasDisplayHandle + 'static) -> Result<Connection, Error> {
    let display = Box::leak(Box::new(display));
    let RawDisplayHandle::Wayland(raw) = display.display_handle()?.as_raw() else {
        return Err(Error::OtherSystem("Wayland"));
    };
    // SAFETY: a Wayland display handle is a live wl_display, and stays one as long as the object
    // that returned it (`DisplayHandle::borrow_raw` requires that of implementors of the trait).
    // That object lives until the process ends.
    let backend = unsafe { Backend::from_foreign_display(raw.display.as_ptr().cast()) };
    Ok(Connection::from_backend(backend))
}

/// Returns the window's surface.
///
/// # Safety
/// The surface and its clones must not be used after the window is gone.
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

/// Calls `request` with the window's surface, which it only borrows.
pub(crate) fn with_surface<R>(
    connection: &Connection,
    window: &(impl HasWindowHandle + ?Sized),
    request: impl FnOnce(&WlSurface) -> R,
) -> Result<R, Error> {
    // SAFETY: the window is borrowed until the end of this function. All callers are in this crate,
    // and keep no clone.
    let surface = unsafe { surface(connection, window)? };
    Ok(request(&surface))
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
