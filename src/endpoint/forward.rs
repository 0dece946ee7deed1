//! Forwarding connections to an endpoint.

use std::{
    cell::Cell,
    fmt, io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::ClientEndpoint;
use crate::{
    deferred::Deferred,
    policy::IdleTimeout,
    reactor::{Handle, Label, Origin},
    scratch::Scratch,
    server::{AcceptError, Acceptor, Permit},
    transport::{Address, ByteStream, Listen},
};

/// Forwards connections until it is dropped; open ones continue. Created by [`forward`].
#[must_use = "dropping it stops accepting; use `keep` to let it accept until the run ends"]
pub struct Forward {
    acceptor: Acceptor,
    idle: Rc<Cell<Option<Duration>>>,
}

/// Connects to `target` for each accepted connection, and forwards bytes in both directions. The
/// end of input is forwarded too, so each direction ends separately. If one side fails, the other
/// is aborted. A peer has 10 s for its handshakes (TLS, a PROXY header); the target is asked only
/// after them.
///
/// Backpressure is forwarded as well: at most 64 KiB are buffered in each direction. Connections
/// may be idle for ever unless there is an [`idle timeout`](Forward::set_idle_timeout).
///
/// ```
/// use entwined::{Standalone, endpoint};
///
/// let reactor = Standalone::new()?;
/// let handle = reactor.handle();
/// let listener = endpoint::server("tcp:0:interface=127.0.0.1")?.listen(&handle)?;
/// let forward = endpoint::forward(
///     listener,
///     endpoint::client("unix:/run/postgresql/.s.PGSQL.5432")?,
/// );
/// println!("the database is at {} too", forward.local_address());
/// # handle.call_soon({ let handle = handle.clone(); move || handle.stop() });
/// reactor.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn forward(listener: impl Listen, target: ClientEndpoint) -> Forward {
    let origin = Origin::here(Label::CONNECTION);
    let (handle, target) = (listener.handle(), Rc::new(target));
    let idle = Rc::new(Cell::new(None));
    let acceptor = Acceptor::new(listener, origin, {
        let idle = idle.clone();
        move |mut stream, permit| {
            if let Some(time) = idle.get() {
                stream = Box::new(IdleTimeout::new(&handle, stream, time));
            }
            handle.spawn_detached(origin, pass(handle.clone(), stream, target.clone(), permit));
        }
    });
    Forward { acceptor, idle }
}

impl Forward {
    /// Lets it accept until the run ends. Without this, dropping it stops accepting.
    pub fn keep(self) {
        self.acceptor.keep();
    }

    /// The address that it listens on.
    pub fn local_address(&self) -> &Address {
        self.acceptor.local_address()
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.acceptor.connections()
    }

    /// Sets how many connections may be open at a time. The default is 10,000. See
    /// [`protocol::Server::set_max_connections`](crate::protocol::Server::set_max_connections).
    pub fn set_max_connections(&self, most: usize) {
        self.acceptor.set_max_connections(most);
    }

    /// Sets how long a connection accepted from now on may last without a byte in either direction.
    /// After that both sides are aborted. The default is `None`, for ever.
    pub fn set_idle_timeout(&self, time: Option<Duration>) {
        self.idle.set(time);
    }

    /// Fires when it no longer accepts and its last connection is gone. See
    /// [`protocol::Server::closed`](crate::protocol::Server::closed).
    pub fn closed(&self) -> Deferred<(), AcceptError> {
        self.acceptor.closed()
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward")
            .field("address", self.local_address())
            .finish_non_exhaustive()
    }
}

/// How long a peer may take for its handshakes.
const ESTABLISH_TIMEOUT: Duration = Duration::from_secs(10);

async fn pass(
    handle: Handle,
    mut near: Box<dyn ByteStream>,
    target: Rc<ClientEndpoint>,
    _permit: Permit,
) {
    // The target is not asked for a peer that does not finish its handshake, or may not.
    let established = near.established(&handle, ESTABLISH_TIMEOUT).await;
    let peer = near.peer_address();
    if let Err(error) = established {
        tracing::debug!(%error, %peer, %target, "a connection to forward was not established");
        near.abort();
        return;
    }
    let mut far = match target.connect(&handle).await {
        Ok(far) => far,
        Err(error) => {
            tracing::warn!(%error, %peer, %target, "cannot forward a connection");
            near.abort();
            return;
        }
    };
    let (mut there, mut back) = (Direction::default(), Direction::default());
    let passed = std::future::poll_fn(|cx| {
        let (one, other) = (
            there.poll(cx, &mut *near, &mut *far)?,
            back.poll(cx, &mut *far, &mut *near)?,
        );
        if one.is_ready() && other.is_ready() {
            Poll::Ready(Ok::<_, io::Error>(()))
        } else {
            Poll::Pending
        }
    });
    if let Err(error) = passed.await {
        tracing::debug!(%error, %peer, %target, "a forwarded connection failed");
        near.abort();
        far.abort();
    }
}

/// One direction of a forwarded connection.
#[derive(Default)]
struct Direction {
    /// Bytes that were read and not yet written, from `start` on.
    held: Vec<u8>,
    start: usize,
    ended: bool,
    closed: bool,
}

impl Direction {
    /// Ready when everything has been forwarded, including the end of input.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut dyn ByteStream,
        to: &mut dyn ByteStream,
    ) -> Poll<io::Result<()>> {
        loop {
            while self.start < self.held.len() {
                match ready!(Pin::new(&mut *to).poll_write(cx, &self.held[self.start..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    count => self.start += count,
                }
            }
            (self.held, self.start) = (Vec::new(), 0);
            if self.closed {
                return Poll::Ready(Ok(()));
            }
            ready!(Pin::new(&mut *to).poll_flush(cx))?;
            if self.ended {
                ready!(Pin::new(&mut *to).poll_close(cx))?;
                self.closed = true;
                return Poll::Ready(Ok(()));
            }
            self.read(cx, from, to)?;
            if self.held.is_empty() && !self.ended {
                // If the flush does not complete at once, it wakes this task later.
                let _ = Pin::new(&mut *to).poll_flush(cx)?;
                return Poll::Pending;
            }
        }
    }

    /// Reads, and writes as much as possible at once. Only the rest is kept.
    fn read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut dyn ByteStream,
        to: &mut dyn ByteStream,
    ) -> io::Result<()> {
        // The buffer is shared by all connections of the thread. None holds one while it waits.
        let mut buffer = Scratch::take();
        loop {
            match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
                Poll::Pending => break Ok(()),
                Poll::Ready(Err(error)) => break Err(error),
                Poll::Ready(Ok(0)) => {
                    self.ended = true;
                    break Ok(());
                }
                Poll::Ready(Ok(count)) => match Pin::new(&mut *to).poll_write(cx, &buffer[..count])
                {
                    Poll::Ready(Ok(taken)) if taken == count => {}
                    Poll::Ready(Err(error)) => break Err(error),
                    partly => {
                        let taken = if let Poll::Ready(Ok(taken)) = partly {
                            taken
                        } else {
                            0
                        };
                        self.held.extend_from_slice(&buffer[taken..count]);
                        break Ok(());
                    }
                },
            }
        }
    }
}
