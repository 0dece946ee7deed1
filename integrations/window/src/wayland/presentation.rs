//! Reports when frames were actually shown.

use std::{fmt, time::Duration};

use entwined::Handle;
use raw_window_handle::{HasDisplayHandle, HasWindowHandle};
use wayland_client::{
    Connection, Dispatch, Proxy, QueueHandle, delegate_noop,
    protocol::{wl_registry, wl_registry::WlRegistry},
};
use wayland_protocols::wp::presentation_time::client::{
    wp_presentation::WpPresentation,
    wp_presentation_feedback::{self, WpPresentationFeedback},
};

use super::Guest;
use crate::{Error, sys};

/// The maximum number of frames without feedback yet; for more frames, no feedback is requested.
const MOST_ASKED: u32 = 64;

/// Reports when a window's frames were shown, and how often the display shows one
/// (presentation-time). No toolkit's own clock knows this.
pub struct Presentation {
    guest: Guest<State>,
    window: sys::CheckedWindow,
}

/// The feedback for a window's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Presented {
    /// Frames that were shown, of those that feedback was requested for.
    pub shown: u64,
    /// Frames that were never shown: a newer one replaced them, or the window was hidden.
    pub discarded: u64,
    /// When the last frame was shown, on the compositor's clock (its zero is arbitrary).
    pub last: Option<Duration>,
    /// The time between two frames of the display, if it is constant.
    pub refresh: Option<Duration>,
}

#[derive(Default)]
struct State {
    manager: Option<WpPresentation>,
    asked: u32,
    presented: Presented,
}

impl Presentation {
    /// Creates one for this window, which is kept; the display is kept until the process ends, as
    /// for [`Guest::new`].
    ///
    /// # Errors
    /// Same as [`Guest::new`], and [`Error::OtherDisplay`] if the window is on another display.
    pub fn new(
        handle: &Handle,
        display: impl HasDisplayHandle + 'static,
        window: impl HasWindowHandle + HasDisplayHandle + 'static,
    ) -> Result<Self, Error> {
        let window = sys::CheckedWindow::new(&display, window)?;
        let guest = Guest::new(handle, display, State::default())?;
        guest
            .connection()
            .display()
            .get_registry(&guest.queue_handle(), ());
        Ok(Presentation { guest, window })
    }

    /// Returns whether the compositor gives this feedback.
    pub fn is_known(&self) -> bool {
        self.guest.with(|state| state.manager.is_some())
    }

    /// Requests feedback for the window's next frame. Call this just before the toolkit commits the
    /// frame: with winit, next to `Window::pre_present_notify`.
    ///
    /// # Errors
    /// Returns [`Error::Handle`] if the window is gone.
    pub fn ask(&self) -> Result<(), Error> {
        let queue = self.guest.queue_handle();
        self.guest.with(|state| {
            let Some(manager) = state.manager.as_ref().filter(|_| state.asked < MOST_ASKED) else {
                return Ok(());
            };
            let ask = |surface: &_| drop(manager.feedback(surface, &queue, ()));
            self.window.with_surface(self.guest.connection(), ask)?;
            state.asked += 1;
            Ok(())
        })
    }

    /// Returns the feedback so far.
    pub fn presented(&self) -> Presented {
        self.guest.with(|state| state.presented)
    }
}

impl Drop for Presentation {
    fn drop(&mut self) {
        self.guest.with(|state| {
            if let Some(manager) = state.manager.take() {
                manager.destroy();
            }
        });
        let _ = self.guest.connection().flush();
    }
}

impl fmt::Debug for Presentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presentation")
            .field("presented", &self.presented())
            .finish_non_exhaustive()
    }
}

impl Dispatch<WlRegistry, ()> for State {
    fn event(
        state: &mut Self,
        registry: &WlRegistry,
        event: wl_registry::Event,
        _: &(),
        _: &Connection,
        queue: &QueueHandle<Self>,
    ) {
        if let wl_registry::Event::Global {
            name, interface, ..
        } = event
            && interface == WpPresentation::interface().name
        {
            state.manager = Some(registry.bind(name, 1, queue, ()));
        }
    }
}

// It sends the id of the clock, which is not compared with any other clock here.
delegate_noop!(State: ignore WpPresentation);

impl Dispatch<WpPresentationFeedback, ()> for State {
    fn event(
        state: &mut Self,
        _: &WpPresentationFeedback,
        event: wp_presentation_feedback::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        use wp_presentation_feedback::Event;
        match event {
            Event::Presented {
                tv_sec_hi,
                tv_sec_lo,
                tv_nsec,
                refresh,
                ..
            } => {
                let seconds = u64::from(tv_sec_hi) << 32 | u64::from(tv_sec_lo);
                state.presented.shown += 1;
                state.presented.last =
                    Some(Duration::from_secs(seconds) + Duration::from_nanos(tv_nsec.into()));
                // Zero means that it is not constant.
                state.presented.refresh =
                    (refresh > 0).then(|| Duration::from_nanos(refresh.into()));
            }
            Event::Discarded => state.presented.discarded += 1,
            _ => return,
        }
        state.asked = state.asked.saturating_sub(1);
    }
}
