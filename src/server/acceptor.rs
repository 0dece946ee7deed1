//! Accepting connections, for every kind of server: the limit, and when a server has closed.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll},
};

use crate::{
    deferred::{Canceller, Deferred, Interrupted, Resolver},
    reactor::{Handle, Origin},
    transport::{Address, ByteStream, Listen},
    wake::WakeSlot,
};

/// Default for the number of connections that a server holds at a time.
pub const DEFAULT_MAX_CONNECTIONS: usize = 10_000;

/// How often in a row a listener may panic.
const MOST_PANICS: u32 = 16;

/// Accepts connections until it is dropped or [stopped](Acceptor::stop).
#[must_use = "dropping it stops accepting; use `keep` to let it accept until the run ends"]
pub struct Acceptor {
    address: Address,
    gate: Rc<Gate>,
    accepting: Canceller,
    /// Whether to continue when this is dropped.
    kept: Cell<bool>,
}

impl Acceptor {
    /// Accepts from `listener`, and hands each connection to `admit` with its [`Permit`]. `origin`
    /// names the task in figures and reports.
    ///
    /// If `admit` panics, or the wrapper of a stream, that connection is lost, and the panic is
    /// reported.
    pub fn new(
        listener: impl Listen,
        origin: Origin,
        mut admit: impl FnMut(Box<dyn ByteStream>, Permit) + 'static,
    ) -> Self {
        let listener = listener.boxed();
        let (handle, address) = (listener.handle(), listener.local_address());
        let gate = Rc::new(Gate {
            handle: handle.clone(),
            open: Cell::new(0),
            max: Cell::new(DEFAULT_MAX_CONNECTIONS),
            waiting: WakeSlot::default(),
            end: RefCell::default(),
            followers: RefCell::default(),
        });
        let accept = {
            let (handle, gate) = (handle.clone(), gate.clone());
            // Made here, because the task may be dropped before it is polled.
            let end = EndGuard(gate.clone());
            async move {
                let _end = end;
                let mut panics = 0;
                loop {
                    poll_fn(|cx| gate.poll_room(cx)).await;
                    let accepted =
                        poll_fn(
                            |cx| match handle.contain(origin, || listener.poll_accept(cx)) {
                                Some(Poll::Pending) => Poll::Pending,
                                Some(Poll::Ready(accepted)) => Poll::Ready(Some(accepted)),
                                None => Poll::Ready(None),
                            },
                        );
                    let Some(accepted) = accepted.await else {
                        // Perhaps it was the wrapper of one stream.
                        panics += 1;
                        if panics < MOST_PANICS {
                            continue;
                        }
                        let address = listener.local_address();
                        tracing::error!(%address, "a listener panics each time; it is closed");
                        return gate.end(Err(AcceptError::Panicked));
                    };
                    panics = 0;
                    match accepted {
                        Some(Ok(stream)) => {
                            let permit = Permit::new(&gate);
                            handle.contain(origin, || admit(stream, permit));
                        }
                        Some(Err(error)) => {
                            let address = listener.local_address();
                            tracing::error!(%error, %address, "a listener failed; it is closed");
                            return gate.end(Err(AcceptError::Listener(Rc::new(error))));
                        }
                        None => return gate.end(Ok(())),
                    }
                }
            }
        };
        let accepting = handle.spawn_as(origin, accept).canceller();
        Acceptor {
            address,
            gate,
            accepting,
            kept: Cell::new(false),
        }
    }

    /// The address that it listens on.
    pub fn local_address(&self) -> &Address {
        &self.address
    }

    /// The number of open connections.
    pub fn connections(&self) -> usize {
        self.gate.open.get()
    }

    /// Changes how many connections may be open at a time. Further peers wait in the listener's
    /// backlog until one closes.
    pub fn set_max_connections(&self, max: usize) {
        self.gate.max.set(max);
        self.gate.wake();
    }

