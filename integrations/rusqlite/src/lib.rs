//! SQLite for programs on [`entwined`]: a pool of connections, each on its own thread. Results come
//! back to the loop as Deferreds. Works on every backend.
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
//!         // Either both statements take effect, or neither does.
//!         let added = database.run_interaction(|transaction| {
//!             let mut insert = transaction.prepare_cached("INSERT INTO note VALUES (?)")?;
//!             Ok::<_, Error>(insert.execute(["milk"])? + insert.execute(["bread"])?)
//!         });
//!         assert_eq!(added.await?, 2);
//!         let query = "SELECT text FROM note WHERE text > ?";
//!         database.run_query(query, ["b"], |row| row.get::<_, String>(0)).await
//!     }
//! });
//!
//! // The same with callbacks. They run on the loop's thread, so they may touch a list box.
//! notes
//!     .map(|notes| assert_eq!(notes, ["milk", "bread"]))
//!     .add_errback(|error: Error| Ok::<_, Error>(eprintln!("{error}")))
//!     .map({
//!         let handle = handle.clone();
//!         move |()| handle.stop()
//!     });
//! reactor.run()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Connections
//!
//! A thread of the pool opens its connection for its first job and keeps it for later ones, so the
//! [limits](Config) of the threads are also those of the connections. The thread closes the
//! connection when it was idle for long enough, when a job panicked on it, or when the last clone
//! of the pool is dropped and all queued work is done.
//!
//! So each connection to `":memory:"` would be another database.
//! `"file:name?mode=memory&cache=shared"` is one database for all connections, as long as any of
//! them is open.
//!
//! # Locks
//!
//! [`ConnectionPool::open`] puts the database into [WAL mode](https://www.sqlite.org/wal.html), so
//! that readers do not wait for a writer. The mode is a property of the file and stays. Connections
//! that you [open yourself](ConnectionPool::with) have the mode of the file.
//!
//! [`run_interaction`](ConnectionPool::run_interaction) begins with `BEGIN IMMEDIATE`: it takes the
//! lock for writing at its start, and waits for it there. SQLite's default, a transaction that
//! first reads and then wants to write, fails at once with "database is locked" if another has
//! written meanwhile. On a connection that cannot write it begins with `BEGIN`.
//!
//! Each waits up to 5 s for a lock, then its error is "database is locked". Cancelling ends the
//! wait on the connections of [`ConnectionPool::open`]; those that you open yourself wait as you
//! tell them.
//!
//! # Cancelling
//!
//! Cancelling a Deferred takes its work out of the queue, or interrupts the running statement
//! within a millisecond; a transaction is rolled back. It comes too late for a transaction that is
//! being committed. The end of the reactor's run does the same: if something must be written even
//! then, wait for it in a [shutdown hook](entwined::Handle::on_shutdown).
#![warn(missing_debug_implementations)]

mod error;
mod worker;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use entwined::{
    Handle,
    deferred::{ChainError, Deferred, Full},
    thread::{Config, Job, ThreadPool},
};
pub use rusqlite;
use rusqlite::{Connection, Params, Row, Transaction, ffi};

pub use error::Error;

/// Connections to a database, each on its own thread. Clones share the pool. A pool belongs to one
/// reactor's thread.
///
/// Each method returns at once, from any callback, and its Deferred fires in a turn of the reactor.
/// Requests made one after another may run at the same time, on several connections. To run them in
/// sequence, wait for the first, or put both into one interaction.
#[derive(Clone)]
pub struct ConnectionPool {
    handle: Handle,
    threads: ThreadPool,
    open: Arc<worker::Open>,
}

impl ConnectionPool {
    /// Creates a pool of connections to the database in a file, which is created if it does not
    /// exist. The pool has 4 connections at most, and closes them when they are idle for a minute.
    /// Up to 1,024 pieces of work may be queued. Each connection waits up to 5 s for a lock held by
    /// another. The database gets into [WAL mode](crate#locks).
    ///
    /// Nothing is opened until it is needed, so errors appear in the first work. A relative path
    /// means the directory that the program is in now.
    pub fn open(handle: &Handle, path: impl AsRef<Path>) -> Self {
        let path = fixed(path.as_ref());
        let mut config = Config::default();
        (config.max_threads, config.max_queued, config.idle_timeout) =
            (4, 1_024, Duration::from_secs(60));
        ConnectionPool::with(handle, config, move || {
            let mut connection = Connection::open(&path)?;
            connection.busy_handler(Some(worker::wait_for_lock))?;
            use_wal(&connection)?;
            Ok(connection)
        })
    }

