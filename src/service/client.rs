//! Clients that reconnect.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    hash::{BuildHasher, Hasher, RandomState},
    panic::Location,
    rc::Rc,
    task::Poll,
};

use super::{Backoff, Service, Starting, StopRequested, Stopping};
use crate::{
    deferred::{Deferred, Interrupted, Resolver},
    endpoint::ClientEndpoint,
    protocol::{self, Connection, End, Lost, Protocol},
    reactor::{Handle, Label, Origin},
    wake::WakeSlot,
};

/// The maximum number of waiters in [`ClientService::when_connected`].
const MOST_WAITING: usize = 1_024;

/// Keeps a connection to an endpoint. It connects and runs a protocol. When the connection is lost
/// or the attempt fails, it waits and connects again. The delay [grows](Backoff) with each attempt
/// and is reset after a successful connection.
///
/// Clones refer to the same service.
#[derive(Clone)]
pub struct ClientService {
    state: Rc<State>,
}

struct State {
    name: String,
    origin: Origin,
    endpoint: ClientEndpoint,
    build: Box<dyn Fn() -> Box<dyn Protocol>>,
    backoff: RefCell<Backoff>,
    connection: RefCell<Option<Connection>>,
    waiting: RefCell<Vec<Resolver<Connection, Interrupted>>>,
    running: Cell<bool>,
    stopping: Cell<bool>,
    /// The number of stops that were asked for.
    stops: Cell<u64>,
    /// The task that connects. It is woken when it should stop.
    task: WakeSlot,
    /// Those that wait for the end of the service.
    ended: RefCell<Vec<Resolver<(), Interrupted>>>,
}

impl ClientService {
    /// Creates a service that runs a protocol made by `build` on each connection. If `build`
    /// panics, that is reported, and the attempt has failed.
    #[track_caller]
    pub fn new<P: Protocol + 'static>(
        name: impl Into<String>,
        endpoint: ClientEndpoint,
        build: impl Fn() -> P + 'static,
    ) -> Self {
        Self::with_backoff(name, endpoint, Backoff::default(), build)
    }

    /// Like [`new`](ClientService::new), with your own delays.
    #[track_caller]
    pub fn with_backoff<P: Protocol + 'static>(
        name: impl Into<String>,
        endpoint: ClientEndpoint,
        backoff: Backoff,
        build: impl Fn() -> P + 'static,
    ) -> Self {
        let state = State {
            name: name.into(),
            origin: Origin::here(Label::TASK),
            endpoint,
            build: Box::new(move || Box::new(build())),
            backoff: RefCell::new(backoff),
            connection: RefCell::default(),
            waiting: RefCell::default(),
            running: Cell::new(false),
            stopping: Cell::new(false),
            stops: Cell::new(0),
            task: WakeSlot::default(),
            ended: RefCell::default(),
        };
        ClientService {
            state: Rc::new(state),
        }
    }

    /// Returns the current connection, if there is one.
    pub fn connection(&self) -> Option<Connection> {
        self.state.connection.borrow().clone()
    }

    /// Fires with the connection as soon as there is one, which may be at once.
    ///
    /// # Errors
    /// The Deferred fails with [`Abandoned`](Interrupted::Abandoned) if the service is stopped, or
    /// with [`Refused`](Interrupted::Refused) if 1,024 callers already wait.
    pub fn when_connected(&self) -> Deferred<Connection, Interrupted> {
        if let Some(connection) = self.connection() {
            return Deferred::ready(Ok(connection));
        }
        let mut waiting = self.state.waiting.borrow_mut();
        waiting.retain(|resolver| resolver.is_wanted());
        if waiting.len() >= MOST_WAITING {
            return Deferred::ready(Err(Interrupted::Refused));
        }
        let (resolver, deferred) = Deferred::new();
        waiting.push(resolver);
        deferred
    }
}

