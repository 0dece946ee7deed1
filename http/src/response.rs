//! Responses, and the types that can become one.

use std::{borrow::Cow, convert::Infallible};

use bytes::Bytes;

use super::{Body, HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};

/// A response: status, headers and [`Body`]. The server sets the length, the date and the headers
/// of the connection.
///
/// `Response::builder()` makes one step by step. Its result can be returned from a handler as it
/// is, whatever the body is made from:
///
/// ```
/// use entwined_http::{IntoResponse, Response, Router, StatusCode};
///
/// async fn tea() -> impl IntoResponse {
///     Response::builder()
///         .status(StatusCode::IM_A_TEAPOT)
///         .header("x-leaves", "Darjeeling")
///         .body("no coffee")
/// }
///
/// let router = Router::new().get("/coffee", tea);
/// ```
pub type Response<T = Body> = ::http::Response<T>;

/// A type that a handler may return.
///
/// | type | response |
/// |---|---|
/// | `&str`, `String`, `Cow<str>` | 200, `text/plain; charset=utf-8` |
/// | `Bytes`, `Vec<u8>`, `&[u8]`, `Cow<[u8]>` | 200, `application/octet-stream` |
/// | [`Json`](crate::Json), [`Html`] | 200, with their content type |
/// | [`StatusCode`] | this status, no body |
/// | `()` | 204 |
/// | [`Redirect`](crate::Redirect) | 303, 307 or 308 |
/// | `(StatusCode, R)` | `R` with this status |
/// | `(H, R)`, `(StatusCode, H, R)` | `R` with these [headers](crate::IntoHeaders) |
/// | `Option<R>` | `R`, or 404 |
/// | `Result<R, E>` | `R` or `E`: an [`Error`](crate::Error) for example |
/// | [`Response`], [`Body`], `http::Response<T>` | itself |
///
/// ```
/// use entwined_http::{IntoResponse, Json, Router, StatusCode, header};
///
/// async fn create() -> impl IntoResponse {
///     (StatusCode::CREATED, [(header::LOCATION, "/books/7")], Json(7))
/// }
///
/// let router = Router::new().post("/books", create);
/// ```
pub trait IntoResponse {
    /// Returns the response.
    fn into_response(self) -> Response;
}

/// A text as HTML, with its content type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Html<T>(pub T);

impl<T> From<T> for Html<T> {
    fn from(text: T) -> Self {
        Html(text)
    }
}

pub(super) const TEXT: &str = "text/plain; charset=utf-8";

pub(super) fn typed(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

impl<B: Into<Body>> IntoResponse for ::http::Response<B> {
    fn into_response(self) -> Response {
        self.map(Into::into)
    }
}

impl IntoResponse for Body {
    fn into_response(self) -> Response {
        Response::new(self)
    }
}

macro_rules! bodies {
    ($content_type:expr, $($type:ty)*) => {
        $(impl IntoResponse for $type {
            fn into_response(self) -> Response {
                typed($content_type, self)
            }
        })*
    };
}

bodies! { TEXT, &'static str String Box<str> Cow<'static, str> }
bodies! { "application/octet-stream", Bytes Vec<u8> &'static [u8] Box<[u8]> Cow<'static, [u8]> }

impl<const N: usize> IntoResponse for &'static [u8; N] {
    fn into_response(self) -> Response {
        self.as_slice().into_response()
    }
}

impl IntoResponse for () {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl IntoResponse for Infallible {
    fn into_response(self) -> Response {
        match self {}
    }
}

impl IntoResponse for StatusCode {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        *response.status_mut() = self;
        response
    }
}

impl IntoResponse for HeaderMap {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        *response.headers_mut() = self;
        response
    }
}

impl<T: Into<Body>> IntoResponse for Html<T> {
    fn into_response(self) -> Response {
        typed("text/html; charset=utf-8", self.0)
    }
}

impl<T: IntoResponse, E: IntoResponse> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(value) => value.into_response(),
            Err(error) => error.into_response(),
        }
    }
}

impl<R: IntoResponse> IntoResponse for (StatusCode, R) {
    fn into_response(self) -> Response {
        let (status, rest) = self;
        let mut response = rest.into_response();
        *response.status_mut() = status;
        response
    }
}

/// Marks the response to CONNECT of a handler that takes the stream over.
#[derive(Clone)]
pub(super) struct TakesOver;