    /// Same as [`open`](ConnectionPool::open), with other limits and your own function to open a
    /// connection. The function runs on the connection's thread, and is the place for pragmas and
    /// custom SQL functions.
    pub fn with(
        handle: &Handle,
        config: Config,
        open: impl Fn() -> rusqlite::Result<Connection> + Send + Sync + 'static,
    ) -> Self {
        ConnectionPool {
            handle: handle.clone(),
            threads: ThreadPool::new("entwined-sql", config),
            open: Arc::new(open),
        }
    }

    /// Runs a query and returns all its rows, each converted by `map`, which runs on the
    /// connection's thread. The statement is prepared once per connection. All rows are held in
    /// memory: limit them with `LIMIT`, or read them through
    /// [`run_with_connection`](ConnectionPool::run_with_connection) and send them through a
    /// [channel](entwined::thread::channel).
    ///
    /// # Errors
    /// The Deferred fails with an [`Error`].
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

    /// Runs one statement that returns no rows, and returns the number of rows that it changed. The
    /// statement is prepared once per connection.
    ///
    /// # Errors
    /// The Deferred fails with an [`Error`].
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

    /// Runs `interaction` in a transaction, on a connection's thread. It has the database's [lock
    /// for writing](crate#locks) from its start. The transaction is committed if `interaction`
    /// returns `Ok`. It is rolled back if `interaction` returns an error, panics or is cancelled.
    ///
    /// # Errors
    /// The Deferred fails with the error of `interaction`, which may be your own type, or with an
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

    /// Runs `work` with a connection, on its thread: for anything that the other methods do not
    /// cover. The [`Job`] reports whether the result is still wanted.
    ///
    /// # Errors
    /// The Deferred fails with the error of `work`, or with an [`Error`].
    #[track_caller]
    pub fn run_with_connection<T, E, F>(&self, work: F) -> Deferred<T, E>
    where
        F: FnOnce(&mut Connection, &Job) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: ChainError + From<Error> + Send,
    {
        let open = self.open.clone();
        match self.threads.try_defer(&self.handle, move |job: &Job| {
            worker::with_connection(&*open, job, work)
        }) {
            Ok(deferred) => deferred,
            Err(Full(_)) => Deferred::ready(Err(Error::Full.into())),
        }
    }

    /// Returns the current maximum number of connections: one for each thread.
    pub fn connections(&self) -> usize {
        self.threads.threads()
    }

    /// Returns how many pieces of work are waiting for a connection.
    pub fn queued(&self) -> usize {
        self.threads.queued()
    }
}

/// Puts the database into WAL mode, if it is not and can be.
fn use_wal(connection: &Connection) -> rusqlite::Result<()> {
    let mode: String = connection.query_row("PRAGMA journal_mode", (), |row| row.get(0))?;
    if mode == "wal" || mode == "memory" || connection.is_readonly("main")? {
        return Ok(());
    }
    match connection.query_row("PRAGMA journal_mode = WAL", (), |_| Ok(())) {
        // Another connection is using it, perhaps for the same; SQLite does not wait here.
        Err(rusqlite::Error::SqliteFailure(error, _))
            if matches!(
                error.code,
                ffi::ErrorCode::DatabaseBusy | ffi::ErrorCode::DatabaseLocked
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// The same file, whatever directory the program changes to. Names that are not files are kept.
fn fixed(path: &Path) -> PathBuf {
    let special = path.as_os_str().is_empty()
        || path == Path::new(":memory:")
        || path.to_string_lossy().starts_with("file:");
    let absolute = (!special).then(|| std::path::absolute(path).ok()).flatten();
    absolute.unwrap_or_else(|| path.to_owned())
}

impl fmt::Debug for ConnectionPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionPool")
            .field("connections", &self.connections())
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}