    /// Stops accepting and closes the listener. Open connections stay open.
    pub fn stop(&self) {
        self.accepting.cancel();
        self.gate.end(Ok(()));
    }

    /// Keeps accepting until the run ends, even if this is dropped.
    pub fn keep(&self) {
        self.kept.set(true);
    }

    /// Fires when the server no longer accepts and its last connection is gone. Fires with an error
    /// if the listener failed.
    pub fn closed(&self) -> Deferred<(), AcceptError> {
        if let Some(end) = self.gate.ended() {
            return Deferred::ready(end);
        }
        let (resolver, deferred) = Deferred::new();
        let mut followers = self.gate.followers.borrow_mut();
        followers.retain(|follower| follower.is_wanted());
        followers.push(resolver);
        deferred
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        if !self.kept.get() {
            self.stop();
        }
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("address", &self.address)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

/// Why a server stopped accepting.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AcceptError {
    /// The listener failed.
    Listener(Rc<io::Error>),
    /// Its listener panicked, or the wrapper of its streams did, 16 times in a row. Each panic was
    /// reported.
    Panicked,
    /// The wait was cancelled, or the run ended.
    Interrupted(Interrupted),
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcceptError::Listener(_) => f.write_str("the listener failed"),
            AcceptError::Panicked => f.write_str("the listener panics each time"),
            AcceptError::Interrupted(why) => why.fmt(f),
        }
    }
}

impl Error for AcceptError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            AcceptError::Listener(error) => Some(&**error),
            AcceptError::Panicked | AcceptError::Interrupted(_) => None,
        }
    }
}

impl From<Interrupted> for AcceptError {
    fn from(why: Interrupted) -> Self {
        AcceptError::Interrupted(why)
    }
}

/// Counts a server's connections.
struct Gate {
    handle: Handle,
    open: Cell<usize>,
    max: Cell<usize>,
    waiting: WakeSlot,
    /// How accepting ended.
    end: RefCell<Option<Result<(), AcceptError>>>,
    /// Resolved when accepting has ended and the last connection is gone.
    followers: RefCell<Vec<Resolver<(), AcceptError>>>,
}

impl Gate {
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.open.get() < self.max.get() {
            return Poll::Ready(());
        }
        self.waiting.register(cx.waker());
        Poll::Pending
    }

    /// Records why accepting ended. Only the first call counts.
    fn end(&self, end: Result<(), AcceptError>) {
        self.end.borrow_mut().get_or_insert(end);
        self.tell_end();
    }

    /// The end, if it has come and no connection is open.
    fn ended(&self) -> Option<Result<(), AcceptError>> {
        self.end.borrow().clone().filter(|_| self.open.get() == 0)
    }

    /// Resolves the followers if the server has closed. Deferred to a `call_soon`: a connection can
    /// close deep inside other code.
    fn tell_end(&self) {
        if let Some(end) = self.ended() {
            let followers = self.followers.take();
            if !followers.is_empty() {
                self.handle.call_soon(move || {
                    for follower in followers {
                        follower.settle(end.clone());
                    }
                });
            }
        }
    }

    fn wake(&self) {
        self.waiting.wake();
    }
}

/// Ends the wait for the end if accepting ends in another way: the run is over.
struct EndGuard(Rc<Gate>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        let mut end = self.0.end.borrow_mut();
        if end.is_none() {
            *end = Some(Err(AcceptError::Interrupted(Interrupted::Cancelled)));
            drop(end);
            let followers = self.0.followers.take();
            drop(followers);
        }
    }
}

/// A connection's place among those of its server. The connection counts until this is dropped.
pub struct Permit(Rc<Gate>);

impl Permit {
    fn new(gate: &Rc<Gate>) -> Self {
        gate.open.set(gate.open.get() + 1);
        Permit(gate.clone())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.wake();
        self.0.tell_end();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("connections", &self.0.open.get())
            .finish_non_exhaustive()
    }
}
