//! Accepting connections, for every kind of server: the connection limit, and when a server has
//! ended.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::{Address, BoxedListener, ByteStream, Listen};
use crate::{
    deferred::{Canceller, Deferred, Resolver},
    reactor::{Handle, Origin},
};

/// Default limit on the connections of one server. Peers beyond it wait in the listener's backlog.
pub(crate) const MOST_CONNECTIONS: usize = 10_000;

/// Accepts connections in a task until it is dropped.
pub(crate) struct Acceptor {
    address: Address,
    gate: Rc<Gate>,
    accepting: Canceller,
}

impl Acceptor {
    /// Passes each connection to `admit`, with a permit that counts it. `admit` runs contained: a
    /// panic costs one connection.
    pub(crate) fn new(
        listener: BoxedListener,
        origin: Origin,
        admit: impl FnMut(Box<dyn ByteStream>, Permit) + 'static,
    ) -> Self {
        let (handle, address) = (listener.handle(), listener.local_address());
        let gate = Rc::new(Gate {
            handle: handle.clone(),
            open: Cell::new(0),
            most: Cell::new(MOST_CONNECTIONS),
            waiting: RefCell::default(),
            end: RefCell::default(),
            followers: RefCell::default(),
        });
        let accepting = handle
            .core()
            .spawn(accept(listener, gate.clone(), origin, admit), origin)
            .canceller();
        Acceptor {
            address,
            gate,
            accepting,
        }
    }

    pub(crate) fn local_address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn connections(&self) -> usize {
        self.gate.open.get()
    }

    pub(crate) fn set_max_connections(&self, most: usize) {
        self.gate.most.set(most);
        self.gate.wake();
    }

    /// Stops accepting and drops the listener.
    pub(crate) fn stop(&self) {
        self.accepting.cancel();
        self.gate.end(Ok(()));
    }

    /// Fires when it no longer accepts and all its connections are gone, with an error if the
    /// listener failed.
    pub(crate) fn ended(&self) -> Deferred<(), String> {
        let (resolver, deferred) = Deferred::new();
        let mut followers = self.gate.followers.borrow_mut();
        followers.retain(|follower| !follower.is_cancelled());
        followers.push(resolver);
        drop(followers);
        self.gate.tell_end();
        deferred
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn accept(
    listener: BoxedListener,
    gate: Rc<Gate>,
    origin: Origin,
    mut admit: impl FnMut(Box<dyn ByteStream>, Permit),
) {
    let handle = listener.handle();
    loop {
        poll_fn(|cx| gate.poll_room(cx)).await;
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Some(Ok(stream)) => {
                let permit = Permit::new(&gate);
                handle.core().contain(origin, || admit(stream, permit));
            }
            Some(Err(error)) => {
                tracing::error!(
                    %error,
                    address = %listener.local_address(),
                    "a listener failed; it accepts no more connections"
                );
                return gate.end(Err(error.to_string()));
            }
            None => return gate.end(Ok(())),
        }
    }
}

/// Counts a server's connections.
struct Gate {
    handle: Handle,
    open: Cell<usize>,
    most: Cell<usize>,
    waiting: RefCell<Option<Waker>>,
    /// How accepting ended.
    end: RefCell<Option<Result<(), String>>>,
    /// Resolvers to settle once accepting has ended and the last connection is gone.
    followers: RefCell<Vec<Resolver<(), String>>>,
}

impl Gate {
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.open.get() < self.most.get() {
            return Poll::Ready(());
        }
        *self.waiting.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Only the first end counts.
    fn end(&self, end: Result<(), String>) {
        self.end.borrow_mut().get_or_insert(end);
        self.tell_end();
    }

    /// Deferred to a `call_soon`: a connection can end deep inside other code.
    fn tell_end(&self) {
        let end = self.end.borrow().clone().filter(|_| self.open.get() == 0);
        if let Some(end) = end {
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
        let waker = self.waiting.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Counts one connection towards its server's limit until it is dropped.
pub(crate) struct Permit(Rc<Gate>);

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
