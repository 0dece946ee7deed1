//! Runs `tower` services as handlers (feature `tower`).

use std::{
    error::Error as StdError,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tower_service::Service;

use super::{
    Body, Error, Handler, IntoResponse, Method, Request, ResponseFuture, StatusCode, Uri, Version,
    handler::marker::Mounted,
};

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
/// ```
/// let axum = axum::Router::new().route("/hello", axum::routing::get(|| async { "hello" }));
/// let router = entwined_http::Router::new().mount("/axum", entwined_http::tower(axum));
/// ```
pub fn tower<S, B>(service: S) -> impl Handler<Mounted>
where
    S: Service<::http::Request<Incoming>, Response = ::http::Response<B>> + Clone + 'static,
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
    S: Service<::http::Request<Incoming>, Response = ::http::Response<B>> + Clone + 'static,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    S::Future: 'static,
    B: HttpBody + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    fn call(this: &Rc<Self>, request: Request) -> ResponseFuture {
        let mut service = this.0.clone();
        ResponseFuture::new(async move {
            let below = below(&request);
            let (mut head, body, ..) = request.into_parts();
            head.uri = below;
            let (method, one) = (head.method.clone(), head.version < Version::HTTP_2);
            let answered = async {
                poll_fn(|cx| service.poll_ready(cx)).await?;
                service.call(::http::Request::from_parts(head, body)).await
            };
            match answered.await {
                // The service expects hyper to hand the connection over, which hyper does only for
                // streams that may go to other threads.
                Ok(response) if one && switches(&method, response.status()) => Error::new(
                    StatusCode::NOT_IMPLEMENTED,
                    "this service cannot take over a connection of HTTP/1.1 here",
                )
                .into_response(),
                Ok(response) => response.map(|body| Body::frames(Contiguous(Box::pin(body)))),
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

/// A body whose data are contiguous.
struct Contiguous<B>(Pin<Box<B>>);

impl<B: HttpBody> HttpBody for Contiguous<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(self.0.as_mut().poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            Ok(frame?.map_data(|mut data| {
                let count = data.remaining();
                data.copy_to_bytes(count)
            }))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
