//! Keeps the screen on.

use std::fmt;

use entwined::Handle;
use raw_window_handle::{HasDisplayHandle, HasWindowHandle};
use wayland_client::{
    Connection, Dispatch, Proxy, QueueHandle, delegate_noop,
    protocol::{wl_registry, wl_registry::WlRegistry},
};
use wayland_protocols::wp::idle_inhibit::zv1::client::{
    zwp_idle_inhibit_manager_v1::ZwpIdleInhibitManagerV1, zwp_idle_inhibitor_v1::ZwpIdleInhibitorV1,
};

use super::Guest;
use crate::{Error, sys};

/// Keeps the compositor from blanking the screen, as long as it lives and the window is visible
/// (idle-inhibit-unstable-v1). For programs that show data from the network without user input.
pub struct Inhibitor {
    guest: Guest<State>,
}

struct State {
    window: sys::CheckedWindow,
    manager: Option<ZwpIdleInhibitManagerV1>,
    inhibitor: Option<ZwpIdleInhibitorV1>,
}

impl Inhibitor {
    /// Takes effect as soon as the compositor has announced that it supports the protocol;
    /// [`is_active`](Inhibitor::is_active) reports whether it has. The window is kept as long as
    /// the inhibitor; the display is kept until the process ends, as for [`Guest::new`].
    ///
    /// # Errors
    /// Same as [`Guest::new`], and [`Error::OtherDisplay`] if the window is on another display.
    pub fn new(
        handle: &Handle,
        display: impl HasDisplayHandle + 'static,
        window: impl HasWindowHandle + HasDisplayHandle + 'static,
    ) -> Result<Self, Error> {
        let state = State {
            window: sys::CheckedWindow::new(&display, window)?,
            manager: None,
            inhibitor: None,
        };
        let guest = Guest::new(handle, display, state)?;
        guest
            .connection()
            .display()
            .get_registry(&guest.queue_handle(), ());
        Ok(Inhibitor { guest })
    }

    /// Returns whether the compositor supports the protocol and was asked to keep the screen on.
    pub fn is_active(&self) -> bool {
        self.guest.with(|state| state.inhibitor.is_some())
    }

    /// Same as [`Guest::gone`].
    pub fn gone(&self) -> entwined::deferred::Deferred<String, entwined::deferred::Interrupted> {
        self.guest.gone()
    }
}

impl Drop for Inhibitor {
    fn drop(&mut self) {
        self.guest.with(|state| {
            if let Some(inhibitor) = state.inhibitor.take() {
                inhibitor.destroy();
            }
            if let Some(manager) = state.manager.take() {
                manager.destroy();
            }
        });
        // The guest has no further turn, so flush now.
        let _ = self.guest.connection().flush();
    }
}

impl fmt::Debug for Inhibitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inhibitor")
            .field("active", &self.is_active())
            .finish_non_exhaustive()
    }
}

impl Dispatch<WlRegistry, ()> for State {
    fn event(
        state: &mut Self,
        registry: &WlRegistry,
        event: wl_registry::Event,
        _: &(),
        connection: &Connection,
        queue: &QueueHandle<Self>,
    ) {
        if let wl_registry::Event::Global {
            name,
            interface,
            version,
        } = event
            && interface == ZwpIdleInhibitManagerV1::interface().name
        {
            let manager: ZwpIdleInhibitManagerV1 = registry.bind(name, version.min(1), queue, ());
            let begin = |surface: &_| manager.create_inhibitor(surface, queue, ());
            match state.window.with_surface(connection, begin) {
                Ok(inhibitor) => state.inhibitor = Some(inhibitor),
                Err(error) => {
                    tracing::warn!(%error, "idle inhibition failed; the screen may go blank");
                }
            }
            state.manager = Some(manager);
        }
    }
}

// Neither has events.
delegate_noop!(State: ZwpIdleInhibitManagerV1);
delegate_noop!(State: ZwpIdleInhibitorV1);
