//! Responses, and the types that can become one.

use bytes::Bytes;
use serde::Serialize;

use super::{Body, HeaderValue, StatusCode, header::CONTENT_TYPE, json};

/// A response: status, headers and [`Body`]. The server sets the length, the date and the headers
/// of the connection.
pub type Response = ::http::Response<Body>;

/// A type that a handler may return.
pub trait IntoResponse {
    /// Returns the response.
    fn into_response(self) -> Response;
}

/// A value as JSON, with its content type. If the value cannot be written as JSON, the response has
/// status 500.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

/// A text as HTML, with its content type.
#[derive(Debug, Clone, Copy)]
pub struct Html<T>(pub T);

fn typed(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

const TEXT: &str = "text/plain; charset=utf-8";

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for Body {
    fn into_response(self) -> Response {
        Response::new(self)
    }
}

impl IntoResponse for &'static str {
    fn into_response(self) -> Response {
        typed(TEXT, self)
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Response {
        typed(TEXT, self)
    }
}

impl IntoResponse for Bytes {
    fn into_response(self) -> Response {
        typed("application/octet-stream", self)
    }
}

impl IntoResponse for Vec<u8> {
    fn into_response(self) -> Response {
        Bytes::from(self).into_response()
    }
}

impl IntoResponse for () {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl IntoResponse for StatusCode {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        *response.status_mut() = self;
        response
    }
}

impl<T: IntoResponse> IntoResponse for (StatusCode, T) {
    fn into_response(self) -> Response {
        let mut response = self.1.into_response();
        *response.status_mut() = self.0;
        response
    }
}

impl<T: Into<Body>> IntoResponse for Html<T> {
    fn into_response(self) -> Response {
        typed("text/html; charset=utf-8", self.0)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match json::encode(&self.0) {
            Ok(json) => typed("application/json", json),
            Err(error) => super::Error::internal(error).into_response(),
        }
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

impl<T: IntoResponse> IntoResponse for Option<T> {
    /// `None` becomes 404.
    fn into_response(self) -> Response {
        match self {
            Some(value) => value.into_response(),
            None => super::Error::not_found("not found").into_response(),
        }
    }
}
