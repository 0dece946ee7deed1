//! Why a request is not done: a status, and for many of them an element that says which rule of a
//! standard it breaks.

use std::fmt;

use entwined::deferred::Interrupted;
use entwined_http::StatusCode;
use entwined_rusqlite::{
    Error,
    rusqlite::{self, ErrorCode},
};

#[derive(Debug)]
pub enum Fault {
    /// A status, and a text for the person who looks at it.
    Status(StatusCode, String),
    /// A rule of WebDAV or CalDAV, as `D:name` or `C:name`. These are precondition elements (RFC
    /// 4918, 16).
    Rule(StatusCode, &'static str),
    /// The calendar has another file with this UID.
    SameUid(String),
    Database(Error),
}

impl Fault {
    pub fn new(status: StatusCode, text: impl Into<String>) -> Fault {
        Fault::Status(status, text.into())
    }

    pub fn bad_request(text: impl Into<String>) -> Fault {
        Fault::new(StatusCode::BAD_REQUEST, text)
    }

    pub fn forbidden(rule: &'static str) -> Fault {
        Fault::Rule(StatusCode::FORBIDDEN, rule)
    }

    pub fn not_found() -> Fault {
        Fault::new(StatusCode::NOT_FOUND, "nothing is here")
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Fault::Status(status, _) | Fault::Rule(status, _) => *status,
            Fault::SameUid(_) => StatusCode::CONFLICT,
            Fault::Database(Error::Full) => StatusCode::SERVICE_UNAVAILABLE,
            Fault::Database(Error::Sqlite(error) | Error::Open(error))
                if error.sqlite_error_code() == Some(ErrorCode::DiskFull) =>
            {
                StatusCode::INSUFFICIENT_STORAGE
            }
            Fault::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Status(_, text) => f.write_str(text),
            Fault::Rule(_, rule) => write!(f, "{rule} does not hold"),
            Fault::SameUid(href) => write!(f, "{href} has this UID"),
            Fault::Database(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // It is shown as it is.
            Fault::Database(error) => error.source(),
            _ => None,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Database(error)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Fault::Database(error.into())
    }
}

impl From<Interrupted> for Fault {
    fn from(why: Interrupted) -> Self {
        Fault::Database(why.into())
    }
}
