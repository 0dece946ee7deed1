//! Redirects (RFC 9110, 15.4).

use std::fmt::Write;

use super::{Error, HeaderValue, IntoResponse, Response, StatusCode, header::LOCATION};

/// Sends the client to another URL.
///
/// ```
/// use entwined_http::{Redirect, Router};
///
/// let router = Router::new()
///     .get("/old", || Redirect::permanent("/new"))
///     .post("/books", || async { Redirect::to("/books/7") });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "return it from a handler"]
pub struct Redirect {
    status: StatusCode,
    target: String,
}

impl Redirect {
    /// 303: the client gets `target` with GET, whatever the method was. This is the answer to a
    /// form.
    pub fn to(target: impl Into<String>) -> Self {
        Redirect::with(StatusCode::SEE_OTHER, target)
    }

    /// 308: the client sends the same request to `target`, now and in future.
    pub fn permanent(target: impl Into<String>) -> Self {
        Redirect::with(StatusCode::PERMANENT_REDIRECT, target)
    }

    /// 307: the client sends the same request to `target`, this time.
    pub fn temporary(target: impl Into<String>) -> Self {
        Redirect::with(StatusCode::TEMPORARY_REDIRECT, target)
    }

    fn with(status: StatusCode, target: impl Into<String>) -> Self {
        Redirect {
            status,
            target: target.into(),
        }
    }

    /// The status: 303, 307 or 308.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Where the client is sent to.
    pub fn target(&self) -> &str {
        &self.target
    }
}

/// The target as a URL: what is not ASCII, and spaces, are percent-encoded (RFC 3986, 2). The rest
/// stays, as only the program knows what is encoded already.
fn encoded(target: &str) -> String {
    let mut encoded = String::with_capacity(target.len());
    for byte in target.bytes() {
        if byte.is_ascii() && byte != b' ' {
            encoded.push(byte.into());
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes everything");
        }
    }
    encoded
}

/// What is not ASCII in the target is percent-encoded. If the target is not valid in a header, the
/// response is 500 and the log says why.
impl IntoResponse for Redirect {
    fn into_response(self) -> Response {
        match HeaderValue::try_from(encoded(&self.target)) {
            Ok(target) => {
                let mut response = self.status.into_response();
                response.headers_mut().insert(LOCATION, target);
                response
            }
            Err(error) => Error::internal(error).into_response(),
        }
    }
}
