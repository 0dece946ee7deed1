//! Forwarding connections to an endpoint.

use std::{
    cell::Cell,
    fmt,
    future::poll_fn,
    io,
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
/// end of input is forwarded too, so each direction ends separately. A side that takes no more is
/// heard to its end; then the other one is closed too. If reading fails, both are aborted. A peer
/// has 10 s for its handshakes (TLS, a PROXY header); the target is asked only after them.
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
        move |stream, permit| {
            let passed = pass(handle.clone(), stream, target.clone(), idle.get(), permit);
            handle.spawn_detached(origin, passed);
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
    idle: Option<Duration>,
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
    if let Some(time) = idle {
        // Not before: the time for the target is not the peer's. Both, because one that has ended
        // its direction is not read any more.
        near = Box::new(IdleTimeout::new(&handle, near, time));
        far = Box::new(IdleTimeout::new(&handle, far, time));
    }
    let (mut there, mut back) = (Direction::default(), Direction::default());
    let passed = poll_fn(|cx| {
        let one = there.poll(cx, &mut *near, &mut *far)?;
        back.resets = there.failed.is_some();
        let other = back.poll(cx, &mut *far, &mut *near)?;
        there.resets = back.failed.is_some();
        let done = match (&there.failed, &back.failed) {
            (None, None) => one.is_ready() && other.is_ready(),
            // One side takes no more. All that it has said has come to the other.
            (Some(_), None) => other.is_ready(),
            (None, Some(_)) => one.is_ready(),
            (Some(_), Some(_)) => true,
        };
        match done {
            true => Poll::Ready(Ok::<_, io::Error>(())),
            false => Poll::Pending,
        }
    });
    let failed = passed.await.err();
    let error = match (failed, there.failed.take(), back.failed.take()) {
        (None, None, None) => return,
        // If this closed at once, a side that still sends would be reset, and could lose what is
        // on its way to it.
        (None, Some(error), None) => {
            let ends = poll_fn(|cx| there.drain(cx, &mut *near));
            let _ = handle.timeout(LINGER_TIME, ends).await;
            error
        }
        (None, None, Some(error)) => {
            let ends = poll_fn(|cx| back.drain(cx, &mut *far));
            let _ = handle.timeout(LINGER_TIME, ends).await;
            error
        }
        (None, Some(error), Some(_)) | (Some(error), _, _) => {
            near.abort();
            far.abort();
            error
        }
    };
    tracing::debug!(%error, %peer, %target, "a forwarded connection failed");
}

/// How long a side that still sends is read when the other one is gone.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// One direction of a forwarded connection.
#[derive(Default)]
struct Direction {
    /// Bytes that were read and not yet written, from `start` on.
    held: Vec<u8>,
    start: usize,
    ended: bool,
    closed: bool,
    /// Why nothing more can be written. What comes then is thrown away.
    failed: Option<io::Error>,
    /// Whether an error of the side that is read is its end: it takes no more.
    resets: bool,
}

enum Failure {
    Read(io::Error),
    Write(io::Error),
}

impl Direction {
    /// Ready when everything has been forwarded, including the end of input.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut dyn ByteStream,
        to: &mut dyn ByteStream,
    ) -> Poll<io::Result<()>> {
        if self.failed.is_none() {
            match ready!(self.pass(cx, from, to)) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(Failure::Read(error)) => return Poll::Ready(Err(error)),
                Err(Failure::Write(error)) => self.failed = Some(error),
            }
            (self.held, self.start) = (Vec::new(), 0);
        }
        self.drain(cx, from).map(Ok)
    }

    /// Throws away what comes, until the end.
    fn drain(&mut self, cx: &mut Context<'_>, from: &mut dyn ByteStream) -> Poll<()> {
        let mut buffer = Scratch::take();
        while !self.ended {
            let read = ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer));
            self.ended = !matches!(read, Ok(1..));
        }
        Poll::Ready(())
    }

    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut dyn ByteStream,
        to: &mut dyn ByteStream,
    ) -> Poll<Result<(), Failure>> {
        loop {
            while self.start < self.held.len() {
                let written = Pin::new(&mut *to).poll_write(cx, &self.held[self.start..]);
                match ready!(written).map_err(Failure::Write)? {
                    0 => {
                        let error = io::ErrorKind::WriteZero.into();
                        return Poll::Ready(Err(Failure::Write(error)));
                    }
                    count => self.start += count,
                }
            }
            (self.held, self.start) = (Vec::new(), 0);
            if self.closed {
                return Poll::Ready(Ok(()));
            }
            ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Failure::Write)?;
            if self.ended {
                ready!(Pin::new(&mut *to).poll_close(cx)).map_err(Failure::Write)?;
                self.closed = true;
                return Poll::Ready(Ok(()));
            }
            self.read(cx, from, to)?;
            if self.held.is_empty() && !self.ended {
                // If the flush does not complete at once, it wakes this task later.
                let flushed = Pin::new(&mut *to).poll_flush(cx);
                let _ = flushed.map_err(Failure::Write)?;
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
    ) -> Result<(), Failure> {
        // The buffer is shared by all connections of the thread. None holds one while it waits.
        let mut buffer = Scratch::take();
        loop {
            match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
                Poll::Pending => break Ok(()),
                Poll::Ready(Err(error)) if !self.resets => break Err(Failure::Read(error)),
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.ended = true;
                    break Ok(());
                }
                Poll::Ready(Ok(count)) => match Pin::new(&mut *to).poll_write(cx, &buffer[..count])
                {
                    Poll::Ready(Ok(taken)) if taken == count => {}
                    Poll::Ready(Err(error)) => break Err(Failure::Write(error)),
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
