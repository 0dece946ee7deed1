//! The head of a file's response.

use crate::{Body, HeaderValue, Response, header::CONTENT_TYPE};

fn content_type(name: &str) -> HeaderValue {
    let guess = mime_guess::from_path(name)
        .first_raw()
        .unwrap_or("application/octet-stream");
    let is_text = guess.starts_with("text/")
        || matches!(guess, "application/javascript" | "application/json");
    let text = if is_text {
        format!("{guess}; charset=utf-8")
    } else {
        guess.to_owned()
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// Returns a response for a file of this name, without a body.
pub(super) fn head(name: &str) -> Response {
    let mut response = Response::new(Body::empty());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, content_type(name));
    response
}
