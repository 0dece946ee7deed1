//! The conformance suite on winit, in both ways to run. Needs a display.
//!
//! winit allows one event loop a process, so all harnesses share it. The loop is iterated by
//! winit's own `pump_app_events`, because its `run_app` does not return; on X11 and on Wayland,
//! `run_app` calls nothing else, without a limit for the wait.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use entwined::{Handle, reactor::LifeError};
use entwined_conformance::{Harness, run_all};
use entwined_winit::{Hosted, UserEvent, Winit};
use winit::{
    application::ApplicationHandler,
    event::{StartCause, WindowEvent},
    event_loop::{ActiveEventLoop, ControlFlow, EventLoop, EventLoopProxy},
    platform::pump_events::{EventLoopExtPumpEvents, PumpStatus},
    window::WindowId,
};

type Loop = EventLoop<UserEvent>;

thread_local! {
    /// The loop, while it is not being iterated.
    static LOOP: Cell<Option<Loop>> = Cell::new(Some(new_loop()));
    static PROXY: RefCell<Option<EventLoopProxy<UserEvent>>> = const { RefCell::new(None) };
}

/// The loop, taken for an iteration. A test that fails in one puts it back for the others.
struct Taken(Option<Loop>);

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(event_loop) = self.0.take() {
            LOOP.set(Some(event_loop));
        }
    }
}

fn new_loop() -> Loop {
    let mut event_loop = Loop::with_user_event()
        .build()
        .expect("a display; set DISPLAY, for example to that of an Xvfb");
    PROXY.set(Some(event_loop.create_proxy()));
    // The loop's first iteration would start a reactor.
    let _ = event_loop.pump_app_events(Some(Duration::ZERO), &mut App::default());
    event_loop
}

/// The host: timers that an application calls.
#[derive(Clone, Default)]
struct App(Rc<Timers>);

#[derive(Default)]
struct Timers {
    calls: RefCell<BTreeMap<(Instant, u64), HostCall>>,
    number: Cell<u64>,
}

type HostCall = Box<dyn FnOnce()>;

impl Timers {
    fn insert(&self, delay: Duration, callback: Box<dyn FnOnce()>) {
        let number = self.number.get();
        self.number.set(number + 1);
        let key = (Instant::now() + delay, number);
        self.calls.borrow_mut().insert(key, callback);
    }

    fn control_flow(&self) -> ControlFlow {
        let calls = self.calls.borrow();
        let first = calls.keys().next();
        first.map_or(ControlFlow::Wait, |key| ControlFlow::WaitUntil(key.0))
    }

    /// Calls what is due now, but not what these calls add.
    fn call_due(&self) {
        let (now, mark) = (Instant::now(), self.number.get());
        loop {
            let mut calls = self.calls.borrow_mut();
            let due = calls
                .keys()
                .copied()
                .find(|key| key.0 <= now && key.1 < mark);
            let Some(call) = due.and_then(|key| calls.remove(&key)) else {
                return;
            };
            drop(calls);
            call();
        }
    }
}

/// Both ways use the same event loop, but the application's own events differ in type.
impl<T: 'static> ApplicationHandler<T> for App {
    fn new_events(&mut self, _: &ActiveEventLoop, _: StartCause) {
        self.0.call_due();
    }

    fn resumed(&mut self, _: &ActiveEventLoop) {}

    fn window_event(&mut self, _: &ActiveEventLoop, _: WindowId, _: WindowEvent) {}

    fn about_to_wait(&mut self, event_loop: &ActiveEventLoop) {
        event_loop.set_control_flow(self.0.control_flow());
    }
}

const NESTED: &str = "winit cannot be iterated from inside one of its callbacks; the reactor's own \
                      work continues";

/// What neither way can show.
const NO_NESTED_LOOPS: &[(&str, &str)] = &[
    (
        "b02_two_reactors_beside_each_other",
        "winit allows one event loop in a process, and it cannot be iterated from inside one of \
         its callbacks",
    ),
    ("b49_the_host_goes_on_inside_the_nested_loop", NESTED),
    (
        "b58_what_a_callback_queues_is_done_in_the_dialog_that_it_opens",
        NESTED,
    ),
    (
        "b58_what_waits_behind_a_callback_is_done_in_the_dialog_that_it_opens",
        NESTED,
    ),
];

/// Which loop drives the other.
trait Way: Sized + 'static {
    const NAME: &'static str;
    const CANNOT_SHOW: &'static [(&'static str, &'static str)];

    fn new(winit: &Winit<App>, event_loop: &Loop, app: App) -> Self;

    fn iterate(&mut self, event_loop: &mut Loop, wait: Option<Duration>) -> PumpStatus;
}

