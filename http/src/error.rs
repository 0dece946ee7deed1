//! Error responses.

use std::{error, fmt};

use super::{IntoResponse, Response, StatusCode};
use entwined::deferred::Interrupted;

/// A status and a message for the client. Handlers return it as the error of a `Result`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    status: StatusCode,
    message: String,
}

impl Error {
    /// Makes an error with this status. `message` becomes the body of the response.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Error {
            status,
            message: message.into(),
        }
    }

    /// 400: the request is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Error::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404: not found.
    pub fn not_found(message: impl Into<String>) -> Self {
        Error::new(StatusCode::NOT_FOUND, message)
    }

    /// Status 500. The body is the error's text, so the client sees it.
    pub fn internal(error: impl fmt::Display) -> Self {
        Error::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl error::Error for Error {}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        (self.status, format!("{}\n", self.message)).into_response()
    }
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
            Interrupted::Panicked(_) => Error::internal("the server made a mistake"),
            why => Error::internal(why),
        }
    }
}

/// Status 500. The error's text goes to the log and not to the client.
impl IntoResponse for Box<dyn error::Error> {
    fn into_response(self) -> Response {
        tracing::error!(error = %self, "a handler failed");
        Error::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the server made a mistake",
        )
        .into_response()
    }
}
