//! Error responses.

use std::{borrow::Cow, error, fmt, io, sync::Arc};

use entwined::deferred::Interrupted;

use super::{
    HeaderName, HeaderValue, IntoResponse, Response, StatusCode,
    header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, UPGRADE, VARY},
    log::{self, Chain},
    response::{TEXT, typed},
};

type BoxError = Box<dyn error::Error + Send + Sync>;

/// A status and a message for the client. Handlers return it as the error of a `Result`.
///
/// The body of the response is the message as plain text, or `{"error": "the message"}` for clients
/// whose `Accept` prefers JSON.
///
/// The client never sees the [source](error::Error::source) of an error: it goes to the log, once,
/// when the error becomes a response.
///
/// ```
/// use entwined_http::{Error, Path, Router};
///
/// async fn book(Path(id): Path<u32>) -> Result<String, Error> {
///     if id == 0 {
///         return Err(Error::not_found("there is no such book"));
///     }
///     // If the file cannot be read, the client hears that the server made a mistake.
///     std::fs::read_to_string(format!("/var/lib/books/{id}")).map_err(Error::internal)
/// }
///
/// let router = Router::new().get("/books/{id}", book);
/// ```
#[derive(Clone, Debug)]
#[must_use = "an error becomes a response when a handler returns it"]
pub struct Error {
    status: StatusCode,
    message: Cow<'static, str>,
    source: Option<Arc<dyn error::Error + Send + Sync>>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What clients hear of a mistake that is not theirs.
const MISTAKE: &str = "the server made a mistake";

impl Error {
    /// Makes an error with this status. The client sees `message`.
    pub fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Error {
            status,
            message: message.into(),
            source: None,
            headers: Vec::new(),
        }
    }

    /// 400: the request is wrong.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404: not found.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(StatusCode::NOT_FOUND, message)
    }

    /// 500: the client only hears that the server made a mistake. The cause, an error or a text,
    /// goes to the log.
    pub fn internal(cause: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        Error::new(StatusCode::INTERNAL_SERVER_ERROR, MISTAKE).with_source(cause)
    }

    /// Sets the cause, which goes to the log and not to the client.
    pub fn with_source(mut self, cause: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        self.source = Some(cause.into().into());
        self
    }

    /// Adds a header to the response, such as `Retry-After`.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// 426: the client must switch to this protocol, which the response names (RFC 9110, 15.5.22).
    pub(super) fn upgrade_required(
        protocol: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        // `Upgrade` is for the next hop only: RFC 9110, 7.8. Hyper leaves both out in HTTP/2.
        Error::new(StatusCode::UPGRADE_REQUIRED, message)
            .with_header(CONNECTION, HeaderValue::from_static("upgrade"))
            .with_header(UPGRADE, HeaderValue::from_static(protocol))
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What the client hears.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        match error::Error::source(&self) {
            Some(cause) if self.status.is_server_error() => log::error("a request failed", cause),
            Some(cause) => tracing::debug!(cause = %Chain(cause), "a request was refused"),
            None => {}
        }
        let mut response = typed(TEXT, text(&self.message));
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            // There is one of the text already.
            if name == CONTENT_TYPE {
                response.headers_mut().insert(name, value);
            } else {
                response.headers_mut().append(name, value);
            }
        }
        response.extensions_mut().insert(Message(self.message));
        response
    }
}

/// The body of the response as text.
fn text(message: &str) -> String {
    format!("{message}\n")
}

