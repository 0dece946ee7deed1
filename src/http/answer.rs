//! Responses that are ready at once, and those that come later.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use super::{Error, IntoResponse, Response, StatusCode};
use crate::reactor::{Core, Kind, Moment, Origin};

/// The future of one response. The response may be ready already.
///
/// ```
/// use entwined::http::{Layer, Next, Request, ResponseFuture, Router, StatusCode};
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
    /// A response that is ready now. No future is allocated.
    pub fn ready(response: impl IntoResponse) -> Self {
        Box::new(response.into_response()).into()
    }

    /// A response that comes later. Dropping this drops the future.
    pub fn new(future: impl Future<Output = Response> + 'static) -> Self {
        ResponseFuture(State::Boxed(Box::pin(future)))
    }

    /// Runs a handler, or the code around all handlers. Records its time, and answers 500 if it
    /// panics.
    pub(super) fn called(
        core: &Rc<Core>,
        origin: Origin,
        call: impl FnOnce() -> ResponseFuture,
    ) -> Self {
        let timer = Timer {
            origin,
            core: core.clone(),
        };
        timer.begin();
        let before = timer.before();
        let future = match core.contain(origin, call) {
            Some(ResponseFuture(State::Boxed(future))) => future,
            // A ready response is not polled again.
            Some(ResponseFuture(State::Ready(response))) => {
                timer.end(before);
                return ResponseFuture(State::Ready(response));
            }
            Some(called) => Box::pin(called),
            None => {
                timer.end(before);
                return ResponseFuture::ready(panicked());
            }
        };
        ResponseFuture(State::Called(Called {
            future,
            timer,
            fresh: true,
        }))
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
    timer: Timer,
    /// Not polled yet.
    fresh: bool,
}

impl Called {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Response> {
        let Called {
            future,
            timer,
            fresh,
        } = self;
        // The call and the first poll are timed together.
        if !std::mem::take(fresh) {
            timer.begin();
        }
        let before = timer.before();
        let polled = timer
            .core
            .contain(timer.origin, || future.as_mut().poll(cx));
        timer.end(before);
        polled.unwrap_or_else(|| Poll::Ready(panicked()))
    }
}

/// Only handlers have a time of their own. The code around them counts towards the callback that it
/// runs in.
struct Timer {
    origin: Origin,
    core: Rc<Core>,
}

impl Timer {
    fn is_on(&self) -> bool {
        self.origin.kind == Kind::Handler && self.core.meter.on.get()
    }

    /// Charges the time until now to the HTTP server, not to the handler.
    fn begin(&self) {
        if self.is_on() {
            self.core.meter.account(Kind::Http, 0, Moment::now());
        }
    }

    /// What `end` compares with: the number of turns made, and the time spent waiting for a
    /// processor.
    fn before(&self) -> (u64, Duration) {
        (self.core.turns.get(), self.core.meter.waited())
    }

    fn end(&self, (turns, waited): (u64, Duration)) {
        if self.is_on() {
            let meter = &self.core.meter;
            let duration = meter.account(Kind::Handler, 1, Moment::now());
            // A handler that made turns itself did not block the loop.
            if self.core.turns.get() == turns {
                meter.record(self.origin, duration, waited);
            }
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
