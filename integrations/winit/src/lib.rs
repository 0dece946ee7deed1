//! Entwined in a [winit] application: network code on the window's own thread, with access to the
//! application's state.
//!
//! A [`Winit`] is a reactor for one application. There are two ways to run it, for the same
//! application and the same network code:
//!
//! - [`Winit::run`], if the program is free to choose: it pumps winit's events inside the reactor's
//!   loop. One thread, one sleep for both. (On Wayland, winit itself starts a thread when it is
//!   pumped.) [`Winit::pump`] is one iteration of it, for a loop of the program's own.
//! - [`Winit::host`], if something else must own the loop or call `run_app`: it wraps the
//!   application, and the wrapper runs the network's turns inside winit's own loop. winit cannot
//!   watch file descriptors ([#3592](https://github.com/rust-windowing/winit/issues/3592)), so one
//!   small thread waits for the network and wakes the loop through its proxy. All work is still
//!   done on the window's thread.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use entwined_winit::Winit;
//! use winit::{
//!     application::ApplicationHandler,
//!     event::WindowEvent,
//!     event_loop::{ActiveEventLoop, EventLoop},
//!     window::{Window, WindowId},
//! };
//!
//! #[derive(Default)]
//! struct App {
//!     window: Option<Window>,
//!     ticks: u32,
//! }
//!
//! impl ApplicationHandler for App {
//!     fn resumed(&mut self, event_loop: &ActiveEventLoop) {
//!         let window = event_loop.create_window(Window::default_attributes());
//!         self.window = Some(window.expect("a window"));
//!     }
//!
//!     fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
//!         if event == WindowEvent::CloseRequested {
//!             event_loop.exit();
//!         }
//!     }
//! }
//!
//! let event_loop = EventLoop::new()?;
//! let network = Winit::<App>::new()?;
//! let app = network.app();
//! network.handle().call_later(Duration::from_secs(1), move || {
//!     app.with(|app| {
//!         app.ticks += 1;
//!         let window = app.window.as_ref().expect("resumed by now");
//!         window.set_title(&format!("{} seconds", app.ticks));
//!     });
//! });
//! network.run(event_loop, &mut App::default())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The second way differs in the event loop's type and in the last line:
//!
//! ```no_run
//! # use entwined_winit::{UserEvent, Winit};
//! # use winit::{
//! #     application::ApplicationHandler,
//! #     event::WindowEvent,
//! #     event_loop::{ActiveEventLoop, EventLoop},
//! #     window::WindowId,
//! # };
//! # #[derive(Default)]
//! # struct App;
//! # impl ApplicationHandler for App {
//! #     fn resumed(&mut self, _: &ActiveEventLoop) {}
//! #     fn window_event(&mut self, _: &ActiveEventLoop, _: WindowId, _: WindowEvent) {}
//! # }
//! let event_loop = EventLoop::<UserEvent>::with_user_event().build()?;
//! let network = Winit::<App>::new()?;
//! let mut app = App::default();
//! let mut hosted = network.host(&event_loop, &mut app)?;
//! event_loop.run_app(&mut hosted)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # An iteration
//!
//! 1. winit's events go to the application.
//! 2. The network has a slice of time. It ends before the next frame is due, or before the instant
//!    that the application waits for, and takes 4 ms at most ([configurable](Handle::set_pacing)).
//!    The application is [lent](Winit::app) meanwhile.
//! 3. The application's `about_to_wait` sees what both have changed. This is the place to call
//!    [`exit`](winit::event_loop::ActiveEventLoop::exit) when a network request asked for it. (To
//!    redraw the window, network code can call
//!    [`request_redraw`](winit::window::Window::request_redraw) at once.)
//! 4. The loop sleeps until there is an event of either kind, as the application's
//!    [`ControlFlow`](winit::event_loop::ControlFlow) says, unless the network has work left over.
//!
//! # The run and its end
//!
//! The reactor runs from the loop's first event on. When the application exits, the reactor shuts
//! down gracefully, through its shutdown phases, before the application's `exiting` is called; the
//! window does not respond meanwhile. [`Handle::stop`] ends only the reactor's run, not the
//! application, and [`Winit::start`] begins the next run.
//!
//! # Limits
//!
//! Linux, with X11 or Wayland. winit cannot be iterated from inside its callbacks: while
//! [`Handle::wait`] waits there, the reactor keeps running, but the window does not. In the
//! application's own callbacks the application is not lent, because they have it as `self`; they
//! can lend it with [`Lent::lend`].
//!
//! Without a display, winit's `EventLoop` cannot be created, and its error says so; a reactor can.
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

mod frames;
mod hosted;
mod pump;

use std::{fmt, io, rc::Rc};

use entwined::{
    Handle,
    reactor::{Driver, LifeError, NextTurn, Selector},
};
pub use entwined_lend::{Lent, NotLent};
use frames::Frames;
pub use hosted::{Hosted, UserEvent};
use pump::Pump;
pub use pump::RunError;
pub use {entwined, winit};

/// A reactor for a winit application of type `A`. Clones share the reactor. Bound to its thread,
/// which must be the event loop's.
pub struct Winit<A> {
    shared: Rc<Shared>,
    app: Lent<A>,
}

struct Shared {
    driver: Driver,
    selector: Rc<Selector>,
    frames: Frames,
    pump: Pump,
}

