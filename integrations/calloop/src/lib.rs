//! Entwined on [calloop]: network code in the thread of a Wayland compositor, or of any other
//! program that runs a calloop loop.
//!
//! [`attach`] puts a reactor into a loop. Network code works with its [`Handle`]. Through its
//! [`data`](Attachment::data), every timer, task and connection can reach the loop's own
//! `&mut Data`.
//!
//! ```
//! use std::time::Duration;
//!
//! #[derive(Default)]
//! struct State {
//!     ticks: u32,
//! }
//!
//! let mut event_loop = calloop::EventLoop::<State>::try_new()?;
//! let signal = event_loop.get_signal();
//! let network = entwined_calloop::attach(&event_loop.handle())?;
//!
//! network.call_later(Duration::from_millis(5), {
//!     let data = network.data();
//!     move || {
//!         data.with(|state| state.ticks += 1);
//!         signal.stop();
//!     }
//! });
//!
//! let mut state = State::default();
//! event_loop.run(None, &mut state, |_| {})?;
//! assert_eq!(state.ticks, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//!
//! The loop watches one fd, however many connections there are. Deadlines and wake-ups from other
//! threads arrive through that fd too. Before each sleep the source tells calloop whether work is
//! queued, for example because one of the host's callbacks wrote to a connection. Each dispatch
//! gives the network one slice of time: 2 ms at most, unless the host has a [frame
//! clock](Handle::frame_clock). Then the host's other sources run. Work that is left over is done
//! in the next dispatch, which does not sleep. The loop's own fd is readable until then, so another
//! loop may watch it.
//!
//! # Runs
//!
//! The run begins when the source is inserted. [`Handle::stop`] ends it gracefully, through the
//! shutdown phases, and then the source disables itself. The loop keeps running.
//! [`LoopHandle::enable`] with the source's token begins the next run. [`LoopHandle::disable`]
//! during a run pauses it: nothing is served until the source is enabled again.
//! Dropping the [`Attachment`] or the loop, or [`LoopHandle::remove`], ends the run at once and for
//! good, without the shutdown phases; connections are still told that they are lost. Prefer to drop
//! the attachment: in `remove`, calloop has its list of sources borrowed, so what is called or
//! dropped then must not use the [`LoopHandle`]. And inside one of the reactor's own callbacks,
//! `remove` takes effect when the slice ends.
//!
//! # Limits
//!
//! A calloop loop cannot be iterated from inside its callbacks. While [`Handle::wait`] waits in
//! such a callback, the reactor keeps running, but the host's other sources do not. Callbacks that
//! run during the wait can reach the data only if it is lent. It is lent inside the reactor's own
//! callbacks (except inside a [`Lent::with`]); callbacks of other sources can lend it with
//! [`Lent::lend`].
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

use std::{
    cell::Cell,
    fmt, io, mem,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use calloop::{
    EventSource, Interest, LoopHandle, Mode, Poll, PostAction, Readiness, RegistrationToken, Token,
    TokenFactory, generic::Generic,
};
use entwined::{
    Handle,
    reactor::{Driver, Host, NextTurn, Notify, Selector},
};
pub use entwined_lend::{Lent, NotLent};
pub use {calloop, entwined};

/// Puts a reactor into a loop and starts it. To use another budget, or to lend only part of the
/// data, insert a [`ReactorSource`] yourself.
///
/// Can be called from inside a callback of the loop.
///
/// # Errors
/// Returns an error if the process or the system is out of file descriptors.
pub fn attach<'l, Data: 'l>(event_loop: &LoopHandle<'l, Data>) -> io::Result<Attachment<'l, Data>> {
    let source = ReactorSource::new()?;
    let handle = source.handle();
    let data = Lent::new();
    let lender = data.clone();
    let driver = Rc::downgrade(&source.driver);
    let token = event_loop
        .insert_source(source, move |slice, _, data| {
            lender.lend(data, || slice.run())
        })
        .map_err(|error| io::Error::from(error.error))?;
    let event_loop = event_loop.downgrade();
    let remove = move || {
        // First of all, because what ends with the run may use the loop, whose list of sources is
        // borrowed while it removes one. It also ends a slice that is on the stack.
        if let Some(driver) = driver.upgrade() {
            driver.close();
        }
        if let Some(event_loop) = event_loop.upgrade() {
            event_loop.remove(token);
        }
    };
    Ok(Attachment {
        handle,
        data,
        token,
        remove: Some(Box::new(remove)),
    })
}

/// A reactor in a loop; see [`attach`]. It dereferences to the [`Handle`] that programs work with.
///
/// Dropping it removes the reactor from the loop: this ends the run at once and for good, without
/// the shutdown phases, even from inside one of the reactor's callbacks. Dropping the loop does the
/// same.
#[must_use = "dropping it removes the reactor from the loop; use `keep` to let it stay"]
pub struct Attachment<'l, Data> {
    handle: Handle,
    data: Lent<Data>,
    token: RegistrationToken,
    /// Removes the source from the loop. It does not keep the loop alive, whose data or callbacks
    /// may own the attachment.
    remove: Option<Box<dyn FnOnce() + 'l>>,
}

impl<Data> Attachment<'_, Data> {
    /// Returns the handle that network code works with.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Returns the loop's data, lent to the reactor's callbacks while they run. Move it into them.
    pub fn data(&self) -> Lent<Data> {
        self.data.clone()
    }

    /// Returns the source's token in the loop: use it to disable, enable or remove the source.
    pub fn token(&self) -> RegistrationToken {
        self.token
    }

    /// Removes the reactor from the loop, as dropping this does.
    pub fn detach(self) {}

    /// Leaves the reactor in the loop for as long as the loop lives.
    pub fn keep(mut self) -> Handle {
        self.remove = None;
        self.handle()
    }
}

