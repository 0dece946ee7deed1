//! Runs `tower` services as handlers (feature `tower`).

use std::{
    error::Error as StdError,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures_core::Stream;
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use tower_service::Service;

use super::{
    Body, Error, Handler, IntoResponse, Request, ResponseFuture, Uri, handler::marker::Mounted,
};

/// Makes a handler from a [`tower`](https://docs.rs/tower) HTTP service, such as an axum `Router`.
/// Use it with [`Router::mount`](super::Router::mount): the service sees the path below the mount
/// point. It runs on the reactor's thread. Code that needs tokio's runtime (its timers, its
/// sockets) does not work in it.
///
/// The service is cloned for each request, as is usual with tower.
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
            let answered = async {
                poll_fn(|cx| service.poll_ready(cx)).await?;
                service.call(::http::Request::from_parts(head, body)).await
            };
            match answered.await {
                Ok(response) => response.map(|body| Body::stream(Data(Box::pin(body)))),
                Err(error) => Error::internal(error.into()).into_response(),
            }
        })
    }
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

/// The data frames of a body, as a stream.
struct Data<B>(Pin<Box<B>>);

impl<B: HttpBody> Stream for Data<B> {
    type Item = Result<Bytes, B::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(frame) = ready!(self.0.as_mut().poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            if let Ok(mut data) = frame?.into_data() {
                let count = data.remaining();
                return Poll::Ready(Some(Ok(data.copy_to_bytes(count))));
            }
        }
    }
}
