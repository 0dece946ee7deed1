//! Pumps winit's events inside the reactor's loop.

use std::{
    cell::Cell,
    error::Error,
    fmt, io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use winit::{
    application::ApplicationHandler,
    event::{DeviceEvent, DeviceId, StartCause, WindowEvent},
    event_loop::{ActiveEventLoop, ControlFlow, EventLoop},
    platform::pump_events::{EventLoopExtPumpEvents, PumpStatus},
    window::WindowId,
};

use crate::Winit;

impl<A> Winit<A> {
    /// Runs the application and the reactor until the application exits. The reactor can run again
    /// afterwards; winit's event loops cannot.
    ///
    /// The application's callbacks come as winit's `run_app` would call them, with one more
    /// iteration (`new_events`, `about_to_wait`) whenever the network was served.
    ///
    /// # Errors
    /// Returns [`RunError::Exit`] if winit ends with a code other than 0: the Wayland display went
    /// away (when an X11 display does, Xlib ends the process itself). Returns [`RunError::Wait`] if
    /// the operating system refuses to wait, which ends the loop at once.
    pub fn run<T: 'static>(&self, mut event_loop: EventLoop<T>, app: &mut A) -> Result<(), RunError>
    where
        A: ApplicationHandler<T>,
    {
        self.start_unless_running();
        loop {
            match self.iterate(&mut event_loop, None, app)? {
                PumpStatus::Exit(0) => return Ok(()),
                PumpStatus::Exit(code) => return Err(RunError::Exit(code)),
                PumpStatus::Continue => {}
            }
        }
    }

    /// Makes one iteration, for a program that has a loop of its own: waits until the window or the
    /// network has events, for at most `wait` (without limit if `None`), and serves both.
    /// [`run`](Winit::run) does little else.
    ///
    /// Unlike `run`, this does not begin a run of the reactor; [`start`](Winit::start) does. winit
    /// cannot be pumped from inside a callback. Always pass the same event loop.
    ///
    /// # Errors
    /// Returns [`RunError::Wait`] if the operating system refuses to wait. If it refuses to report
    /// the network's events, the reactor is closed as well.
    pub fn pump<T: 'static>(
        &self,
        event_loop: &mut EventLoop<T>,
        wait: Option<Duration>,
        app: &mut A,
    ) -> Result<PumpStatus, RunError>
    where
        A: ApplicationHandler<T>,
    {
        // Also requests that the program has made since the last call may have read events.
        if self.shared.pump.quiet.get() {
            let status = self.pump_events(event_loop, app)?;
            if matches!(status, PumpStatus::Exit(_)) || !self.shared.pump.quiet.get() {
                return Ok(status);
            }
        }
        self.iterate(event_loop, wait, app)
    }

    fn iterate<T: 'static>(
        &self,
        event_loop: &mut EventLoop<T>,
        wait: Option<Duration>,
        app: &mut A,
    ) -> Result<PumpStatus, RunError>
    where
        A: ApplicationHandler<T>,
    {
        let pump = &self.shared.pump;
        // Requests made by the application's code may have read events from the display's socket
        // into winit's queue, where no fd announces them. Only a quiet pump, one that runs none of
        // that code, leaves nothing behind. The program may have asked for a turn since then.
        if pump.quiet.get() && !self.is_due() {
            let due = self.sleep(event_loop, pump.control_flow.get(), wait)?;
            pump.due.set(due);
        }
        self.pump_events(event_loop, app)
    }

    /// Serves both sides without waiting.
    fn pump_events<T: 'static>(
        &self,
        event_loop: &mut EventLoop<T>,
        app: &mut A,
    ) -> Result<PumpStatus, RunError>
    where
        A: ApplicationHandler<T>,
    {
        let mut pumped = Pumped {
            winit: self,
            app,
            cause: None,
            failure: None,
        };
        let status = event_loop.pump_app_events(Some(Duration::ZERO), &mut pumped);
        match (status, pumped.failure) {
            (PumpStatus::Continue, Some(error)) => Err(RunError::Wait(error)),
            (status, _) => Ok(status),
        }
    }

    /// Sleeps until either side has events or the application's deadline is reached, for at most
    /// `wait`. Returns true if the network has events.
    fn sleep(
        &self,
        event_loop: &impl AsFd,
        control_flow: ControlFlow,
        wait: Option<Duration>,
    ) -> io::Result<bool> {
        let timeout = match control_flow {
            ControlFlow::Poll => Some(Duration::ZERO),
            ControlFlow::Wait => None,
            ControlFlow::WaitUntil(instant) => {
                Some(instant.saturating_duration_since(Instant::now()))
            }
        };
        let timeout = [timeout, wait].into_iter().flatten().min();
        // A timeout that does not fit into a `Timespec` means forever.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut fds = [
            PollFd::new(event_loop, PollFlags::IN),
            PollFd::new(&*self.shared.selector, PollFlags::IN),
        ];
        // Outside a run, nothing would read the selector's events.
        let count = if self.is_running() { 2 } else { 1 };
        match poll(&mut fds[..count], timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(!fds[1].revents().is_empty()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The application as winit sees it.
///
/// winit calls `new_events` and `about_to_wait` in each pump. Like winit's own loop, this withholds
/// them from the application until something happens.
struct Pumped<'a, A> {
    winit: &'a Winit<A>,
    app: &'a mut A,
    /// Why the iteration began; `Some` until the application was told.
    cause: Option<StartCause>,
    failure: Option<io::Error>,
}

/// What one iteration leaves for the next.
pub(crate) struct Pump {
    /// Whether the network has events.
    due: Cell<bool>,
    /// Whether the last iteration ran none of the program's code.
    quiet: Cell<bool>,
    control_flow: Cell<ControlFlow>,
}

impl Default for Pump {
    fn default() -> Self {
        Pump {
            due: Cell::new(true),
            quiet: Cell::new(false),
            control_flow: Cell::new(ControlFlow::Wait),
        }
    }
}

impl<A> Pumped<'_, A> {
    /// Returns the application, after telling it that an iteration has begun.
    fn app<T: 'static>(&mut self, event_loop: &ActiveEventLoop) -> &mut A
    where
        A: ApplicationHandler<T>,
    {
        if let Some(cause) = self.cause.take() {
            self.app.new_events(event_loop, cause);
        }
        self.app
    }
}

