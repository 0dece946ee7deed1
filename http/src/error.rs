//! An answer that says what is wrong.

use std::{error, fmt};

use super::{IntoResponse, Response, StatusCode};
use entwined::deferred::Interrupted;

/// A status and a sentence for the client. Handlers return it as the error of a `Result`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    status: StatusCode,
    message: String,
}

impl Error {
    /// An error with this status; `message` is the body of the response.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Error {
            status,
            message: message.into(),
        }
    }

    /// 400: the client's mistake.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Error::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Error::new(StatusCode::NOT_FOUND, message)
    }

    /// 500, with the error's text.
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

/// 503 when its time was over, 500 otherwise.
impl From<Interrupted> for Error {
    fn from(why: Interrupted) -> Self {
        match why {
            Interrupted::TimedOut => {
                Error::new(StatusCode::SERVICE_UNAVAILABLE, "the answer took too long")
            }
            Interrupted::Refused => {
                Error::new(StatusCode::SERVICE_UNAVAILABLE, "there is too much to do")
            }
            Interrupted::Panicked(_) => Error::internal("the server made a mistake"),
            why => Error::internal(why),
        }
    }
}

/// 500, with the error's text in the log and not in the answer.
impl IntoResponse for Box<dyn error::Error> {
    fn into_response(self) -> Response {
        tracing::error!(error = %self, "a handler has failed");
        Error::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the server made a mistake",
        )
        .into_response()
    }
}
