//! The small layers.

use std::{cell::Cell, fmt, rc::Rc, time::Duration};

use super::random::{hex, random};
use crate::{
    Error, HeaderValue, IntoResponse, Layer, Next, Request, Response, ResponseFuture, StatusCode,
    header::{HeaderName, RETRY_AFTER},
};

/// Logs each request when its response begins, as a `tracing` event with level INFO and target
/// `entwined_http::access`. The fields are method, path, status, peer, host, the time that the
/// handlers took in milliseconds, and the [`RequestId`] if there is one.
///
/// Make it the outermost layer, so that it sees the responses of the other layers.
pub fn access_log() -> impl Layer {
    |request: Request, next: Next| {
        let (method, path) = (request.method().clone(), request.path().to_owned());
        let host = request.host().unwrap_or("").to_owned();
        let (peer, handle) = (request.peer_address().to_string(), request.handle().clone());
        let start = handle.now();
        async move {
            let response = next.run(request).await;
            let took = (handle.now() - start).as_secs_f64() * 1e3;
            let id = response
                .headers()
                .get(&REQUEST_ID)
                .and_then(|id| id.to_str().ok())
                .unwrap_or("");
            let status = response.status().as_u16();
            tracing::info!(
                target: "entwined_http::access",
                %method, path, status, took, peer, host, id
            );
            response
        }
    }
}

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request: the one that a proxy sent in `X-Request-Id`, or a new one. Handlers extract
/// it with [`State`](crate::State).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub String);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Gives each request a [`RequestId`] and puts it into the response's `X-Request-Id`. An id that
/// comes with the request is kept if it has 1 to 64 letters, digits, `-` and `_`.
pub fn request_id() -> impl Layer {
    let count = Cell::new(0_u64);
    let boot = random::<8>();
    move |mut request: Request, next: Next| {
        let given = request
            .headers()
            .get(&REQUEST_ID)
            .and_then(|id| id.to_str().ok())
            .filter(|id| is_id(id));
        let id = given.map(str::to_owned).unwrap_or_else(|| {
            count.set(count.get() + 1);
            format!("{}-{:x}", hex(&boot), count.get())
        });
        request.insert(RequestId(id.clone()));
        async move {
            let mut response = next.run(request).await;
            if let Ok(value) = HeaderValue::from_str(&id) {
                response.headers_mut().insert(REQUEST_ID.clone(), value);
            }
            response
        }
    }
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Answers 503 if the handlers take longer than `limit` to begin a response. The handlers' future
/// is dropped.
pub fn timeout(limit: Duration) -> impl Layer {
    move |request: Request, next: Next| {
        let handle = request.handle().clone();
        async move {
            match handle.timeout(limit, next.run(request)).await {
                Ok(response) => response,
                Err(_) => Error::new(StatusCode::SERVICE_UNAVAILABLE, "the answer took too long")
                    .into_response(),
            }
        }
    }
}

/// Lets at most `count` requests be handled at a time. Further requests get a 503 with
/// `Retry-After: 1`.
pub fn max_concurrent(count: usize) -> impl Layer {
    struct Place(Rc<Cell<usize>>);

    impl Drop for Place {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }

    let taken = Rc::new(Cell::new(0));
    move |request: Request, next: Next| {
        let place = (taken.get() < count).then(|| {
            taken.set(taken.get() + 1);
            Place(taken.clone())
        });
        let answering = place.map(|place| (place, next.run(request)));
        async move {
            match answering {
                Some((_place, answering)) => answering.await,
                None => {
                    let error = Error::new(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "too many requests are being answered",
                    );
                    let mut response: Response = error.into_response();
                    response
                        .headers_mut()
                        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
                    response
                }
            }
        }
    }
}

/// Sets the maximum bytes of a body that is read as a whole, in place of
/// [`Config::max_body_size`](crate::Config::max_body_size).
pub fn max_body_size(bytes: usize) -> impl Layer {
    MaxBodySize(bytes)
}

struct MaxBodySize(usize);

impl Layer for MaxBodySize {
    fn call(&self, mut request: Request, next: Next) -> ResponseFuture {
        request.set_max_body_size(self.0);
        next.run(request)
    }
}