impl<Data> Deref for Attachment<'_, Data> {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl<Data> Drop for Attachment<'_, Data> {
    fn drop(&mut self) {
        if let Some(remove) = self.remove.take() {
            remove();
        }
    }
}

impl<Data> fmt::Debug for Attachment<'_, Data> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("handle", &self.handle)
            .field("data", &self.data)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// A reactor as an event source. Its events are [`Slice`]s of time, which the callback must run.
///
/// ```
/// use std::time::Duration;
///
/// use entwined_calloop::{Lent, ReactorSource};
///
/// struct State {
///     served: u32,
///     // And other fields that the network does not need.
/// }
///
/// let mut event_loop = calloop::EventLoop::<State>::try_new()?;
/// let source = ReactorSource::new()?;
/// let network = source.handle();
/// let served = Lent::new();
/// let lender = served.clone();
/// event_loop.handle().insert_source(source, move |slice, _, state: &mut State| {
///     lender.lend(&mut state.served, || slice.run_for(Duration::from_millis(1)))
/// })?;
///
/// network.call_soon(move || served.with(|served| *served += 1));
/// let mut state = State { served: 0 };
/// event_loop.dispatch(None, &mut state)?;
/// assert_eq!(state.served, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ReactorSource {
    driver: Rc<Driver>,
    waker: Rc<Waker>,
    /// Registers the selector's fd. Level-triggered: see [`Selector`].
    fd: Generic<Rc<Selector>>,
    /// The token for events that come from the queue of leftovers rather than from the fd. `Some`
    /// while the source is registered.
    token: Option<Token>,
    /// Whether this dispatch has had its slice: both the fd and the queue may ask for one.
    served: Cell<bool>,
}

/// What makes the loop's fd readable.
struct Waker {
    /// Whether a slice is on the stack. When it ends, the source looks at what is left.
    serving: Cell<bool>,
    notifier: Arc<dyn Notify>,
}

/// The loop, as the reactor's host.
struct Loop(Rc<Waker>);

impl Host for Loop {
    /// The loop asks before each sleep, but it may be another loop that sleeps, and watches the fd
    /// of this one.
    fn request_turn(&self) {
        if !self.0.serving.get() {
            self.0.notifier.notify();
        }
    }
}

impl ReactorSource {
    /// Creates a reactor that starts to run when it is inserted into a loop.
    ///
    /// # Errors
    /// Returns an error if the process or the system is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let selector = Rc::new(Selector::new()?);
        let waker = Rc::new(Waker {
            serving: Cell::new(false),
            notifier: selector.notifier(),
        });
        Ok(ReactorSource {
            driver: Rc::new(Driver::new(selector.clone(), Loop(waker.clone()))),
            waker,
            fd: Generic::new(selector, Interest::READ, Mode::Level),
            token: None,
            served: Cell::new(false),
        })
    }

    /// Returns the handle that programs work with.
    pub fn handle(&self) -> Handle {
        self.driver.handle()
    }

    /// Whether work is queued, or the run has ended.
    fn is_due(&self) -> bool {
        !self.driver.is_running() || self.driver.next_turn() == NextTurn::Now
    }
}

impl fmt::Debug for ReactorSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReactorSource")
            .field("handle", &self.handle())
            .field("registered", &self.token.is_some())
            .finish_non_exhaustive()
    }
}

impl EventSource for ReactorSource {
    type Event = Slice;
    type Metadata = ();
    type Ret = io::Result<()>;
    type Error = io::Error;

    /// Enables the calls to [`before_sleep`](EventSource::before_sleep).
    const NEEDS_EXTRA_LIFECYCLE_EVENTS: bool = true;

