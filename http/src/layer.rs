//! What is done around handlers: layers.

use std::{future::Future, rc::Rc};

use super::{
    IntoResponse, Request, ResponseFuture,
    router::{Endpoint, Routes},
};

/// Something around the handlers of a [`Router`](super::Router): it sees each request before they
/// do, and each response after, and may answer by itself.
///
/// Every async function of a [`Request`] and a [`Next`] is one. There are ready-made ones in
/// [`layers`](super::layers).
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
    /// Answers a request, as a rule by what comes [next](Next::run).
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

/// The layers that are left, and the handlers behind them.
pub struct Next {
    pub(super) routes: Rc<Routes>,
    /// How many layers are left.
    pub(super) left: usize,
    /// Who answers what these have no handler for.
    pub(super) fallback: Option<Endpoint>,
}

impl Next {
    /// Has the request answered by them. A handler that panics answers 500.
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
