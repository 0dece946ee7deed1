//! What happens on the threads. Each has a connection, and belongs to one pool.

use std::cell::Cell;

use entwined::thread::Job;
use rusqlite::{Connection, Transaction};

use crate::Error;

pub(crate) type Open = dyn Fn() -> rusqlite::Result<Connection> + Send + Sync;

/// After so many instructions SQLite asks whether to go on: every 0.2 ms or so. To ask ten times as
/// often would cost 3 % of a long query.
///
/// `sqlite3_interrupt` would do for a statement that runs, but is lost on a transaction that is
/// between two of them.
const INSTRUCTIONS: i32 = 10_000;

thread_local! {
    /// Closed with the thread.
    static CONNECTION: Cell<Option<Connection>> = const { Cell::new(None) };
}

/// Runs `work` with this thread's connection.
pub(crate) fn with_connection<T, E: From<Error>>(
    open: &Open,
    job: &Job,
    work: impl FnOnce(&mut Connection, &Job) -> Result<T, E>,
) -> Result<T, E> {
    // If `work` panics, the connection goes with this frame.
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
    // To close it rolls back what was left open, which would hold up everybody else.
    drop(connection);
    result.and(Err(Error::LeftOpen.into()))
}

/// Runs `interaction` within a transaction. Dropping that rolls it back.
pub(crate) fn interact<T, E: From<Error>>(
    connection: &mut Connection,
    job: &Job,
    interaction: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let transaction = connection.transaction().map_err(Error::Sqlite)?;
    let value = interaction(&transaction)?;
    job.check().map_err(Error::Interrupted)?;
    transaction.commit().map_err(Error::Sqlite)?;
    Ok(value)
}
