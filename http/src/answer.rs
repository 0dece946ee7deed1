//! Responses that are ready at once, and responses that come later.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use entwined::reactor::{Handle, Origin};

use super::{Error, IntoResponse, Response, StatusCode, labels::labels};

/// The future of one response. The response may be ready already.
///
/// ```
/// use entwined_http::{Layer, Next, Request, ResponseFuture, Router, StatusCode};
///
/// struct Closed;
///
/// impl Layer for Closed {
///     fn call(&self, request: Request, next: Next) -> ResponseFuture {
///         match request.path() {
///             "/status" => next.run(request),
///             _ => ResponseFuture::ready(StatusCode::SERVICE_UNAVAILABLE),
///         }
///     }
/// }
///
/// let router = Router::new().get("/status", || "closed").layer(Closed);
/// ```
#[must_use = "a future does nothing until it is awaited"]
pub struct ResponseFuture(State);

enum State {
    /// Boxed, because a response is large and is moved often.
    Ready(Option<Box<Response>>),
    Boxed(BoxFuture),
    Called(Called),
}

type BoxFuture = Pin<Box<dyn Future<Output = Response>>>;

impl ResponseFuture {
    /// Returns a response that is ready now. Allocates no future.
    pub fn ready(response: impl IntoResponse) -> Self {
        Box::new(response.into_response()).into()
    }

    /// Returns a response that comes later. Dropping this drops the future.
    pub fn new(future: impl Future<Output = Response> + 'static) -> Self {
        ResponseFuture(State::Boxed(Box::pin(future)))
    }

    /// Runs a handler, or the layers around all handlers. Measures its time, and answers 500 if it
    /// panics.
    pub(super) fn called(
        handle: &Handle,
        origin: Origin,
        call: impl FnOnce() -> ResponseFuture,
    ) -> Self {
        let work = Work {
            handle: handle.clone(),
            origin,
        };
        let future = match work.run(call) {
            Some(ResponseFuture(State::Boxed(future))) => future,
            // A response that is ready needs no further calls.
            Some(ready @ ResponseFuture(State::Ready(_))) => return ready,
            Some(called) => Box::pin(called),
            None => return ResponseFuture::ready(panicked()),
        };
        ResponseFuture(State::Called(Called { future, work }))
    }
}

impl From<Box<Response>> for ResponseFuture {
    fn from(response: Box<Response>) -> Self {
        ResponseFuture(State::Ready(Some(response)))
    }
}

impl Future for ResponseFuture {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        match &mut self.0 {
            State::Ready(response) => Poll::Ready(
                *response
                    .take()
                    .expect("the future was polled after completion"),
            ),
            State::Boxed(future) => future.as_mut().poll(cx),
            State::Called(called) => called.poll(cx),
        }
    }
}

impl std::fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ready = matches!(self.0, State::Ready(_));
        f.debug_struct("ResponseFuture")
            .field("ready", &ready)
            .finish_non_exhaustive()
    }
}

/// A handler that was called and has not answered yet.
struct Called {
    future: BoxFuture,
    work: Work,
}

impl Called {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Response> {
        let Called { future, work } = self;
        work.run(|| future.as_mut().poll(cx))
            .unwrap_or_else(|| Poll::Ready(panicked()))
    }
}

/// Runs user code. Only handlers are timed separately; the layers around all handlers count as a
/// part of the callback that they run in.
struct Work {
    handle: Handle,
    origin: Origin,
}

impl Work {
    fn run<T>(&self, function: impl FnOnce() -> T) -> Option<T> {
        if self.origin.label == labels().handler {
            self.handle.measure(self.origin, function)
        } else {
            self.handle.contain(self.origin, function)
        }
    }
}

fn panicked() -> Response {
    Error::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the server made a mistake",
    )
    .into_response()
}
