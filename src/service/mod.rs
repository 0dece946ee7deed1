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
//!     protocol::serve(listener, |_peer: &_| Some(Echo))
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
    future::Future,
    pin::Pin,
    rc::Rc,
    time::Duration,
};

pub use backoff::Backoff;
pub use client::ClientService;
pub use server::ServerService;

use crate::{
    deferred::Deferred,
    reactor::{Handle, Phase},
};

/// How long each service may take to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// A part of a program that can be started and stopped.
pub trait Service {
    /// Returns the name for the log.
    fn name(&self) -> &str;

    /// Starts the service. It runs when the future is ready. Not called again while a start is in
    /// progress.
    fn start(&self, handle: &Handle) -> Starting;

    /// Stops the service. It has ended when the future is ready. Called only while the service
    /// runs. Dropping the future, which happens when the stop takes too long, must end the service
    /// as well.
    fn stop(&self) -> Stopping;
}

/// A service that is starting.
pub type Starting = Pin<Box<dyn Future<Output = Result<(), Box<dyn Error>>>>>;

/// A service that is stopping.
pub type Stopping = Pin<Box<dyn Future<Output = ()>>>;

/// A list of services. They start in the order in which they were added and stop in reverse order.
/// The list is a service itself, so lists can be nested.
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
}

impl Services {
    /// Creates an empty list.
    pub fn new(name: impl Into<String>, handle: &Handle) -> Self {
        let inner = Inner {
            name: name.into(),
            handle: handle.clone(),
            services: RefCell::default(),
            running: Cell::new(0),
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
    /// The services before it are stopped again.
    pub fn run(&self) -> Deferred<(), Box<dyn Error>> {
        let (starting, stopping) = (self.inner.clone(), self.inner.clone());
        let hook = self
            .inner
            .handle
            .on_shutdown(Phase::Before, move || async move {
                stopping.stop().await;
                Ok(())
            });
        hook.keep();
        self.inner
            .handle
            .defer(async move { starting.start().await })
    }
}

impl Inner {
    async fn start(&self) -> Result<(), Box<dyn Error>> {
        loop {
            let next = self.services.borrow().get(self.running.get()).cloned();
            let Some(service) = next else { return Ok(()) };
            if let Err(source) = service.start(&self.handle).await {
                let error = StartError {
                    service: service.name().to_owned(),
                    source,
                };
                tracing::error!(
                    service = service.name(),
                    error = %error.source,
                    "a service cannot be started"
                );
                self.stop().await;
                return Err(Box::new(error));
            }
            tracing::info!(service = service.name(), "a service has started");
            self.running.set(self.running.get() + 1);
        }
    }

    async fn stop(&self) {
        while let Some(last) = self.running.get().checked_sub(1) {
            self.running.set(last);
            let service = self.services.borrow()[last].clone();
            let stopping = service.stop();
            match self.handle.timeout(PATIENCE, stopping).await {
                Ok(()) => tracing::info!(service = service.name(), "a service has stopped"),
                Err(_) => tracing::warn!(
                    service = service.name(),
                    "a service did not stop in time and was aborted"
                ),
            }
        }
    }
}

impl Service for Services {
    fn name(&self) -> &str {
        &self.inner.name
    }

    fn start(&self, _: &Handle) -> Starting {
        let inner = self.inner.clone();
        Box::pin(async move { inner.start().await })
    }

    fn stop(&self) -> Stopping {
        let inner = self.inner.clone();
        Box::pin(async move { inner.stop().await })
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