/// The reactor's loop pumps winit.
struct Pumped(Winit<App>, App);

impl Way for Pumped {
    const NAME: &'static str = "winit pump";
    const CANNOT_SHOW: &'static [(&'static str, &'static str)] = NO_NESTED_LOOPS;

    fn new(winit: &Winit<App>, _: &Loop, app: App) -> Self {
        Pumped(winit.clone(), app)
    }

    fn iterate(&mut self, event_loop: &mut Loop, wait: Option<Duration>) -> PumpStatus {
        self.0
            .pump(event_loop, wait, &mut self.1)
            .expect("it waits")
    }
}

/// The reactor is in winit's own loop.
struct InLoop(Hosted<'static, App, ()>);

impl Way for InLoop {
    const NAME: &'static str = "winit";
    const CANNOT_SHOW: &'static [(&'static str, &'static str)] = &[
        NO_NESTED_LOOPS[0],
        NO_NESTED_LOOPS[1],
        NO_NESTED_LOOPS[2],
        NO_NESTED_LOOPS[3],
        (
            "b60_a_timer_that_is_overdue_costs_one_slice",
            "while a callback holds the loop, the thread that waits in its place sees the timer \
             and wakes the loop, whose iteration serves the timer anyway",
        ),
    ];

    fn new(winit: &Winit<App>, event_loop: &Loop, app: App) -> Self {
        // It is small, and a process runs 300 tests.
        let app = Box::leak(Box::new(app));
        InLoop(winit.host(event_loop, app).expect("a thread"))
    }

    fn iterate(&mut self, event_loop: &mut Loop, wait: Option<Duration>) -> PumpStatus {
        event_loop.pump_app_events(wait, &mut self.0)
    }
}

struct OnWinit<W> {
    winit: Rc<RefCell<Option<Winit<App>>>>,
    handle: Handle,
    app: App,
    way: Rc<RefCell<W>>,
}

impl<W> Clone for OnWinit<W> {
    fn clone(&self) -> Self {
        OnWinit {
            winit: self.winit.clone(),
            handle: self.handle.clone(),
            app: self.app.clone(),
            way: self.way.clone(),
        }
    }
}

impl<W: Way> OnWinit<W> {
    fn on(app: App) -> Self {
        let winit = Winit::new().expect("file descriptors");
        let event_loop = LOOP.take().expect("no iteration is on the stack");
        let way = W::new(&winit, &event_loop, app.clone());
        LOOP.set(Some(event_loop));
        OnWinit {
            handle: winit.handle(),
            winit: Rc::new(RefCell::new(Some(winit))),
            app,
            way: Rc::new(RefCell::new(way)),
        }
    }
}

impl<W: Way> Harness for OnWinit<W> {
    const NAME: &'static str = W::NAME;
    const BUDGET: Duration = Duration::from_millis(4);

    fn new() -> Self {
        Self::on(App::default())
    }

    fn another(&self) -> Self {
        Self::on(self.app.clone())
    }

    fn handle(&self) -> Handle {
        self.handle.clone()
    }

    fn attach(&self) -> Result<(), LifeError> {
        let winit = self.winit.borrow().clone().ok_or(LifeError::Closed)?;
        winit.start()?;
        // Outside of winit's callbacks, which a program never is while the loop runs, nothing else
        // makes winit's loop look at the reactor.
        PROXY.with_borrow(|proxy| {
            let proxy = proxy.as_ref().expect("the loop was made");
            proxy
                .send_event(UserEvent::Wake)
                .expect("the loop is there");
        });
        Ok(())
    }

    fn detach(&self) {
        let winit = self.winit.take();
        if let Some(winit) = winit {
            winit.detach();
        }
    }

    fn iterate(&self, wait: Option<Duration>) {
        let mut taken = Taken(LOOP.take());
        let event_loop = taken
            .0
            .as_mut()
            .expect("winit cannot be iterated from inside its callbacks");
        event_loop.set_control_flow(self.app.0.control_flow());
        let status = self.way.borrow_mut().iterate(event_loop, wait);
        assert!(matches!(status, PumpStatus::Continue));
    }

    fn host_call(&self, delay: Duration, callback: Box<dyn FnOnce()>) {
        self.app.0.insert(delay, callback);
    }

    fn cannot_show() -> &'static [(&'static str, &'static str)] {
        W::CANNOT_SHOW
    }
}

fn main() -> ExitCode {
    let passed = [run_all::<OnWinit<Pumped>>(), run_all::<OnWinit<InLoop>>()];
    ExitCode::from(u8::from(passed.contains(&false)))
}
