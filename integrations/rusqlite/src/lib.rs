//! SQLite for programs on [`entwined`]: a pool of connections, each on a thread of its own, with
//! results that come back to the loop as Deferreds. On every backend.
//!
//! ```
//! use entwined::Standalone;
//! use entwined_rusqlite::{ConnectionPool, Error};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let file = directory.path().join("notes.db");
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let database = ConnectionPool::open(&handle, file);
//!
//! let notes = handle.defer({
//!     let database = database.clone();
//!     async move {
//!         database.run_statement("CREATE TABLE note (text TEXT)", ()).await?;
//!         // All of this happens, or none of it.
//!         let added = database.run_interaction(|transaction| {
//!             let mut insert = transaction.prepare_cached("INSERT INTO note VALUES (?)")?;
//!             Ok::<_, Error>(insert.execute(["milk"])? + insert.execute(["bread"])?)
//!         });
//!         assert_eq!(added.await?, 2);
//!         database.run_query("SELECT text FROM note WHERE text > ?", ["b"], |row| row.get::<_, String>(0)).await
//!     }
//! });
//!
//! // The same in callbacks; they run on the loop's thread, and may touch a list box.
//! notes
//!     .map(|notes| assert_eq!(notes, ["milk", "bread"]))
//!     .add_errback(|error: Error| Ok::<_, Error>(eprintln!("{error}")))
//!     .map({
//!         let handle = handle.clone();
//!         move |()| handle.stop().expect("it runs")
//!     })
//!     .detach();
//! reactor.run()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Connections
//!
//! A thread of the pool opens its connection with its first job and keeps it for those that follow,
//! so the [limits](Limits) of the threads are those of the connections. It is closed, on that
//! thread, when the thread was idle for long enough, when a job panicked on it, or when the last
//! clone of the pool is gone and what was queued is done.
//!
//! So each connection to `":memory:"` would be another database;
//! `"file:name?mode=memory&cache=shared"` is one for all, as long as any of them is open.
//!
//! Readers wait for a writer unless the database is in [WAL mode](https://www.sqlite.org/wal.html),
//! which is a property of the file: set it once by `PRAGMA journal_mode = WAL`, best where
//! connections are [opened](ConnectionPool::with).
//!
//! # Cancelling
//!
//! To cancel a Deferred takes its work out of the queue, or interrupts the statement that runs,
//! within a millisecond; a transaction is rolled back. It comes too late for one that is being
//! committed. So it is with the end of the reactor's run: what must be written even then is waited
//! for in a [shutdown hook](entwined::Handle::on_shutdown).

mod error;
mod worker;

use std::{fmt, path::Path, sync::Arc, time::Duration};

use entwined::{
    Handle,
    deferred::{ChainError, Deferred, Full},
    thread::{Job, Limits, ThreadPool},
};
pub use rusqlite;
use rusqlite::{Connection, Params, Row, Transaction, TransactionBehavior};

pub use error::Error;

/// Connections to a database, each on a thread of its own. Clones are the same pool. It belongs to
/// one reactor's thread.
///
/// Each method returns at once, from whatever callback it is called, and its Deferred fires in a
/// turn of the reactor. What is asked for in a row may happen at the same time, on several
/// connections: to have one thing after the other, wait for the first, or make an interaction of
/// both.
#[derive(Clone)]
pub struct ConnectionPool {
    handle: Handle,
    threads: ThreadPool,
    open: Arc<worker::Open>,
}

impl ConnectionPool {
    /// Connections to the database in a file, which is made if need be: 4 at most, closed when they
    /// were idle for a minute; 1,024 pieces of work may wait for them. Each waits up to 5 s for a
    /// lock of another one.
    ///
    /// Nothing is opened before it is needed; so errors appear there.
    pub fn open(handle: &Handle, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_owned();
        let mut limits = Limits::default();
        (limits.threads, limits.queue, limits.idle) = (4, 1_024, Duration::from_secs(60));
        ConnectionPool::with(handle, limits, move || {
            let mut connection = Connection::open(&path)?;
            // A transaction that first reads and then writes fails at once when another one wrote
            // meanwhile; this one waits at its start.
            connection.set_transaction_behavior(TransactionBehavior::Immediate);
            Ok(connection)
        })
    }

