//! Runs `tower` services as handlers (feature `tower`).

use std::{
    error::Error as StdError,
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tower_service::Service;

use super::{
    Body, Error, Handler, IntoResponse, Method, Request, ResponseFuture, StatusCode, Uri, Version,
    handler::marker::Mounted, rate::Meter, response::TakesOver,
};
use entwined::reactor::Handle;

/// Makes a handler from a [`tower`](https://docs.rs/tower) HTTP service, such as an axum `Router`.
/// Use it with [`Router::mount`](super::Router::mount): the service sees the path below the mount
/// point. It runs on the reactor's thread. Code that needs tokio's runtime (its timers, its
/// sockets) does not work in it.
///
/// The service is cloned for each request, as is usual with tower. Trailers go both ways, so a gRPC
/// service can answer. Upgrades work over HTTP/2 (RFC 8441). Over HTTP/1.1 a service cannot take
/// over the connection: where it answers 101, such as to a WebSocket, the client gets 501. Use
/// [`websocket`](crate::websocket) or [`Request::upgrade`] for these, on a route beside the
/// service.
///
/// The body of a request keeps [`Config::min_rate`](crate::Config::min_rate): a peer that sends
/// more slowly ends it with an error. How large a body may be that is read as a whole, and how long
/// that may take, is the service's to limit (axum: 2 MB).
///
/// ```
/// let axum = axum::Router::new().route("/hello", axum::routing::get(|| async { "hello" }));
/// let router = entwined_http::Router::new().mount("/axum", entwined_http::tower(axum));
/// ```
pub fn tower<S, B>(service: S) -> impl Handler<Mounted>
where
    S: Service<::http::Request<RequestBody>, Response = ::http::Response<B>> + Clone + 'static,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    S::Future: 'static,
    B: HttpBody + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    Mount(service)
}

struct Mount<S>(S);

impl<S, B> Handler<Mounted> for Mount<S>
where
    S: Service<::http::Request<RequestBody>, Response = ::http::Response<B>> + Clone + 'static,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    S::Future: 'static,
    B: HttpBody + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    fn call(this: &Rc<Self>, request: Request) -> ResponseFuture {
        let mut service = this.0.clone();
        ResponseFuture::new(async move {
            let below = below(&request);
            let (mut head, body, meter, handle) = request.into_parts();
            head.uri = below;
            let (method, one) = (head.method.clone(), head.version < Version::HTTP_2);
            let mut watcher = Watcher::new(meter, handle);
            let progress = watcher.progress.clone();
            let mut answered = pin!(async {
                poll_fn(|cx| service.poll_ready(cx)).await?;
                let body = RequestBody { body, progress };
                service.call(::http::Request::from_parts(head, body)).await
            });
            let answered = poll_fn(|cx| {
                let answered = answered.as_mut().poll(cx);
                if answered.is_pending() {
                    watcher.poll(cx);
                }
                answered
            });
            match answered.await {
                // The service expects hyper to hand the connection over, which hyper does only for
                // streams that may go to other threads.
                Ok(response) if one && switches(&method, response.status()) => Error::new(
                    StatusCode::NOT_IMPLEMENTED,
                    "this service cannot take over a connection of HTTP/1.1 here",
                )
                .into_response(),
                Ok(mut response) => {
                    // Hyper gives it the stream.
                    response.extensions_mut().insert(TakesOver);
                    response.map(|body| {
                        let body = Box::pin(body);
                        Body::frames(Contiguous { body, watcher })
                    })
                }
                Err(error) => Error::internal(error.into()).into_response(),
            }
        })
    }
}

/// Whether the response ends HTTP on the connection (RFC 9110, 7.8 and 9.3.6).
fn switches(method: &Method, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (*method == Method::CONNECT && status.is_success())
}

/// The request target as the service sees it.
fn below(request: &Request) -> Uri {
    let query = request
        .uri()
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = format!("{}{query}", request.path_below()).parse().ok();
    Uri::from_parts(parts).unwrap_or_else(|_| request.uri().clone())
}

/// The body of a request, as a [`tower()`] service reads it.
pub struct RequestBody {
    body: Incoming,
    progress: Arc<Progress>,
}

/// How a body gets on. A service's body must be `Send`, and what measures it is not.
#[derive(Default)]
struct Progress {
    moved: AtomicUsize,
    /// Whether the service waits for the peer.
    waits: AtomicBool,
    failed: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let (polled, progress) = (Pin::new(&mut this.body).poll_frame(cx), &this.progress);
        progress.waits.store(polled.is_pending(), Relaxed);
        match polled {
            Poll::Pending if progress.failed.load(Relaxed) => {
                Poll::Ready(Some(Err("the body arrives too slowly".into())))
            }
            Poll::Pending => {
                *progress
                    .waker
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
                Poll::Pending
            }
            Poll::Ready(frame) => {
                if let Some(Ok(frame)) = &frame {
                    let count = frame.data_ref().map_or(0, Bytes::len);
                    progress.moved.fetch_add(count, Relaxed);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

/// Ends a body whose peer is too slow.
struct Watcher {
    meter: Meter,
    handle: Handle,
    progress: Arc<Progress>,
    seen: usize,
}

impl Watcher {
    fn new(meter: Meter, handle: Handle) -> Self {
        Watcher {
            meter,
            handle,
            progress: Arc::default(),
            seen: 0,
        }
    }

    /// Called when the service, or its response, waits for something.
    fn poll(&mut self, cx: &mut Context<'_>) {
        let progress = &self.progress;
        let moved = progress.moved.load(Relaxed);
        self.meter
            .moved(moved - std::mem::replace(&mut self.seen, moved));
        let waits = progress.waits.load(Relaxed) && !progress.failed.load(Relaxed);
        if waits && self.meter.poll_too_slow(cx, &self.handle).is_ready() {
            progress.failed.store(true, Relaxed);
            let mut waker = progress
                .waker
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let waker = waker.take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// A body whose data are contiguous.
struct Contiguous<B> {
    body: Pin<Box<B>>,
    /// The service may read the request while it answers.
    watcher: Watcher,
}

impl<B: HttpBody> HttpBody for Contiguous<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = self.body.as_mut().poll_frame(cx);
        if polled.is_pending() {
            self.watcher.poll(cx);
        }
        let contiguous = |mut data: B::Data| data.copy_to_bytes(data.remaining());
        polled.map(|frame| frame.map(|frame| Ok(frame?.map_data(contiguous))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
