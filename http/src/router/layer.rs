//! Layers: code around handlers.

use std::{future::Future, rc::Rc};

use super::routes::{Fallback, Routes};
use crate::{IntoResponse, Request, ResponseFuture};

/// Code around the handlers of a [`Router`](crate::Router). A layer sees each request before the
/// handler and each response after it, and may answer itself.
///
/// Every async function that takes a [`Request`] and a [`Next`] is a layer. Ready-made ones are in
/// [`layers`](crate::layers).
///
/// ```
/// use entwined_http::{Error, Next, Request, Response, Router};
///
/// async fn only_from_here(request: Request, next: Next) -> Result<Response, Error> {
///     if request.peer_address().tcp().is_some_and(|peer| !peer.ip().is_loopback()) {
///         return Err(Error::not_found("there is nothing here"));
///     }
///     Ok(next.run(request).await)
/// }
///
/// let router = Router::new().get("/", || "hello").layer(only_from_here);
/// ```
pub trait Layer: 'static {
    /// Answers a request, usually by calling [`next.run`](Next::run).
    fn call(&self, request: Request, next: Next) -> ResponseFuture;
}

impl<F, Fut> Layer for F
where
    F: Fn(Request, Next) -> Fut + 'static,
    Fut: Future + 'static,
    Fut::Output: IntoResponse,
{
    fn call(&self, request: Request, next: Next) -> ResponseFuture {
        let answering = self(request, next);
        ResponseFuture::new(async move { answering.await.into_response() })
    }
}

/// The remaining layers, and the handlers behind them.
pub struct Next {
    pub(super) routes: Rc<Routes>,
    /// How many layers are left.
    pub(super) left: usize,
    /// Answers requests for which `routes` has no handler.
    pub(super) fallback: Option<Fallback>,
}

impl Next {
    /// Passes the request on to the remaining layers and the handler. If the handler panics, the
    /// response is 500.
    pub fn run(self, request: Request) -> ResponseFuture {
        Routes::answer(self, request)
    }
}

impl std::fmt::Debug for Next {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Next")
            .field("layers", &self.left)
            .finish_non_exhaustive()
    }
}
