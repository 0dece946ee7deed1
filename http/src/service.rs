//! What hyper calls for each request of a connection.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use entwined::reactor::Origin;
use http_body::Body as _;
use hyper::{body::Incoming, service::Service};

use super::{
    Body, Method, Request, Response, ResponseFuture,
    check::check,
    error::{negotiate, prefers_json},
    header::{CONNECTION, CONTENT_LENGTH, HeaderValue},
    pace::{Pace, Watch},
    request::Common,
    router::{Found, Routes, nothing},
    state::Shared,
};

/// The service that hyper calls for each request.
pub(super) struct Answer {
    pub(super) server: Rc<Shared>,
    pub(super) routes: Rc<Routes>,
    pub(super) pace: Rc<Pace>,
    pub(super) common: Rc<Common>,
    /// The origin of the layers around all handlers.
    pub(super) origin: Origin,
}

impl Service<::http::Request<Incoming>> for Answer {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: ::http::Request<Incoming>) -> Answering {
        let server = &self.server;
        server.requests.set(server.requests.get() + 1);
        let watch = self.pace.request_begins();
        let two = request.version() == ::http::Version::HTTP_2;
        let headless = two && *request.method() == Method::HEAD;
        let last = !two && self.pace.has_had_enough();
        let prefers_json = prefers_json(request.headers());
        let response = match check(&request) {
            Some(refusal) => ResponseFuture::ready(refusal),
            None => self.find_handler(request),
        };
        Answering {
            response,
            watch: Some(watch),
            headless,
            last,
            prefers_json,
        }
    }
}

impl Answer {
    fn find_handler(&self, request: ::http::Request<Incoming>) -> ResponseFuture {
        let mut request = Request::new(request, self.common.clone());
        if self.routes.has_layers() {
            return self.call(self.origin, || {
                Routes::answer_all(&self.routes, None, request)
            });
        }
        match self.routes.find(&mut request) {
            Found::Answer(response) => response.into(),
            Found::Nothing => ResponseFuture::ready(nothing()),
            Found::Layered(routes, fallback) => self.call(self.origin, || {
                Routes::answer_all(&routes, fallback, request)
            }),
            Found::Handler(endpoint) => self.call(endpoint.origin, || (endpoint.handler)(request)),
        }
    }

    fn call(&self, origin: Origin, call: impl FnOnce() -> ResponseFuture) -> ResponseFuture {
        ResponseFuture::called(&self.server.handle, origin, call)
    }
}

/// Makes the response to HEAD: the same head, with the length, but no body (RFC 9110, 9.3.2).
fn without_body(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.entry(CONTENT_LENGTH).or_insert(length.into());
    }
    Response::from_parts(head, Body::empty())
}

/// The future of one response. If the handler panics, the response is 500.
pub(super) struct Answering {
    response: ResponseFuture,
    /// Present until the response is ready.
    watch: Option<Watch>,
    /// The body must not be sent, and hyper does not ensure that itself.
    headless: bool,
    /// The connection ends with this response.
    last: bool,
    /// Whether the client prefers errors as JSON.
    prefers_json: bool,
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Poll::Ready(mut response) = Pin::new(&mut this.response).poll(cx) else {
            if let Some(watch) = &this.watch {
                watch.handler_waits();
            }
            return Poll::Pending;
        };
        let watch = this
            .watch
            .take()
            .expect("a future is not polled after its end");
        negotiate(&mut response, this.prefers_json);
        if this.headless {
            response = without_body(response);
        }
        if this.last {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.body_mut().watch(watch);
        Poll::Ready(Ok(response))
    }
}
