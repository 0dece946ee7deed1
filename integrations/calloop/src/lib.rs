//! Entwined on [calloop]: network code in the thread of a Wayland compositor, or of whatever else
//! runs on a calloop loop.
//!
//! [`insert`] puts a reactor into a loop. Its [`Handle`] is what network code works with; through
//! the [`Lent`] beside it, every timer, task and connection reaches the loop's own `&mut Data`.
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
//! let network = entwined_calloop::insert(&event_loop.handle())?;
//!
//! network.handle.call_later(Duration::from_millis(5), {
//!     let data = network.data.clone();
//!     move || {
//!         data.with(|state| state.ticks += 1).expect("the loop's data is lent to the reactor's callbacks");
//!         signal.stop();
//!     }
//! });
//!
//! let mut state = State::default();
//! event_loop.run(None, &mut state, |_| {})?;
//! assert_eq!(state.ticks, 1);
//! # Ok::<(), calloop::Error>(())
//! ```
//!
//! # How it works
//!
//! The loop watches one fd, whatever the number of connections, and is asked for nothing else:
//! deadlines and wake-ups from other threads come by that fd too. Before each sleep the source
//! tells calloop whether work is queued, for example because a callback of the host wrote to a
//! connection. Each dispatch gives the network one slice of time, 2 ms at most unless the host has
//! a [frame clock](Handle::frame_clock), and then the host's other sources have theirs; what is
//! left over is done in the next dispatch, which does not sleep.
//!
//! # A run, its end, and another one
//!
//! The run begins when the source is inserted. [`Handle::stop`] ends it in order, through the
//! shutdown phases, and then the source disables itself like any source that has nothing more to
//! say. The loop goes on. [`LoopHandle::enable`] with the source's token begins the next run.
//! [`LoopHandle::disable`] during a run pauses it: nothing is served until it is enabled again.
//! [`LoopHandle::remove`] (or dropping the loop) ends it at once and for good, without the phases;
//! connections still hear that they are lost.
//!
//! # Limits
//!
//! A calloop loop cannot be iterated from inside its callbacks. While [`Handle::wait`] waits there,
//! the reactor goes on, but the host's other sources do not. Callbacks that run within such a wait
//! reach the data only if it is lent: the reactor's own callbacks have it lent (but not inside of a
//! [`Lent::with`]), those of another source can lend theirs with [`Lent::lend`].
#![forbid(unsafe_code)]

use std::{
    cell::Cell,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    time::Duration,
};

use calloop::{
    EventSource, Interest, LoopHandle, Mode, Poll, PostAction, Readiness, RegistrationToken, Token,
    TokenFactory, generic::Generic,
};
use entwined::{
    Handle,
    reactor::{Driver, Next, Selector},
};
pub use entwined_lend::{Lent, NotLent};

/// Puts a reactor into a loop and starts it. For another budget, or to lend something else than all
/// of the data, insert a [`ReactorSource`] by hand.
///
/// May be called from inside a callback of the loop.
///
/// # Errors
/// When the process or the system is out of file descriptors.
pub fn insert<'l, Data: 'l>(event_loop: &LoopHandle<'l, Data>) -> calloop::Result<Inserted<Data>> {
    let source = ReactorSource::new()?;
    let handle = source.handle();
    let data = Lent::new();
    let lender = data.clone();
    let token = event_loop.insert_source(source, move |slice, _, data| {
        lender.lend(data, || slice.run())
    })?;
    Ok(Inserted {
        handle,
        data,
        token,
    })
}

/// A reactor in a loop; see [`insert`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Inserted<Data> {
    /// What network code works with.
    pub handle: Handle,
    /// The loop's data, lent to the reactor's callbacks while they run. Clone it into them.
    pub data: Lent<Data>,
    /// Names the source to the loop: disables, enables or removes it.
    pub token: RegistrationToken,
}

/// A reactor as an event source. Its events are [`Slice`]s of time that the callback must run.
///
/// ```
/// use std::time::Duration;
///
/// use entwined_calloop::{Lent, ReactorSource};
///
/// struct State {
///     served: u32,
///     // And much that is not the network's.
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
/// network.call_soon(move || served.with(|served| *served += 1).expect("it is lent"));
/// let mut state = State { served: 0 };
/// event_loop.dispatch(None, &mut state)?;
/// assert_eq!(state.served, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ReactorSource {
    driver: Rc<Driver>,
    /// Registers the selector's fd. Level-triggered: see [`Selector`].
    fd: Generic<Rc<Selector>>,
    /// For the events that come from the queue of leftovers and not from the fd. There while the
    /// source is registered.
    token: Option<Token>,
    /// Whether this dispatch has had its slice: the fd and the queue may both call for one.
    served: Cell<bool>,
}

impl ReactorSource {
    /// A reactor that begins to run when it is inserted into a loop.
    ///
    /// # Errors
    /// When the process or the system is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let selector = Rc::new(Selector::new()?);
        Ok(ReactorSource {
            driver: Rc::new(Driver::new(selector.clone())),
            fd: Generic::new(selector, Interest::READ, Mode::Level),
            token: None,
            served: Cell::new(false),
        })
    }

    /// The handle that programs work with.
    pub fn handle(&self) -> Handle {
        self.driver.handle()
    }
}

impl EventSource for ReactorSource {
    type Event = Slice;
    type Metadata = ();
    type Ret = io::Result<()>;
    type Error = io::Error;

    /// Calls for [`before_sleep`](EventSource::before_sleep).
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
            callback(
                Slice {
                    driver: self.driver.clone(),
                },
                &mut (),
            )?;
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

    /// Keeps the loop from sleeping while something is queued, or when the run ended somewhere else
    /// than in a slice.
    fn before_sleep(&mut self) -> calloop::Result<Option<(Readiness, Token)>> {
        self.served.set(false);
        let due = !self.driver.is_running() || self.driver.next() == Next::Now;
        let readiness = Readiness {
            readable: true,
            writable: false,
            error: false,
        };
        Ok(self.token.filter(|_| due).map(|token| (readiness, token)))
    }
}

/// The network's turn: some of the loop's time. A slice that is not run is asked for again at once,
/// so the loop would not sleep any more.
#[must_use = "the reactor lives by its slices: `run` it"]
pub struct Slice {
    driver: Rc<Driver>,
}

impl Slice {
    /// Serves what is ready, for at most what the [pacing](Handle::set_pacing) says and the rest of
    /// one callback: 2 ms, or until the next frame is due if the host has told of its frames by a
    /// [`FrameClock`](entwined::reactor::FrameClock). Panics of the callbacks are caught and
    /// reported.
    ///
    /// # Errors
    /// When the operating system refuses to report events.
    pub fn run(self) -> io::Result<()> {
        let budget = self.driver.budget();
        self.run_for(budget)
    }

    /// Serves what is ready, for at most `budget` and the rest of one callback; see
    /// [`run`](Slice::run). With a budget of zero, that is one callback.
    pub fn run_for(self, budget: Duration) -> io::Result<()> {
        // A panic would end the whole dispatch, and with it other sources' events.
        catch_unwind(AssertUnwindSafe(|| self.driver.slice(budget))).unwrap_or_else(|_| {
            tracing::error!("a slice of a reactor panicked outside of its callbacks");
            Ok(())
        })
    }
}
