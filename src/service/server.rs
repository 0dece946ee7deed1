//! Servers as services.

use std::{any::Any, cell::RefCell, fmt, future::ready, rc::Rc};

use super::{Service, Starting, Stopping};
use crate::{endpoint::ServerEndpoint, reactor::Handle, transport::BoxedListener};

/// Listens on an endpoint while it runs. Connections that are open when it stops continue.
pub struct ServerService {
    name: String,
    endpoint: ServerEndpoint,
    serve: Box<dyn Fn(BoxedListener) -> Box<dyn Any>>,
    server: Rc<RefCell<Option<Box<dyn Any>>>>,
}

impl ServerService {
    /// Creates a service that passes a new listener to `serve` at each start. `serve` returns a
    /// server, for example from [`protocol::serve`](crate::protocol::serve) or `http::serve`.
    /// Dropping that server stops it.
    pub fn new<S: 'static>(
        name: impl Into<String>,
        endpoint: ServerEndpoint,
        serve: impl Fn(BoxedListener) -> S + 'static,
    ) -> Self {
        let serve = Box::new(move |listener| -> Box<dyn Any> { Box::new(serve(listener)) });
        ServerService {
            name: name.into(),
            endpoint,
            serve,
            server: Rc::default(),
        }
    }
}

impl Service for ServerService {
    fn name(&self) -> &str {
        &self.name
    }

    fn start(&self, handle: &Handle) -> Starting {
        let started = self.endpoint.listen(handle).map(|listener| {
            use crate::transport::Listen as _;
            tracing::info!(
                service = self.name,
                endpoint = %self.endpoint,
                address = %listener.local_address(),
                "listening"
            );
            let server = (self.serve)(listener);
            let old = self.server.borrow_mut().replace(server);
            drop(old);
        });
        Box::pin(ready(started.map_err(Into::into)))
    }

    fn stop(&self) -> Stopping {
        let server = self.server.take();
        drop(server);
        Box::pin(ready(()))
    }
}

impl fmt::Debug for ServerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerService")
            .field("name", &self.name)
            .field("endpoint", &self.endpoint)
            .field("serves", &self.server.borrow().is_some())
            .finish()
    }
}
