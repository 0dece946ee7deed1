//! The builds. A build is `queued`, `running`, or has ended: `passed`, `failed` or `cancelled`.
//! Nothing changes a build that has ended. They are in SQLite if there is one master, and in
//! PostgreSQL if there are several.

mod postgres;
mod sqlite;

use std::{error, fmt, rc::Rc};

use entwined::deferred::Interrupted;
use serde::Serialize;

pub use self::{
    postgres::{Postgres, Told},
    sqlite::Sqlite,
};
use crate::wire::Job;

/// A build whose worker is lost this many times has failed: perhaps it kills them.
const MAX_TRIES: i32 = 3;

/// How many builds the page and the window show.
const SHOWN: u32 = 100;

const COLUMNS: &str = "id, repository, script, state, worker, code, tries";

/// The same for lists, with the beginning of what may be long.
const SHORT: &str = "id, substr(repository, 1, 200), substr(script, 1, 200), state, worker, code, \
                     tries";

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Build {
    pub id: i64,
    pub repository: Option<String>,
    pub script: String,
    pub state: String,
    pub worker: Option<String>,
    pub code: Option<i32>,
    tries: i32,
}

impl Build {
    pub fn has_ended(&self) -> bool {
        !matches!(&*self.state, "queued" | "running")
    }
}

pub enum Store {
    Sqlite(Sqlite),
    Postgres(Rc<Postgres>),
}

type Result<T> = std::result::Result<T, Error>;

/// Calls the method of this name, of the one or the other.
macro_rules! either {
    ($store:expr, $method:ident($($argument:expr),*)) => {
        match $store {
            Store::Sqlite(store) => Ok(store.$method($($argument),*).await?),
            Store::Postgres(store) => store.$method($($argument),*).await,
        }
    };
}

impl Store {
    /// The newest builds, with the beginning of their scripts.
    pub async fn newest(&self) -> Result<Vec<Build>> {
        either!(self, newest())
    }

    pub async fn find(&self, id: i64) -> Result<Option<Build>> {
        either!(self, find(id))
    }

    pub async fn add(&self, repository: Option<String>, script: String) -> Result<i64> {
        either!(self, add(repository, script))
    }

    /// Takes the oldest build of the queue for a worker.
    pub async fn take(&self, worker: String) -> Result<Option<Job>> {
        either!(self, take(worker))
    }

    /// A build has come to its end. Returns whether it was still wanted.
    pub async fn finish(&self, id: i64, code: Option<i32>) -> Result<bool> {
        either!(self, finish(id, code))
    }

    /// A build has lost its worker.
    pub async fn requeue(&self, id: i64) -> Result<bool> {
        either!(self, requeue(id))
    }

    /// Returns whether the build had not ended.
    pub async fn cancel(&self, id: i64) -> Result<bool> {
        either!(self, cancel(id))
    }

    /// Tells other masters that a build's log has grown.
    pub async fn grown(&self, id: i64) -> Result<()> {
        match self {
            Store::Sqlite(_) => Ok(()),
            Store::Postgres(store) => store.grown(id).await,
        }
    }
}

#[derive(Debug)]
pub enum Error {
    Sqlite(entwined_rusqlite::Error),
    Postgres(tokio_postgres::Error),
    /// There is no connection to PostgreSQL.
    Lost,
    Interrupted(Interrupted),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Sqlite(error) => error.fmt(f),
            Error::Postgres(error) => match error.as_db_error() {
                Some(error) => error.fmt(f),
                None => error.fmt(f),
            },
            Error::Lost => f.write_str("there is no connection to the database"),
            Error::Interrupted(why) => why.fmt(f),
        }
    }
}

impl error::Error for Error {}

impl From<entwined_rusqlite::Error> for Error {
    fn from(error: entwined_rusqlite::Error) -> Self {
        Error::Sqlite(error)
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Error::Postgres(error)
    }
}

impl From<Interrupted> for Error {
    fn from(why: Interrupted) -> Self {
        Error::Interrupted(why)
    }
}