impl State {
    async fn run(self: Rc<Self>, handle: Handle) {
        let (name, endpoint) = (&self.name, &self.endpoint);
        while !self.stopping.get() {
            match self.or_stop(self.endpoint.connect(&handle)).await {
                None => break,
                Some(Ok(stream)) => {
                    // If it panics, that is reported, and this attempt has failed.
                    if let Some(protocol) = handle.contain(self.origin, || (self.build)()) {
                        tracing::info!(service = name, %endpoint, "connected");
                        let why = self.hold(&handle, stream, protocol).await;
                        tracing::info!(service = name, %endpoint, why, "the connection was lost");
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(service = name, %endpoint, %error, "cannot connect")
                }
            }
            let wait = self.backoff.borrow_mut().next(chance());
            let tries = self.backoff.borrow().tries();
            tracing::debug!(service = name, %endpoint, ?wait, tries, "waiting before the next try");
            if self.or_stop(handle.sleep(wait)).await.is_none() {
                break;
            }
        }
    }

    /// Runs the protocol on a connection until it ends. Returns the reason for the end.
    async fn hold(
        self: &Rc<Self>,
        handle: &Handle,
        stream: Box<dyn crate::transport::ByteStream>,
        protocol: Box<dyn Protocol>,
    ) -> String {
        let (resolver, lost) = Deferred::<String, Interrupted>::new();
        let protocol = Held {
            protocol,
            lost: Some(resolver),
            state: self.clone(),
        };
        let connection =
            protocol::start_boxed(handle, stream, Box::new(protocol), None, Location::caller());
        let mut lost = Box::pin(lost.into_future());
        poll_fn(|cx| {
            if let Poll::Ready(why) = lost.as_mut().poll(cx) {
                return Poll::Ready(why.unwrap_or_else(|why| why.to_string()));
            }
            self.task.register(cx.waker());
            if self.stopping.get() {
                connection.close();
            }
            Poll::Pending
        })
        .await
    }

    /// Returns the output of `future`, or `None` if the service should stop.
    async fn or_stop<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = Box::pin(future);
        poll_fn(|cx| {
            if self.stopping.get() {
                return Poll::Ready(None);
            }
            self.task.register(cx.waker());
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }
}

/// Reports the end of a run, whatever caused it.
struct Running(Rc<State>);

impl Drop for Running {
    fn drop(&mut self) {
        let state = &self.0;
        state.running.set(false);
        state.stopping.set(false);
        state.task.clear();
        // Dropping them notifies the waiting callers.
        let (connection, waiting) = (state.connection.take(), state.waiting.take());
        drop((connection, waiting));
        for ended in state.ended.take() {
            ended.resolve(());
        }
    }
}

impl Service for ClientService {
    fn name(&self) -> &str {
        &self.state.name
    }

    /// Starts to connect. A missing connection is not an error.
    ///
    /// If the service is being stopped, the start waits for that. If it is stopped again meanwhile,
    /// the start fails with [`StopRequested`].
    fn start(&self, handle: &Handle) -> Starting {
        let (state, handle) = (self.state.clone(), handle.clone());
        let stops = state.stops.get();
        if !state.stopping.get() {
            state.launch(&handle);
            return Box::pin(std::future::ready(Ok(())));
        }
        let ended = state.ended();
        Box::pin(async move {
            ended.await?;
            if state.stops.get() != stops {
                return Err(StopRequested.into());
            }
            state.launch(&handle);
            Ok(())
        })
    }

    /// Closes the connection and waits for its end. Does nothing if the service does not run.
    fn stop(&self) -> Stopping {
        let state = self.state.clone();
        state.stops.set(state.stops.get() + 1);
        if !state.running.get() {
            return Box::pin(std::future::ready(()));
        }
        state.stopping.set(true);
        state.task.wake();
        let ended = state.ended();
        let mut abandoned = Abandoned(Some(state));
        Box::pin(async move {
            // Abandoned when the run ends, and with it the service.
            let _ = ended.await;
            drop(abandoned.0.take());
        })
    }
}

impl State {
    /// Runs it as a task, unless it does so already.
    fn launch(self: Rc<Self>, handle: &Handle) {
        if !self.running.replace(true) {
            let (running, own) = (Running(self.clone()), handle.clone());
            handle.spawn_detached(self.origin, async move {
                let _running = running;
                self.run(own).await;
            });
        }
    }

    /// Fires when the service has ended.
    fn ended(&self) -> Deferred<(), Interrupted> {
        let (resolver, deferred) = Deferred::new();
        let mut ended = self.ended.borrow_mut();
        ended.retain(|other| other.is_wanted());
        ended.push(resolver);
        deferred
    }
}

/// Aborts the connection if nothing waits for its graceful end.
struct Abandoned(Option<Rc<State>>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        let connection = self
            .0
            .take()
            .and_then(|state| state.connection.borrow().clone());
        if let Some(connection) = connection {
            connection.abort();
        }
    }
}

impl fmt::Debug for ClientService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientService")
            .field("name", &self.state.name)
            .field("endpoint", &self.state.endpoint)
            .field("connected", &self.state.connection.borrow().is_some())
            .finish_non_exhaustive()
    }
}

/// Wraps the user's protocol, to learn when the connection starts and ends.
struct Held {
    protocol: Box<dyn Protocol>,
    lost: Option<Resolver<String, Interrupted>>,
    state: Rc<State>,
}

impl Protocol for Held {
    fn connection_made(&mut self, connection: &Connection) {
        self.state.backoff.borrow_mut().reset();
        self.protocol.connection_made(connection);
        *self.state.connection.borrow_mut() = Some(connection.clone());
        let waiting = self.state.waiting.take();
        for resolver in waiting {
            resolver.resolve(connection.clone());
        }
    }

    fn upgraded(&mut self, connection: &Connection) {
        self.protocol.upgraded(connection);
    }

    fn data_received(&mut self, connection: &Connection, data: &[u8]) {
        self.protocol.data_received(connection, data);
    }

    fn reading_resumed(&mut self, connection: &Connection) {
        self.protocol.reading_resumed(connection);
    }

    fn end_received(&mut self, connection: &Connection) -> End {
        self.protocol.end_received(connection)
    }

    fn pause_writing(&mut self, connection: &Connection) {
        self.protocol.pause_writing(connection);
    }

    fn resume_writing(&mut self, connection: &Connection) {
        self.protocol.resume_writing(connection);
    }

    fn connection_failed(&mut self, why: &Lost) {
        self.end(why);
        self.protocol.connection_failed(why);
    }

    fn connection_lost(&mut self, why: &Lost) {
        self.end(why);
        self.protocol.connection_lost(why);
    }
}

impl Held {
    fn end(&mut self, why: &Lost) {
        let connection = self.state.connection.take();
        drop(connection);
        if let Some(resolver) = self.lost.take() {
            resolver.resolve(why.to_string());
        }
    }
}

/// Returns an unpredictable number from 0 to 1.
fn chance() -> f64 {
    (RandomState::new().build_hasher().finish() >> 11) as f64 / (1_u64 << 53) as f64
}
