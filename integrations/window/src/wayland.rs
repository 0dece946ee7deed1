//! A guest on the toolkit's connection to a Wayland compositor.
//!
//! ```no_run
//! use entwined::Handle;
//! use entwined_window::{Error, wayland::Inhibitor};
//! use raw_window_handle::{HasDisplayHandle, HasWindowHandle};
//!
//! /// The screen stays on while the result lives.
//! fn keep_awake(
//!     network: &Handle,
//!     display: impl HasDisplayHandle + 'static,
//!     window: impl HasWindowHandle + HasDisplayHandle + 'static,
//! ) -> Result<Inhibitor, Error> {
//!     Inhibitor::new(network, display, window)
//! }
//! ```

mod inhibitor;
mod presentation;

use std::{
    cell::{Cell, RefCell},
    fmt,
    os::fd::OwnedFd,
    rc::Rc,
};

use entwined::{
    Handle,
    deferred::{Deferred, Interrupted, Resolver},
    reactor::{Direction, Interest, Registration, TurnHook},
};
pub use inhibitor::Inhibitor;
pub use presentation::{Presentation, Presented};
use raw_window_handle::HasDisplayHandle;
use wayland_client::{Connection, EventQueue, QueueHandle};

use crate::{Error, sys};

/// An event queue on a toolkit's connection. Its events go to `D` (through
/// [`Dispatch`](wayland_client::Dispatch)) in the reactor's turns.
///
/// The toolkit still reads the connection, in its own loop; the guest never does. The guest's
/// requests are sent at the end of each turn. Dropping the guest ends its queue; libwayland
/// discards events that arrive for its objects later.
pub struct Guest<D: 'static> {
    inner: Rc<Inner<D>>,
    _hook: TurnHook,
}

struct Inner<D> {
    connection: Connection,
    /// The toolkit's socket. Causes a turn when something has arrived, in each run.
    socket: Registration<OwnedFd>,
    /// Borrowed while events are dispatched: the state's callbacks may get here again.
    queue: RefCell<EventQueue<D>>,
    /// For objects that are made while events are dispatched.
    queue_handle: QueueHandle<D>,
    state: RefCell<D>,
    /// A turn has not looked, because the state was borrowed.
    missed: Cell<bool>,
    failed: Cell<bool>,
    gone: RefCell<Vec<Resolver<String, Interrupted>>>,
    why: RefCell<Option<String>>,
}

impl<D: 'static> Guest<D> {
    /// Creates a guest on this display. The display is kept until the process ends, because objects
    /// of its connection may be kept anywhere: pass an owned handle that is cheap to clone, such as
    /// winit's `OwnedDisplayHandle`. `handle`'s reactor must run in the toolkit's loop.
    ///
    /// # Errors
    /// Returns [`Error::OtherSystem`] if the display is not a Wayland display, and
    /// [`Error::Display`] if the connection is broken or no file descriptors are left.
    pub fn new(
        handle: &Handle,
        display: impl HasDisplayHandle + 'static,
        state: D,
    ) -> Result<Self, Error> {
        let toolkit = sys::Toolkit::new(display)?;
        let socket = toolkit
            .connection()
            .backend()
            .poll_fd()
            .try_clone_to_owned()
            .map_err(Error::display)?;
        let socket = Registration::new(handle, socket, Interest::READABLE)
            .map_err(|error| Error::display(error.error))?;
        // Nothing fails any more, so the display is not kept in vain.
        let connection = toolkit.keep();
        let queue = connection.new_event_queue();
        let inner = Rc::new(Inner {
            queue_handle: queue.handle(),
            queue: RefCell::new(queue),
            missed: Cell::new(false),
            connection,
            socket,
            state: RefCell::new(state),
            failed: Cell::new(false),
            gone: RefCell::default(),
            why: RefCell::default(),
        });
        let hook = handle.on_turn({
            let inner = inner.clone();
            move || inner.look()
        });
        Ok(Guest { inner, _hook: hook })
    }

    /// Returns the connection, for its globals: the registry
    /// (`connection().display().get_registry(…)`).
    pub fn connection(&self) -> &Connection {
        &self.inner.connection
    }

    /// Returns the queue, for new objects whose events go to the state.
    pub fn queue_handle(&self) -> QueueHandle<D> {
        self.inner.queue_handle.clone()
    }

    /// Calls `function` with the state.
    ///
    /// # Panics
    /// Panics inside a callback of the state itself, which has the state as an argument.
    pub fn with<R>(&self, function: impl FnOnce(&mut D) -> R) -> R {
        let _looks = Looks(&self.inner);
        function(&mut self.inner.state.borrow_mut())
    }

    /// Fires with the reason when the compositor is gone, or has closed the connection because of a
    /// protocol error (the toolkit's or a guest's).
    pub fn gone(&self) -> Deferred<String, Interrupted> {
        let (resolver, deferred) = Deferred::new();
        match &*self.inner.why.borrow() {
            Some(why) => resolver.resolve(why.clone()),
            None => {
                let mut gone = self.inner.gone.borrow_mut();
                gone.retain(|other| other.is_wanted());
                gone.push(resolver);
            }
        }
        deferred
    }
}

/// When this is dropped, the state is free again.
struct Looks<'a, D: 'static>(&'a Inner<D>);

impl<D: 'static> Drop for Looks<'_, D> {
    fn drop(&mut self) {
        self.0.look_again();
    }
}

impl<D> Inner<D> {
    /// Dispatches what the toolkit has read for the guest, and sends pending requests.
    fn look(&self) {
        // The socket has done its part: it has caused this turn. The next one is for a new event.
        self.socket.clear(Direction::Read);
        if self.failed.get() {
            return;
        }
        // This is a turn inside a callback of the state, or inside `with`: there is another one
        // when it has returned.
        let (Ok(mut queue), Ok(mut state)) =
            (self.queue.try_borrow_mut(), self.state.try_borrow_mut())
        else {
            self.missed.set(true);
            return;
        };
        let result = queue
            .dispatch_pending(&mut *state)
            .map_err(|error| error.to_string());
        let result = result.and_then(|_| match self.connection.flush() {
            // The socket is full; the next turn tries again.
            Err(wayland_client::backend::WaylandError::Io(error))
                if error.kind() == std::io::ErrorKind::WouldBlock =>
            {
                Ok(())
            }
            result => result.map_err(|error| error.to_string()),
        });
        drop((queue, state));
        self.look_again();
        if let Err(why) = result {
            self.fail(why);
        }
    }

    /// Asks for a turn, if one has not looked.
    fn look_again(&self) {
        if self.missed.take() {
            self.socket.handle().call_soon(|| ());
        }
    }

    fn fail(&self, why: String) {
        self.failed.set(true);
        tracing::warn!("the Wayland display is gone: {why}");
        *self.why.borrow_mut() = Some(why.clone());
        let waiting = self.gone.take();
        for resolver in waiting {
            resolver.resolve(why.clone());
        }
    }
}

impl<D> fmt::Debug for Guest<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest")
            .field("gone", &self.inner.why.borrow())
            .finish_non_exhaustive()
    }
}
