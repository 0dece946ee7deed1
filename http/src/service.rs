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
    Body, Error, HeaderMap, IntoResponse, Method, Request, Response, ResponseFuture, StatusCode,
    check::{Checked, check},
    error::negotiate,
    header::{CONNECTION, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING, UPGRADE},
    headers::content_length,
    pace::{Pace, Watch},
    request::Common,
    response::TakesOver,
    router::{Found, Routes, nothing},
    state::Shared,
};

/// The service that hyper calls for each request. Clones are the same.
#[derive(Clone)]
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
        let mut answering = Answering {
            asked: None,
            response: None,
            watch: Some(watch),
            heads: false,
            connects: false,
            headless: false,
            last: !two && self.pace.has_had_enough(),
            accept: None,
        };
        if two {
            // A read of 16 KiB can have a hundred requests of HTTP/2 in it, with heads of 64 KiB
            // each (the peer names headers that it has sent before). They are answered one by one,
            // each in the task of its stream.
            answering.asked = Some(Box::new((self.clone(), request)));
        } else {
            answering.begin(self, request);
        }
        answering
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
            Found::Nothing => ResponseFuture::ready(nothing(&request)),
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

/// Makes the response to HEAD: the same head, with the length, but no body (RFC 9110, 9.3.2). A
/// handler that answers HEAD itself has no body, which says nothing of the length.
fn without_body(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let may_have_length = !matches!(
        head.status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    ) && !head.status.is_informational();
    let length = body.size_hint().exact().filter(|length| *length > 0);
    if let Some(length) = length.filter(|_| may_have_length) {
        head.headers.entry(CONTENT_LENGTH).or_insert(length.into());
    }
    Response::from_parts(head, Body::empty())
}

/// Only an upgrade is answered with a status that is not final (RFC 9110, 15.2). A peer would wait
/// for the real response.
fn correct_status(response: &mut Response) {
    let status = response.status();
    if status.is_informational() && !response.body().is_upgrade() {
        let error = format!("a handler answered {status}, which is not final");
        *response = Error::internal(error).into_response();
    }
    if response.body().is_upgrade() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // A layer has refused it. The handler must not get the connection when that ends.
        *response.body_mut() = Body::empty();
    }
}

/// After success, the client of a CONNECT takes what comes for a tunnel, or for the protocol that
/// it has named (RFC 9110, 9.3.6; RFC 8441, 4). A handler of any method knows nothing of that.
fn correct_connect(response: &mut Response) {
    let takes_over = response.extensions_mut().remove::<TakesOver>().is_some();
    if response.status().is_success() && !takes_over {
        let message = "this server does not connect to others, nor to this protocol";
        *response = Error::new(StatusCode::NOT_IMPLEMENTED, message).into_response();
    }
}

/// Says that the connection ends with this response. Another protocol that it names stays named
/// (RFC 9110, 7.8).
fn closes(headers: &mut HeaderMap) {
    let close = HeaderValue::from_static("close");
    if headers.contains_key(UPGRADE) {
        headers.append(CONNECTION, close);
    } else {
        headers.insert(CONNECTION, close);
    }
}

/// Corrects what hyper trusts handlers to do right. Otherwise a peer would take the rest of the
/// content for another response, or wait for content that does not come.
fn correct_content(response: &mut Response, heads: bool) {
    // There are few headers: one look at each is cheaper than two lookups.
    let (mut is_coded, mut has_length) = (false, false);
    for name in response.headers().keys() {
        is_coded |= *name == TRANSFER_ENCODING;
        has_length |= *name == CONTENT_LENGTH;
    }
    if is_coded {
        // How the content is delimited is hyper's to say.
        response.headers_mut().remove(TRANSFER_ENCODING);
    }
    // These have no content: RFC 9110, 6.4.1 and 15.3.6.
    match response.status() {
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT => {
            response.headers_mut().remove(CONTENT_LENGTH);
            has_length = false;
            *response.body_mut() = Body::empty();
        }
        StatusCode::NOT_MODIFIED => *response.body_mut() = Body::empty(),
        _ => {}
    }
    if has_length {
        correct_length(response, heads);
    }
}

/// Corrects a length that is not that of the body. Responses to HEAD, and 304, have the length of
/// another one.
fn correct_length(response: &mut Response, heads: bool) {
    let is_of_another = heads || response.status() == StatusCode::NOT_MODIFIED;
    let told = content_length(response.headers());
    let right = match response.body().size_hint().exact() {
        Some(length) if length > 0 || !is_of_another => Some(length),
        _ => told,
    };
    if told.is_some() && told == right {
        return;
    }
    tracing::error!(?told, ?right, "a handler has set a wrong Content-Length");
    let headers = response.headers_mut();
    match right {
        Some(right) => drop(headers.insert(CONTENT_LENGTH, right.into())),
        None => drop(headers.remove(CONTENT_LENGTH)),
    }
}

/// The future of one response. If the handler panics, the response is 500.
pub(super) struct Answering {
    /// A request that nothing was done with yet.
    asked: Option<Box<(Answer, ::http::Request<Incoming>)>>,
    /// Present once something was.
    response: Option<ResponseFuture>,
    /// Present until the response is ready.
    watch: Option<Watch>,
    /// The request is HEAD.
    heads: bool,
    /// The request is CONNECT.
    connects: bool,
    /// The body must not be sent, and hyper does not ensure that itself.
    headless: bool,
    /// The connection ends with this response.
    last: bool,
    /// What the client accepts: an error may have two forms.
    accept: Option<HeaderValue>,
}

impl Answering {
    /// Checks the request and calls its handler.
    fn begin(&mut self, answer: &Answer, mut request: ::http::Request<Incoming>) {
        let two = request.version() == ::http::Version::HTTP_2;
        self.heads = *request.method() == Method::HEAD;
        self.connects = *request.method() == Method::CONNECT;
        self.headless = two && self.heads;
        let Checked { accept, refusal } = check(&mut request, answer.server.config.max_headers);
        self.accept = accept;
        self.response = Some(match refusal {
            Some(refusal) => ResponseFuture::ready(refusal),
            None => answer.find_handler(request),
        });
    }
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(asked) = this.asked.take() {
            let (answer, request) = *asked;
            this.begin(&answer, request);
        }
        let response = this.response.as_mut().expect("it has begun");
        let Poll::Ready(mut response) = Pin::new(response).poll(cx) else {
            if let Some(watch) = &this.watch {
                watch.handler_waits();
            }
            return Poll::Pending;
        };
        let watch = this
            .watch
            .take()
            .expect("a future is not polled after its end");
        correct_status(&mut response);
        if this.connects {
            correct_connect(&mut response);
        }
        negotiate(&mut response, this.accept.as_ref());
        correct_content(&mut response, this.heads);
        if this.headless {
            response = without_body(response);
        }
        // An upgrade ends HTTP on the connection anyway.
        if this.last && !response.body().is_upgrade() {
            closes(response.headers_mut());
        }
        response.body_mut().watch(watch);
        Poll::Ready(Ok(response))
    }
}
