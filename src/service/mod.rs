//! Services: parts of a program that start and stop in order.
//!
//! ```
//! use std::rc::Rc;
//! use entwined::{
//!     Standalone, endpoint,
//!     protocol::{self, Echo},
//!     service::{ServerService, Services},
//! };
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let services = Services::new("app", &handle);
//! let echo = endpoint::server("tcp:0:interface=127.0.0.1")?;
//! services.add(ServerService::new("echo", echo, |listener| {
//!     protocol::serve(listener, |_| Some(Echo))
//! }));
//!
//! // They start now, and stop in reverse order when the reactor is stopped.
//! let started = services.run();
//! # let handle = handle.clone();
//! started.map(move |()| {
//!     println!("all services run");
//! #   handle.stop();
//! });
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The start and the stop of each service are logged through [`tracing`], with the service's name.
//! To stop on signals, see [`signal::stop_on`](crate::signal::stop_on).

mod backoff;
mod client;
mod server;

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

pub use backoff::Backoff;
pub use client::ClientService;
pub use server::ServerService;

use crate::{
    deferred::{Deferred, DeferredLock, Interrupted, SemaphorePermit},
    log,
    panic::catch,
    reactor::{Handle, Phase, ShutdownHook},
    wake::WakeSlot,
};

/// How long each service may take to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// A part of a program that can be started and stopped.
pub trait Service {
    /// Returns the name for the log.
    fn name(&self) -> &str;

    /// Starts the service. It runs when the future is ready. Not called again while a start is in
    /// progress. Dropping the future, which happens when the run ends, must leave the service
    /// stopped.
    ///
    /// A panic, here or in the future, counts as an error.
    fn start(&self, handle: &Handle) -> Starting;

    /// Stops the service. It has ended when the future is ready. Called only while the service
    /// runs. Dropping the future, which happens when the stop takes too long, must end the service
    /// as well.
    ///
    /// A panic, here or in the future, is reported, and the service counts as stopped.
    fn stop(&self) -> Stopping;
}

/// A service that is starting.
pub type Starting = Pin<Box<dyn Future<Output = Result<(), Box<dyn Error>>>>>;

/// A service that is stopping.
pub type Stopping = Pin<Box<dyn Future<Output = ()>>>;

/// A list of services. They start in the order in which they were added and stop in reverse order.
/// The list is a service itself, so lists can be nested.
///
/// Starts and stops happen one after another, in the order in which they were asked for. A stop
/// that comes while services start lets the service that is starting finish, for 10 s at most,
/// starts no other one, and stops those that run; the start then fails with [`StopRequested`]. A
/// start that comes while services stop begins when they have stopped.
///
/// Clones refer to the same list.
#[derive(Clone)]
pub struct Services {
    inner: Rc<Inner>,
}

struct Inner {
    name: String,
    handle: Handle,
    services: RefCell<Vec<Rc<dyn Service>>>,
    /// How many of them run, counted from the first.
    running: Cell<usize>,
    /// The run of the reactor in which they were started.
    run: Cell<u64>,
    /// Held by a start or a stop; the others wait in order.
    order: DeferredLock,
    /// How many stops were asked for.
    stops: Cell<u64>,
    /// The last stop that was dropped before it had its turn: how many had been asked for with it.
    abandoned: Cell<u64>,
    /// The start that is under way. It is woken when it should stop.
    starting: WakeSlot,
    /// Stops those that run before the reactor stops.
    hook: RefCell<Option<ShutdownHook>>,
}

impl Services {
    /// Creates an empty list.
    pub fn new(name: impl Into<String>, handle: &Handle) -> Self {
        let inner = Inner {
            name: name.into(),
            handle: handle.clone(),
            services: RefCell::default(),
            running: Cell::new(0),
            run: Cell::new(0),
            order: DeferredLock::new(),
            stops: Cell::new(0),
            abandoned: Cell::new(0),
            starting: WakeSlot::default(),
            hook: RefCell::default(),
        };
        Services {
            inner: Rc::new(inner),
        }
    }

    /// Adds a service at the end. It starts with the next start of the list.
    pub fn add(&self, service: impl Service + 'static) {
        self.inner.services.borrow_mut().push(Rc::new(service));
    }

