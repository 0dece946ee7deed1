//! What can go wrong.

use std::{error, fmt};

use entwined::deferred::Interrupted;

/// Why work on a database has no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// As many pieces of work wait for a connection as may. Nothing was done.
    Full,
    /// No connection could be opened. Nothing was done.
    Open(rusqlite::Error),
    /// SQLite says no: to a statement, or to a commit.
    Sqlite(rusqlite::Error),
    /// The work left a transaction open (`BEGIN` without an end). It was rolled back.
    LeftOpen,
    /// It was cancelled, took too long, or panicked.
    Interrupted(Interrupted),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Full => f.write_str("too much waits for the database already"),
            Error::Open(_) => f.write_str("the database could not be opened"),
            Error::Sqlite(error) => error.fmt(f),
            Error::LeftOpen => f.write_str("a transaction was left open; it was rolled back"),
            Error::Interrupted(why) => why.fmt(f),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::Open(error) => Some(error),
            // The others that hold an error are shown as it is.
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