    fn process_events<F>(
        &mut self,
        _: Readiness,
        _: Token,
        mut callback: F,
    ) -> io::Result<PostAction>
    where
        F: FnMut(Slice, &mut ()) -> io::Result<()>,
    {
        // The host may have disabled the source after the event was taken.
        if self.token.is_none() || self.served.replace(true) {
            return Ok(PostAction::Continue);
        }
        if self.driver.is_running() {
            self.waker.serving.set(true);
            let slice = Slice {
                driver: self.driver.clone(),
            };
            let result = callback(slice, &mut ());
            self.waker.serving.set(false);
            result?;
            if self.is_due() {
                self.waker.notifier.notify();
            }
        }
        Ok(if self.driver.is_running() {
            PostAction::Continue
        } else {
            PostAction::Disable
        })
    }

    fn register(
        &mut self,
        poll: &mut Poll,
        token_factory: &mut TokenFactory,
    ) -> calloop::Result<()> {
        if self.token.is_some() && !self.driver.is_running() {
            // The run ended outside of a slice, and the loop has not seen that yet.
            self.unregister(poll)?;
        }
        self.fd.register(poll, token_factory)?;
        self.token = Some(token_factory.token());
        if !self.driver.is_running() {
            self.driver
                .start()
                .map_err(|error| calloop::Error::OtherError(error.into()))?;
        }
        Ok(())
    }

    fn reregister(
        &mut self,
        poll: &mut Poll,
        token_factory: &mut TokenFactory,
    ) -> calloop::Result<()> {
        self.fd.reregister(poll, token_factory)?;
        self.token = Some(token_factory.token());
        Ok(())
    }

    fn unregister(&mut self, poll: &mut Poll) -> calloop::Result<()> {
        self.token = None;
        self.fd.unregister(poll)
    }

    /// Keeps the loop from sleeping while work is queued, or when the run ended outside a slice.
    fn before_sleep(&mut self) -> calloop::Result<Option<(Readiness, Token)>> {
        self.served.set(false);
        // It still is if the host's callback panicked.
        self.waker.serving.set(false);
        let due = self.is_due();
        let readiness = Readiness {
            readable: true,
            writable: false,
            error: false,
        };
        Ok(self.token.filter(|_| due).map(|token| (readiness, token)))
    }
}

/// The network's turn: a share of the loop's time. If a slice is not run, it is requested again at
/// once, and the loop never sleeps.
#[must_use = "the reactor only runs inside its slices: call `run`"]
#[derive(Debug)]
pub struct Slice {
    driver: Rc<Driver>,
}

impl Slice {
    /// Serves what is ready, for at most the budget set by the [pacing](Handle::set_pacing) plus
    /// the rest of one callback. The default is 2 ms, or until the next frame is due if the host
    /// reports its frames through a [`FrameClock`](entwined::reactor::FrameClock). Panics in the
    /// callbacks are caught and reported.
    ///
    /// # Errors
    /// Returns an error if the operating system refuses to report events. Then the reactor is
    /// closed: it would fail again at once, for ever.
    pub fn run(self) -> io::Result<()> {
        let budget = self.driver.budget();
        self.run_for(budget)
    }

    /// Serves what is ready, for at most `budget` plus the rest of one callback; see
    /// [`run`](Slice::run). With a budget of zero, it runs one callback.
    pub fn run_for(self, budget: Duration) -> io::Result<()> {
        // A panic would end the whole dispatch and lose other sources' events.
        let slice = catch_unwind(AssertUnwindSafe(|| self.driver.slice(budget)));
        let result = slice.unwrap_or_else(|panic| {
            tracing::error!("a reactor's slice panicked outside its callbacks");
            // Its destructor could panic too.
            mem::forget(panic);
            Ok(())
        });
        result.inspect_err(|_| self.driver.close())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use calloop::EventLoop;
    use entwined::reactor::{Event, Interest, Key, Reactor, Source};

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

    #[test]
    fn a_slice_that_a_broken_selector_refuses_ends_the_run() {
        let mut source = ReactorSource::new().expect("a selector");
        let selector = Broken(source.fd.get_ref().clone());
        source.driver = Rc::new(Driver::new(selector, Loop(source.waker.clone())));
        let handle = source.handle();
        let mut event_loop = EventLoop::<()>::try_new().expect("a loop");
        event_loop
            .handle()
            .insert_source(source, |slice, _, ()| slice.run())
            .expect("it starts");
        handle.call_soon(|| unreachable!("the slice fails"));
        event_loop
            .dispatch(Duration::ZERO, &mut ())
            .expect_err("the host hears of it");
        assert!(!handle.is_running());
        let (start, nap) = (Instant::now(), Duration::from_millis(30));
        for _ in 0..2 {
            event_loop.dispatch(nap, &mut ()).expect("the loop goes on");
        }
        assert!(start.elapsed() >= nap, "it sleeps");
    }
}