    /// As [`open`](ConnectionPool::open), with other limits, and with a function that opens a
    /// connection, on the thread that it is for: the place for pragmas and functions of your own.
    /// What [`run_interaction`](ConnectionPool::run_interaction) begins is the connection's own
    /// [`TransactionBehavior`].
    pub fn with(
        handle: &Handle,
        limits: Limits,
        open: impl Fn() -> rusqlite::Result<Connection> + Send + Sync + 'static,
    ) -> Self {
        ConnectionPool {
            handle: handle.clone(),
            threads: ThreadPool::new("entwined-sql", limits),
            open: Arc::new(open),
        }
    }

    /// Makes a query and gives all its rows, each as `map` makes it, which runs on the connection's
    /// thread. The statement is prepared once for a connection. Mind that all rows are in memory:
    /// bound them by `LIMIT`, or read them by
    /// [`run_with_connection`](ConnectionPool::run_with_connection) and send them through a
    /// [channel](entwined::thread::channel).
    ///
    /// # Errors
    /// The Deferred's: see [`Error`].
    #[track_caller]
    pub fn run_query<T, P, F>(
        &self,
        sql: impl Into<String>,
        parameters: P,
        map: F,
    ) -> Deferred<Vec<T>, Error>
    where
        T: Send + 'static,
        P: Params + Send + 'static,
        F: FnMut(&Row<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let sql = sql.into();
        self.run_with_connection(move |connection, _| {
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(parameters, map)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Runs one statement that gives no rows, and gives the number of rows that it changed. The
    /// statement is prepared once for a connection.
    ///
    /// # Errors
    /// The Deferred's: see [`Error`].
    #[track_caller]
    pub fn run_statement<P>(&self, sql: impl Into<String>, parameters: P) -> Deferred<usize, Error>
    where
        P: Params + Send + 'static,
    {
        let sql = sql.into();
        self.run_with_connection(move |connection, _| {
            Ok(connection.prepare_cached(&sql)?.execute(parameters)?)
        })
    }

    /// Runs `interaction` within a transaction, on a connection's thread. The transaction is
    /// committed when it gives a value; it is rolled back when it gives an error, panics or is
    /// cancelled.
    ///
    /// # Errors
    /// The Deferred's: those of `interaction`, whose error may be one of your own, and those of
    /// [`Error`].
    #[track_caller]
    pub fn run_interaction<T, E, F>(&self, interaction: F) -> Deferred<T, E>
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: ChainError + From<Error> + Send,
    {
        self.run_with_connection(move |connection, job| {
            worker::interact(connection, job, interaction)
        })
    }

    /// Runs `work` with a connection, on its thread: for whatever the other methods do not do. The
    /// [`Job`] says whether somebody still waits for the result.
    ///
    /// # Errors
    /// The Deferred's: those of `work`, and those of [`Error`].
    #[track_caller]
    pub fn run_with_connection<T, E, F>(&self, work: F) -> Deferred<T, E>
    where
        F: FnOnce(&mut Connection, &Job) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: ChainError + From<Error> + Send,
    {
        let open = self.open.clone();
        match self.threads.defer(&self.handle, move |job: &Job| {
            worker::with_connection(&*open, job, work)
        }) {
            Ok(deferred) => deferred,
            Err(Full(_)) => Deferred::ready(Err(Error::Full.into())),
        }
    }

    /// How many connections there are at most at present: one for each thread.
    pub fn connections(&self) -> usize {
        self.threads.threads()
    }

    /// How many pieces of work wait for a connection.
    pub fn queued(&self) -> usize {
        self.threads.queued()
    }
}

impl fmt::Debug for ConnectionPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionPool")
            .field("connections", &self.connections())
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}
