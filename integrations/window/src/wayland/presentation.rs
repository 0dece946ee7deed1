//! When frames were really seen.

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

/// Frames that the compositor has not told of yet, at most; those beyond are not asked for.
const MOST_ASKED: u32 = 64;

/// Tells when the frames of a window were shown, and how often the display shows one
/// (presentation-time): what no toolkit's clock knows.
pub struct Presentation {
    guest: Guest<State>,
    window: Box<dyn HasWindowHandle>,
}

/// What was told of a window's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Presented {
    /// Frames that were shown, of those that were asked for.
    pub shown: u64,
    /// Frames that were never seen: another one came before, or the window was hidden.
    pub discarded: u64,
    /// When the last one was shown, by the clock of the compositor (its zero is arbitrary).
    pub last: Option<Duration>,
    /// What lies between two frames of the display, if that is constant.
    pub refresh: Option<Duration>,
}

#[derive(Default)]
struct State {
    manager: Option<WpPresentation>,
    asked: u32,
    presented: Presented,
}

impl Presentation {
    /// For this window, which is kept; the display is kept until the process ends, as for
    /// [`Guest::new`].
    ///
    /// # Errors
    /// As for [`Guest::new`].
    pub fn new(
        handle: &Handle,
        display: impl HasDisplayHandle + 'static,
        window: impl HasWindowHandle + 'static,
    ) -> Result<Self, Error> {
        let guest = Guest::new(handle, display, State::default())?;
        guest
            .connection()
            .display()
            .get_registry(&guest.queue_handle(), ());
        Ok(Presentation {
            guest,
            window: Box::new(window),
        })
    }

    /// Whether the compositor tells.
    pub fn is_known(&self) -> bool {
        self.guest.with(|state| state.manager.is_some())
    }

    /// Asks what becomes of the window's next frame. Called just before the toolkit hands it over:
    /// with winit beside `Window::pre_present_notify`.
    ///
    /// # Errors
    /// [`Error::Handle`] when the window is gone.
    pub fn ask(&self) -> Result<(), Error> {
        let queue = self.guest.queue_handle();
        self.guest.with(|state| {
            let Some(manager) = state.manager.as_ref().filter(|_| state.asked < MOST_ASKED) else {
                return Ok(());
            };
            let ask = |surface: &_| drop(manager.feedback(surface, &queue, ()));
            sys::with_surface(self.guest.connection(), &*self.window, ask)?;
            state.asked += 1;
            Ok(())
        })
    }

    /// What was told so far.
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

// It tells the number of the clock, which nobody here compares with another.
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
                // Zero is for one that is not constant.
                state.presented.refresh =
                    (refresh > 0).then(|| Duration::from_nanos(refresh.into()));
            }
            Event::Discarded => state.presented.discarded += 1,
            _ => return,
        }
        state.asked = state.asked.saturating_sub(1);
    }
}