impl<T: 'static, A: ApplicationHandler<T>> ApplicationHandler<T> for Pumped<'_, A> {
    fn new_events(&mut self, event_loop: &ActiveEventLoop, cause: StartCause) {
        self.cause = Some(cause);
        let due = self.winit.shared.pump.due.take() || self.winit.is_due();
        if due || !matches!(cause, StartCause::WaitCancelled { .. }) {
            self.app(event_loop);
        }
    }

    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        self.app(event_loop).resumed(event_loop);
    }

    fn user_event(&mut self, event_loop: &ActiveEventLoop, event: T) {
        self.app(event_loop).user_event(event_loop, event);
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, window: WindowId, event: WindowEvent) {
        let winit = self.winit;
        let app = self.app(event_loop);
        winit
            .shared
            .frames
            .during(event_loop, window, event, |event| {
                app.window_event(event_loop, window, event)
            });
    }

    fn device_event(&mut self, event_loop: &ActiveEventLoop, device: DeviceId, event: DeviceEvent) {
        self.app(event_loop).device_event(event_loop, device, event);
    }

    fn about_to_wait(&mut self, event_loop: &ActiveEventLoop) {
        let (winit, quiet) = (self.winit, self.cause.take().is_some());
        winit.shared.pump.quiet.set(quiet);
        if quiet {
            winit
                .shared
                .pump
                .control_flow
                .set(event_loop.control_flow());
            return;
        }
        if let Err(error) = self.winit.slice(self.app) {
            self.failure = Some(error);
        }
        self.app.about_to_wait(event_loop);
        let control_flow = event_loop.control_flow();
        winit.shared.pump.control_flow.set(control_flow);
        winit.shared.frames.wants(control_flow);
    }

    fn suspended(&mut self, event_loop: &ActiveEventLoop) {
        self.app(event_loop).suspended(event_loop);
    }

    fn exiting(&mut self, event_loop: &ActiveEventLoop) {
        self.winit.shut_down(self.app);
        self.app.exiting(event_loop);
    }

    fn memory_warning(&mut self, event_loop: &ActiveEventLoop) {
        self.app(event_loop).memory_warning(event_loop);
    }
}

/// Why [`Winit::run`] ended without the application's request.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// winit ended with this code, which is not 0: most likely the connection to the display was
    /// lost. The reactor has shut down gracefully.
    Exit(i32),
    /// The operating system refused to wait for events.
    Wait(io::Error),
}

impl From<io::Error> for RunError {
    fn from(error: io::Error) -> Self {
        RunError::Wait(error)
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Exit(code) => write!(f, "winit's event loop ended with code {code}"),
            RunError::Wait(_) => f.write_str("the operating system refused to wait for events"),
        }
    }
}

impl Error for RunError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            RunError::Exit(_) => None,
            RunError::Wait(error) => Some(error),
        }
    }
}