    /// Starts the services. They are stopped before the reactor stops (see [`Phase::Before`]).
    ///
    /// # Errors
    /// The Deferred fails with the name of the service that could not be started, and the reason.
    /// The services before it are stopped again. It fails with [`StopRequested`] if they are
    /// stopped before all of them have started.
    #[track_caller]
    pub fn run(&self) -> Deferred<(), Box<dyn Error>> {
        let (inner, start) = (self.inner.clone(), self.inner.start());
        let stopping = self.inner.clone();
        let hook = inner.handle.on_shutdown(Phase::Before, move || async move {
            stopping.stop().await;
            Ok(())
        });
        self.inner.handle.defer(async move {
            start.await?;
            // What did not start needs no hook, and one is enough for what did.
            let before = inner.hook.replace(Some(hook));
            drop(before);
            Ok(())
        })
    }
}

impl Inner {
    /// Takes its place in the order at once.
    fn start(self: &Rc<Self>) -> impl Future<Output = Result<(), Box<dyn Error>>> + use<> {
        let (inner, turn, stops) = (self.clone(), self.order.acquire(), self.stops.get());
        async move {
            let _turn = turn.await?;
            let run = inner.handle.run_number();
            if inner.run.replace(run) != run {
                // The run in which they were started ended without a stop.
                inner.stop_all().await;
            }
            let started = inner.start_all(stops).await;
            if inner.abandoned.get() > stops {
                inner.stop_all().await;
            }
            started
        }
    }

    /// Takes its place in the order at once.
    fn stop(self: &Rc<Self>) -> impl Future<Output = ()> + use<> {
        let mut stop = Stop {
            inner: self.clone(),
            turn: Some(self.order.acquire()),
            number: self.stops.get() + 1,
        };
        self.stops.set(stop.number);
        self.starting.wake();
        async move {
            let _turn = stop.turn().await;
            stop.inner.stop_all().await;
            let hook = stop.inner.hook.take();
            drop(hook);
        }
    }

    async fn start_all(&self, stops: u64) -> Result<(), Box<dyn Error>> {
        // If this is dropped, nobody stops those that run by then.
        let dropped = Rest(self);
        let result = self.start_each(stops).await;
        std::mem::forget(dropped);
        result
    }

    async fn start_each(&self, stops: u64) -> Result<(), Box<dyn Error>> {
        loop {
            if self.stops.get() != stops {
                return Err(Box::new(StopRequested));
            }
            let next = self.services.borrow().get(self.running.get()).cloned();
            let Some(service) = next else { return Ok(()) };
            let started = match self.start_one(&*service, stops).await {
                Some(started) => started,
                None => {
                    tracing::warn!(
                        service = service.name(),
                        "a service that is to be stopped did not start in time and was aborted"
                    );
                    return Err(Box::new(StopRequested));
                }
            };
            if let Err(source) = started {
                let error = StartError {
                    service: service.name().to_owned(),
                    source,
                };
                tracing::error!(
                    service = service.name(),
                    error = %error.source,
                    "a service cannot be started"
                );
                self.stop_all().await;
                return Err(Box::new(error));
            }
            tracing::info!(service = service.name(), "a service has started");
            self.running.set(self.running.get() + 1);
        }
    }

    /// Returns `None` if a stop was asked for and the service has not started in time.
    async fn start_one(
        &self,
        service: &dyn Service,
        stops: u64,
    ) -> Option<Result<(), Box<dyn Error>>> {
        let mut starting = Guarded::new(|| service.start(&self.handle));
        let mut patience = None;
        poll_fn(|cx| {
            if let Poll::Ready(started) = Pin::new(&mut starting).poll(cx) {
                let panicked = |message| Err(Panicked(message).into());
                return Poll::Ready(Some(started.unwrap_or_else(panicked)));
            }
            if self.stops.get() == stops {
                self.starting.register(cx.waker());
                return Poll::Pending;
            }
            let patience = patience.get_or_insert_with(|| self.handle.sleep(PATIENCE));
            Pin::new(patience).poll(cx).map(|()| None)
        })
        .await
    }

