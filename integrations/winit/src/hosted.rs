//! The reactor inside winit's own loop.

use std::{fmt, io};

use entwined::reactor::Watcher;
use winit::{
    application::ApplicationHandler,
    event::{DeviceEvent, DeviceId, StartCause, WindowEvent},
    event_loop::{ActiveEventLoop, EventLoop, EventLoopProxy},
    window::WindowId,
};

use crate::Winit;

/// The user events of a loop that hosts a reactor: the application's own events of type `T`, and
/// the reactor's.
///
/// Create the loop with `EventLoop::<UserEvent<T>>::with_user_event()`. The application implements
/// `ApplicationHandler<T>` and does not see this type. To send it an event through the proxy, send
/// `UserEvent::App(event)`, or `event.into()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserEvent<T = ()> {
    /// The network wants its slice. The reactor sends this; if other code sends it, it only costs
    /// an iteration.
    Wake,
    /// An event for the application.
    App(T),
}

impl<T> From<T> for UserEvent<T> {
    fn from(event: T) -> Self {
        UserEvent::App(event)
    }
}

impl<A> Winit<A> {
    /// Wraps the application for winit's own `run_app` (or `run_app_on_demand`). The reactor runs
    /// from the loop's first event on, and has shut down by the time the loop has ended.
    ///
    /// As long as the wrapper lives, a sleeping thread waits for the network. It costs two context
    /// switches when the loop is woken from its sleep, and none while there is work.
    ///
    /// # Errors
    /// Returns an error if the process or the system is out of file descriptors or threads.
    pub fn host<'a, T>(
        &self,
        event_loop: &EventLoop<UserEvent<T>>,
        app: &'a mut A,
    ) -> io::Result<Hosted<'a, A, T>>
    where
        A: ApplicationHandler<T>,
        T: Send + 'static,
    {
        let proxy = event_loop.create_proxy();
        let waker = proxy.clone();
        let watcher = Watcher::spawn(&self.shared.selector, move || {
            waker.send_event(UserEvent::Wake).is_ok()
        })?;
        Ok(Hosted {
            winit: self.clone(),
            app,
            proxy,
            watcher,
            asked: false,
        })
    }
}

/// An application with a reactor, wrapped as an application for winit: see [`Winit::host`].
///
/// All callbacks go to the application. In addition, the loop's first iteration starts the reactor,
/// each iteration serves the network before `about_to_wait`, and the last one shuts the reactor
/// down before `exiting`.
pub struct Hosted<'a, A, T: 'static> {
    winit: Winit<A>,
    app: &'a mut A,
    proxy: EventLoopProxy<UserEvent<T>>,
    watcher: Watcher,
    /// Whether a wake event of ours is in flight.
    asked: bool,
}

impl<A, T> Hosted<'_, A, T> {
    /// Makes sure that the loop comes back when the network wants it to.
    fn before_sleep(&mut self) {
        if self.winit.is_due() {
            // Uses an event and not a control flow, because the control flow belongs to the
            // application. The loop handles the display's events in between.
            if !self.asked {
                self.asked = self.proxy.send_event(UserEvent::Wake).is_ok();
            }
        } else if self.winit.is_running() {
            self.watcher.watch();
        }
    }
}

impl<A, T> fmt::Debug for Hosted<'_, A, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosted")
            .field("winit", &self.winit)
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

impl<T: 'static, A: ApplicationHandler<T>> ApplicationHandler<UserEvent<T>> for Hosted<'_, A, T> {
    fn new_events(&mut self, event_loop: &ActiveEventLoop, cause: StartCause) {
        if cause == StartCause::Init {
            self.asked = false;
            self.winit.start_unless_running();
        }
        self.app.new_events(event_loop, cause);
    }

    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        self.app.resumed(event_loop);
    }

    fn user_event(&mut self, event_loop: &ActiveEventLoop, event: UserEvent<T>) {
        match event {
            UserEvent::Wake => self.asked = false,
            UserEvent::App(event) => self.app.user_event(event_loop, event),
        }
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, window: WindowId, event: WindowEvent) {
        let app = &mut *self.app;
        let frames = &self.winit.shared.frames;
        frames.during(event_loop, window, event, |event| {
            app.window_event(event_loop, window, event)
        });
    }

    fn device_event(&mut self, event_loop: &ActiveEventLoop, device: DeviceId, event: DeviceEvent) {
        self.app.device_event(event_loop, device, event);
    }

    fn about_to_wait(&mut self, event_loop: &ActiveEventLoop) {
        let result = self.winit.slice(self.app);
        self.app.about_to_wait(event_loop);
        self.winit.shared.frames.wants(event_loop.control_flow());
        match result {
            Ok(()) => self.before_sleep(),
            Err(error) => tracing::error!(
                %error,
                "the operating system refused to report events; the reactor closes"
            ),
        }
    }

    fn suspended(&mut self, event_loop: &ActiveEventLoop) {
        self.app.suspended(event_loop);
    }

    fn exiting(&mut self, event_loop: &ActiveEventLoop) {
        self.winit.shut_down(self.app);
        self.app.exiting(event_loop);
    }

    fn memory_warning(&mut self, event_loop: &ActiveEventLoop) {
        self.app.memory_warning(event_loop);
    }
}