impl<A> Winit<A> {
    /// Creates a reactor that does not run yet.
    ///
    /// # Errors
    /// Returns an error if the process or the system is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let selector = Rc::new(Selector::new()?);
        let driver = Driver::new(selector.clone(), ());
        let frames = Frames::new(driver.handle());
        Ok(Winit {
            shared: Rc::new(Shared {
                driver,
                selector,
                frames,
                pump: Pump::default(),
            }),
            app: Lent::new(),
        })
    }

    /// Returns the handle that programs work with.
    pub fn handle(&self) -> Handle {
        self.shared.driver.handle()
    }

    /// Returns the application, lent to the reactor's callbacks while they run. Clone it into them.
    pub fn app(&self) -> Lent<A> {
        self.app.clone()
    }

    /// Begins a run. Only needed after [`Handle::stop`], while the application keeps running; the
    /// first run begins with the event loop. Can be called from a winit callback.
    ///
    /// # Errors
    /// Returns [`LifeError::AlreadyRunning`] if the reactor is running or still stopping, and
    /// [`LifeError::Closed`] after [`detach`](Winit::detach).
    pub fn start(&self) -> Result<(), LifeError> {
        self.shared.driver.start()
    }

    /// Ends the run at once, without the shutdown phases, and detaches the reactor for good: there
    /// is no next run. Connections are told that they are lost. The application goes on. Can be
    /// called from inside any callback. Dropping the last clone does the same.
    pub fn detach(&self) {
        self.shared.driver.close();
    }

    fn start_unless_running(&self) {
        // An error means that it runs already, or that the program has detached it.
        let _ = self.start();
    }

    fn is_running(&self) -> bool {
        self.shared.driver.is_running()
    }

    /// Returns whether work is queued that no event will announce.
    fn is_due(&self) -> bool {
        self.shared.driver.next_turn() == NextTurn::Now
    }

    /// Closes the reactor if it fails: it would fail again at once, for ever.
    fn slice(&self, app: &mut A) -> io::Result<()> {
        let driver = &self.shared.driver;
        self.app.lend(app, || {
            driver
                .slice(driver.budget())
                .inspect_err(|_| driver.close())
        })
    }

    /// Drives the run to its end.
    fn shut_down(&self, app: &mut A) {
        // An error means that it is already stopping, or that there is no run.
        self.handle().stop();
        self.app.lend(app, || {
            while self.is_running() {
                if let Err(error) = self.shared.driver.turn(None) {
                    tracing::error!(
                        %error,
                        "the shutdown was cut short: \
                         the operating system refused to wait for events"
                    );
                    // Otherwise the run would never end.
                    self.detach();
                }
            }
        });
    }
}

impl<A> fmt::Debug for Winit<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Winit")
            .field("handle", &self.handle())
            .field("app", &self.app)
            .finish_non_exhaustive()
    }
}

impl<A> Clone for Winit<A> {
    fn clone(&self) -> Self {
        Winit {
            shared: self.shared.clone(),
            app: self.app.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use entwined::reactor::{Event, Interest, Key, Notify, Reactor, Source};

    use super::*;

    /// A selector that can only fail.
    struct Broken(Rc<Selector>);

    impl Reactor for Broken {
        fn watch(&self, _: Source<'_>, _: Key, _: Interest) -> io::Result<()> {
            Ok(())
        }

        fn rearm(&self, _: Source<'_>, _: Key, _: Interest) -> io::Result<()> {
            Ok(())
        }

        fn unwatch(&self, _: Source<'_>, _: Key) -> io::Result<()> {
            Ok(())
        }

        fn select(&self, _: Option<Duration>, _: &mut Vec<Event>) -> io::Result<()> {
            Err(io::Error::other("broken"))
        }

        fn set_deadline(&self, _: Option<Instant>) {}

        fn notifier(&self) -> Arc<dyn Notify> {
            Reactor::notifier(&self.0)
        }

        fn now(&self) -> Instant {
            Instant::now()
        }
    }

    /// A running network that cannot wait, and what its only task keeps.
    fn broken() -> (Winit<()>, Rc<()>) {
        let selector = Rc::new(Selector::new().expect("a selector"));
        let driver = Driver::new(Broken(selector.clone()), ());
        let network = Winit::<()> {
            shared: Rc::new(Shared {
                frames: Frames::new(driver.handle()),
                driver,
                selector,
                pump: Pump::default(),
            }),
            app: Lent::new(),
        };
        network.start().expect("a run");
        let kept = Rc::new(());
        network.handle().spawn({
            let kept = kept.clone();
            async move {
                std::future::pending::<()>().await;
                drop(kept);
            }
        });
        (network, kept)
    }

    #[test]
    fn a_shutdown_that_a_broken_selector_cuts_short_ends_the_run() {
        let (network, kept) = broken();
        network.shut_down(&mut ());
        assert!(!network.is_running());
        assert_eq!(Rc::strong_count(&kept), 1, "the task is gone");
    }

    #[test]
    fn a_slice_that_a_broken_selector_refuses_ends_the_run() {
        let (network, kept) = broken();
        assert!(network.slice(&mut ()).is_err());
        assert!(!network.is_running());
        assert_eq!(Rc::strong_count(&kept), 1, "the task is gone");
    }
}