    async fn stop_all(&self) {
        let _rest = Rest(self);
        while let Some(last) = self.running.get().checked_sub(1) {
            self.running.set(last);
            let service = self.services.borrow()[last].clone();
            let stopping = Guarded::new(|| service.stop());
            match self.handle.timeout(PATIENCE, stopping).await {
                Ok(Ok(())) => tracing::info!(service = service.name(), "a service has stopped"),
                Ok(Err(message)) => tracing::error!(
                    service = service.name(),
                    message,
                    "a service panicked while it stopped"
                ),
                Err(_) => tracing::warn!(
                    service = service.name(),
                    "a service did not stop in time and was aborted"
                ),
            }
        }
    }
}

/// A stop. If there is no time to wait for it, the services are stopped when this is dropped.
struct Stop {
    inner: Rc<Inner>,
    /// `None` once it has its turn.
    turn: Option<Deferred<SemaphorePermit, Interrupted>>,
    /// How many stops had been asked for with this one.
    number: u64,
}

impl Stop {
    async fn turn(&mut self) -> Option<SemaphorePermit> {
        let turn = self.turn.as_mut()?.await;
        self.turn = None;
        turn.ok()
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        match turn.take() {
            Ok(_turn) => drop(Rest(&self.inner)),
            // The start that is under way does it, or the stop; later starts are not meant.
            Err(_waiting) => self.inner.abandoned.set(self.number),
        }
    }
}

/// Stops the services that are left if there is no time to wait for those before them.
struct Rest<'a>(&'a Inner);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        let inner = self.0;
        while let Some(last) = inner.running.get().checked_sub(1) {
            inner.running.set(last);
            let service = inner.services.borrow()[last].clone();
            tracing::warn!(
                service = service.name(),
                "there is no time to wait until a service has stopped"
            );
            drop(Guarded::new(|| service.stop()));
        }
    }
}

/// A service's future. A panic in it, in its making, or in its destructor becomes an error.
struct Guarded<T>(Option<Result<BoxFuture<T>, String>>);

type BoxFuture<T> = Pin<Box<dyn Future<Output = T>>>;

impl<T> Guarded<T> {
    fn new(make: impl FnOnce() -> BoxFuture<T>) -> Self {
        Guarded(Some(catch(make)))
    }

    fn finish(&mut self) -> Result<(), String> {
        let future = self.0.take();
        catch(|| drop(future))
    }
}

impl<T> Future for Guarded<T> {
    type Output = Result<T, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = match &mut self.0 {
            None => return Poll::Pending,
            Some(Err(message)) => Err(std::mem::take(message)),
            Some(Ok(future)) => catch(|| future.as_mut().poll(cx)),
        };
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => Ok(value),
            Err(message) => Err(message),
        };
        let dropped = self.finish();
        Poll::Ready(result.and_then(|value| dropped.map(|()| value)))
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        if let Err(message) = self.finish() {
            log::error(format_args!("a service panicked while it ended: {message}"));
        }
    }
}

impl Service for Services {
    fn name(&self) -> &str {
        &self.inner.name
    }

    fn start(&self, _: &Handle) -> Starting {
        Box::pin(self.inner.start())
    }

    fn stop(&self) -> Stopping {
        Box::pin(self.inner.stop())
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services = self.inner.services.borrow();
        let names: Vec<_> = services.iter().map(|service| service.name()).collect();
        f.debug_struct("Services")
            .field("name", &self.inner.name)
            .field("services", &names)
            .field("running", &self.inner.running.get())
            .finish()
    }
}

/// The services were stopped before all of them had started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopRequested;

impl fmt::Display for StopRequested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was stopped before it had started")
    }
}

impl Error for StopRequested {}

/// A service panicked, with this message.
#[derive(Debug)]
struct Panicked(String);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it panicked: {}", self.0)
    }
}

impl Error for Panicked {}

/// A service failed to start.
#[derive(Debug)]
pub struct StartError {
    /// The name of the service.
    pub service: String,
    /// The reason.
    pub source: Box<dyn Error>,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be started: {}", self.service, self.source)
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