/// Marks the response of an [`Error`], and keeps its message.
#[derive(Clone)]
struct Message(Cow<'static, str>);

/// Gives the response of an [`Error`] the form that the client prefers, by its `Accept`. Leaves
/// other responses as they are, and errors whose body a layer has changed.
pub(super) fn negotiate(response: &mut Response, accept: Option<&HeaderValue>) {
    let Some(Message(message)) = response.extensions_mut().remove() else {
        return;
    };
    let headers = response.headers_mut();
    // A cache must not give one client's form to another.
    headers.append(VARY, HeaderValue::from_static("accept"));
    let is_text = headers.get(CONTENT_TYPE).is_some_and(|kind| kind == TEXT);
    let is_coded = headers.contains_key(CONTENT_ENCODING);
    // A layer may have taken the message away.
    let is_ours = response.body().is_text(&text(&message));
    let is_final = !is_text || is_coded || !is_ours;
    if is_final || !accept.is_some_and(prefers_json) {
        return;
    }
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    let text = serde_json::json!({ "error": message }).to_string();
    *response.body_mut() = text.into();
}

/// Whether a client prefers JSON to text: it names JSON in `Accept` (RFC 9110, 12.5.1), and no text
/// before it or with a higher weight. `*/*` is no preference.
fn prefers_json(accept: &HeaderValue) -> bool {
    let (mut json, mut text) = (0.0, 0.0);
    let accept = accept.to_str().unwrap_or("");
    for entry in accept.split(',') {
        let mut parts = entry.split(';').map(str::trim);
        let media = parts.next().unwrap_or("");
        let weight = parts
            .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
            .map_or(1.0, |weight| weight.trim().parse().unwrap_or(0.0_f32));
        // At the same weight, the one that is named first wins.
        if media.eq_ignore_ascii_case("application/json") || ends_with(media, "+json") {
            if weight > text {
                json = weight.max(json);
            }
        } else if starts_with(media, "text/") && weight > json {
            text = weight.max(text);
        }
    }
    json > text
}

fn starts_with(text: &str, start: &str) -> bool {
    let head = text.get(..start.len());
    head.is_some_and(|head| head.eq_ignore_ascii_case(start))
}

fn ends_with(text: &str, end: &str) -> bool {
    let place = text.len().checked_sub(end.len());
    let tail = place.and_then(|place| text.get(place..));
    tail.is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

/// 503 if the work timed out or was refused, 500 otherwise.
impl From<Interrupted> for Error {
    fn from(why: Interrupted) -> Self {
        match why {
            Interrupted::TimedOut => {
                Error::new(StatusCode::SERVICE_UNAVAILABLE, "the answer took too long")
            }
            Interrupted::Refused => {
                Error::new(StatusCode::SERVICE_UNAVAILABLE, "the server is too busy")
            }
            why => Error::internal(why),
        }
    }
}

/// As [`Error::internal`].
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::internal(error)
    }
}

/// As [`Error::internal`]: a header or a status was not valid.
impl From<::http::Error> for Error {
    fn from(error: ::http::Error) -> Self {
        Error::internal(error)
    }
}

/// As [`Error::internal`].
impl From<BoxError> for Error {
    fn from(error: BoxError) -> Self {
        Error::internal(error)
    }
}

/// As [`Error::internal`].
impl IntoResponse for BoxError {
    fn into_response(self) -> Response {
        Error::internal(self).into_response()
    }
}

/// As [`Error::internal`].
impl IntoResponse for Box<dyn error::Error> {
    fn into_response(self) -> Response {
        Error::internal(self.to_string()).into_response()
    }
}

/// As [`Error::internal`].
impl IntoResponse for io::Error {
    fn into_response(self) -> Response {
        Error::internal(self).into_response()
    }
}

/// As [`Error::internal`]: a handler may return the result of `Response::builder()` as it is.
impl IntoResponse for ::http::Error {
    fn into_response(self) -> Response {
        Error::internal(self).into_response()
    }
}

/// `None` is 404.
impl<T: IntoResponse> IntoResponse for Option<T> {
    fn into_response(self) -> Response {
        match self {
            Some(value) => value.into_response(),
            None => Error::not_found("not found").into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefers(accept: &str) -> bool {
        prefers_json(&accept.parse().expect("a value"))
    }

    #[test]
    fn json_is_for_clients_that_name_it_first() {
        for accept in [
            "application/json",
            "application/problem+json, */*;q=0.1",
            "APPLICATION/JSON, text/plain, */*",
            "text/html;q=0.5, application/json;q=0.9",
        ] {
            assert!(prefers(accept), "{accept}");
        }
        for accept in [
            "*/*",
            "",
            "application/*",
            "application/json;q=0",
            "text/html, application/json",
            "application/json;q=0.8, text/plain",
            "application/json;q=x",
        ] {
            assert!(!prefers(accept), "{accept}");
        }
    }

    #[test]
    fn a_cause_is_told_to_the_program_and_not_to_the_client() {
        let error = Error::internal(io::Error::other("the disk is on fire"));
        assert_eq!(error.to_string(), MISTAKE);
        let source = error::Error::source(&error).expect("a source");
        assert_eq!(source.to_string(), "the disk is on fire");
    }
}
