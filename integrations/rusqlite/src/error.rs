//! The crate's error type.

use std::{error, fmt};

use entwined::deferred::Interrupted;

/// Why work on a database has no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The queue for connections is full. Nothing was done.
    Full,
    /// The connection could not be opened. Nothing was done.
    Open(rusqlite::Error),
    /// SQLite rejected a statement or a commit.
    Sqlite(rusqlite::Error),
    /// The work left a transaction open (`BEGIN` without an end). It was rolled back.
    LeftOpen,
    /// The work was cancelled, timed out, or panicked.
    Interrupted(Interrupted),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Full => f.write_str("the database's queue is full; try again later"),
            Error::Open(_) => f.write_str("the database could not be opened"),
            Error::Sqlite(error) => error.fmt(f),
            Error::LeftOpen => f.write_str("the work left a transaction open; it was rolled back"),
            Error::Interrupted(why) => why.fmt(f),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::Open(error) => Some(error),
            // The other variants that hold an error display it as it is.
            Error::Sqlite(error) => error.source(),
            Error::Full | Error::LeftOpen | Error::Interrupted(_) => None,
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Error::Sqlite(error)
    }
}

impl From<Interrupted> for Error {
    fn from(why: Interrupted) -> Self {
        Error::Interrupted(why)
    }
}
