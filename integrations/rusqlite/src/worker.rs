//! What runs on the threads. Each thread has a connection, and belongs to one pool.

use std::{
    cell::{Cell, RefCell},
    thread,
    time::{Duration, Instant},
};

use entwined::thread::Job;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::Error;

pub(crate) type Open = dyn Fn() -> rusqlite::Result<Connection> + Send + Sync;

/// The number of instructions after which SQLite asks whether to continue: every 0.2 ms or so.
/// Asking ten times as often would cost 3 % of a long query.
///
/// `sqlite3_interrupt` would work for a running statement, but has no effect on a transaction that
/// is between two statements.
const INSTRUCTIONS: i32 = 10_000;

thread_local! {
    /// Closed when the thread ends.
    static CONNECTION: Cell<Option<Connection>> = const { Cell::new(None) };

    /// The job that this thread is at, and since when it waits for a lock.
    static WAITING: RefCell<Option<(Job, Instant)>> = const { RefCell::new(None) };
}

/// Runs `work` with this thread's connection.
pub(crate) fn with_connection<T, E: From<Error>>(
    open: &Open,
    job: &Job,
    work: impl FnOnce(&mut Connection, &Job) -> Result<T, E>,
) -> Result<T, E> {
    WAITING.set(Some((job.clone(), Instant::now())));
    // If `work` panics, the connection is dropped with this frame.
    let mut connection = match CONNECTION.take() {
        Some(connection) => connection,
        None => open().map_err(Error::Open)?,
    };
    let watch = job.clone();
    connection
        .progress_handler(INSTRUCTIONS, Some(move || watch.is_cancelled()))
        .map_err(Error::Sqlite)?;
    let result = work(&mut connection, job);
    connection
        .progress_handler(0, None::<fn() -> bool>)
        .map_err(Error::Sqlite)?;
    if connection.is_autocommit() {
        CONNECTION.set(Some(connection));
        return result;
    }
    // Closing the connection rolls back what was left open, which would block all other
    // connections.
    drop(connection);
    result.and(Err(Error::LeftOpen.into()))
}

/// How long a connection waits for a lock.
const BUSY: Duration = Duration::from_secs(5);

/// The longest pause between two attempts to get a lock, as SQLite's own handler has it for the
/// first second.
const PAUSE: Duration = Duration::from_millis(25);

/// SQLite asks whether to try again to get a lock, and how often it has tried. Its own handler
/// (`busy_timeout`) does not know that a job was cancelled.
pub(crate) fn wait_for_lock(tries: i32) -> bool {
    WAITING.with_borrow_mut(|waiting| {
        let Some((job, since)) = waiting else {
            return false;
        };
        if tries == 0 {
            *since = Instant::now();
        }
        let waits = !job.is_cancelled() && since.elapsed() < BUSY;
        if waits {
            let tries = u32::try_from(tries).unwrap_or_default().saturating_add(1);
            thread::sleep(PAUSE.min(Duration::from_millis(1).saturating_mul(tries)));
        }
        waits
    })
}

/// Runs `interaction` in a transaction. Dropping the transaction rolls it back.
pub(crate) fn interact<T, E: From<Error>>(
    connection: &mut Connection,
    job: &Job,
    interaction: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<T, E> {
    // A connection that cannot write cannot take the lock for it.
    let readonly = connection.is_readonly("main").map_err(Error::Sqlite)?;
    let behavior = if readonly {
        TransactionBehavior::Deferred
    } else {
        TransactionBehavior::Immediate
    };
    let transaction = connection
        .transaction_with_behavior(behavior)
        .map_err(Error::Sqlite)?;
    let value = interaction(&transaction)?;
    job.check().map_err(Error::Interrupted)?;
    transaction.commit().map_err(Error::Sqlite)?;
    Ok(value)
}
