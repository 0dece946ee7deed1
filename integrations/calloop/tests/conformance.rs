//! The conformance suite on calloop.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use calloop::{
    EventLoop, LoopHandle, RegistrationToken,
    ping::make_ping,
    timer::{TimeoutAction, Timer},
};
use entwined::{Handle, reactor::LifeError};
use entwined_calloop::ReactorSource;
use entwined_conformance::Harness;

#[derive(Clone)]
struct Calloop {
    event_loop: Rc<RefCell<EventLoop<'static, ()>>>,
    host: LoopHandle<'static, ()>,
    handle: Handle,
    place: Rc<Cell<Place>>,
}

/// Where the reactor is.
#[derive(Default)]
enum Place {
    /// Not in the loop yet.
    Apart(ReactorSource),
    InLoop(RegistrationToken),
    #[default]
    Gone,
}

impl Calloop {
    fn on(event_loop: Rc<RefCell<EventLoop<'static, ()>>>, host: LoopHandle<'static, ()>) -> Self {
        let source = ReactorSource::new().expect("a selector");
        let handle = source.handle();
        Calloop {
            event_loop,
            host,
            handle,
            place: Rc::new(Cell::new(Place::Apart(source))),
        }
    }
}

impl Harness for Calloop {
    const NAME: &'static str = "calloop";

    fn new() -> Self {
        let event_loop = EventLoop::try_new().expect("a loop");
        let host = event_loop.handle();
        Self::on(Rc::new(RefCell::new(event_loop)), host)
    }

    fn another(&self) -> Self {
        Self::on(self.event_loop.clone(), self.host.clone())
    }

    fn handle(&self) -> Handle {
        self.handle.clone()
    }

    fn attach(&self) -> Result<(), LifeError> {
        if self.handle.is_running() {
            return Err(LifeError::AlreadyRunning);
        }
        match self.place.take() {
            Place::Apart(source) => {
                let token = self
                    .host
                    .insert_source(source, |slice, _, ()| slice.run())
                    .expect("it is inserted");
                self.place.set(Place::InLoop(token));
            }
            Place::InLoop(token) => {
                self.host.enable(&token).expect("it is in the loop");
                self.place.set(Place::InLoop(token));
            }
            Place::Gone => return Err(LifeError::Closed),
        }
        Ok(())
    }

    fn detach(&self) {
        match self.place.take() {
            Place::Apart(source) => drop(source),
            Place::InLoop(token) => self.host.remove(token),
            Place::Gone => {}
        }
    }

    fn iterate(&self, wait: Option<Duration>) {
        self.event_loop
            .borrow_mut()
            .dispatch(wait, &mut ())
            .expect("calloop works");
    }

    fn host_call(&self, delay: Duration, callback: Box<dyn FnOnce()>) {
        let mut callback = Some(callback);
        let call = move |_, _: &mut (), (): &mut ()| {
            callback.take().expect("it is dropped after one call")();
            TimeoutAction::Drop
        };
        self.host
            .insert_source(Timer::from_duration(delay), call)
            .expect("a timer");
    }

    /// Uses a source that is always ready.
    fn keep_busy(&self, mut work: Box<dyn FnMut() -> bool>) {
        let (ping, source) = make_ping().expect("an eventfd");
        ping.ping();
        let mut ping = Some(ping);
        let call = move |(), _: &mut (), (): &mut ()| {
            if work() {
                ping.as_ref().expect("it is dropped at the end").ping();
            } else {
                ping = None;
            }
        };
        self.host.insert_source(source, call).expect("a source");
    }

    fn cannot_show() -> &'static [(&'static str, &'static str)] {
        const REASON: &str = "a calloop loop cannot be dispatched from inside one of its \
                              callbacks; the reactor's own work continues";
        &[
            ("b49_the_host_goes_on_inside_the_nested_loop", REASON),
            (
                "b58_what_a_callback_queues_is_done_in_the_dialog_that_it_opens",
                REASON,
            ),
            (
                "b58_what_waits_behind_a_callback_is_done_in_the_dialog_that_it_opens",
                REASON,
            ),
        ]
    }
}

entwined_conformance::conformance!(Calloop);
