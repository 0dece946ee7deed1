//! The builds of one master, in SQLite.

use entwined::deferred::Deferred;
use entwined_rusqlite::{
    ConnectionPool, Error,
    rusqlite::{OptionalExtension, Result, Row},
};

use super::{Build, COLUMNS, MAX_TRIES, SHORT, SHOWN};
use crate::wire::Job;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS build (
        id INTEGER PRIMARY KEY AUTOINCREMENT, repository TEXT, script TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'queued', worker TEXT, code INTEGER,
        tries INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX IF NOT EXISTS build_state ON build (state, id);";

#[derive(Clone)]
pub struct Sqlite(pub ConnectionPool);

impl Sqlite {
    /// Creates what is missing. What was running when the master ended is queued again.
    pub fn prepare(&self) -> Deferred<(), Error> {
        self.0.run_interaction(|transaction| {
            transaction.execute_batch(SCHEMA)?;
            transaction.execute(
                "UPDATE build SET state = 'queued' WHERE state = 'running'",
                (),
            )?;
            Ok(())
        })
    }

    pub fn newest(&self) -> Deferred<Vec<Build>, Error> {
        let sql = format!("SELECT {SHORT} FROM build ORDER BY id DESC LIMIT {SHOWN}");
        self.0.run_query(sql, (), read)
    }

    pub fn find(&self, id: i64) -> Deferred<Option<Build>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM build WHERE id = ?");
        self.0.run_with_connection(move |connection, _| {
            let mut statement = connection.prepare_cached(&sql)?;
            Ok(statement.query_row([id], read).optional()?)
        })
    }

    pub fn add(&self, repository: Option<String>, script: String) -> Deferred<i64, Error> {
        self.0.run_interaction(move |transaction| {
            let sql = "INSERT INTO build (repository, script) VALUES (?, ?)";
            transaction.execute(sql, (repository, script))?;
            Ok(transaction.last_insert_rowid())
        })
    }

    /// Takes the oldest build of the queue for a worker.
    pub fn take(&self, worker: String) -> Deferred<Option<Job>, Error> {
        self.0.run_interaction(move |transaction| {
            let sql = "
                UPDATE build SET state = 'running', worker = ?, tries = tries + 1, code = NULL
                WHERE id = (SELECT min(id) FROM build WHERE state = 'queued')
                RETURNING id, repository, script";
            let mut statement = transaction.prepare_cached(sql)?;
            let job = statement.query_row([worker], |row| {
                Ok(Job {
                    id: row.get(0)?,
                    repository: row.get(1)?,
                    script: row.get(2)?,
                })
            });
            Ok(job.optional()?)
        })
    }

    /// A build has come to its end. Returns whether it was still wanted.
    pub fn finish(&self, id: i64, code: Option<i32>) -> Deferred<bool, Error> {
        let sql = "
            UPDATE build SET state = iif(?2 = 0, 'passed', 'failed'), code = ?2
            WHERE id = ?1 AND state = 'running'";
        self.0
            .run_statement(sql, (id, code))
            .map(|changed| changed == 1)
    }

    /// A build has lost its worker.
    pub fn requeue(&self, id: i64) -> Deferred<bool, Error> {
        let sql = "
            UPDATE build SET state = iif(tries < ?2, 'queued', 'failed')
            WHERE id = ?1 AND state = 'running'";
        self.0
            .run_statement(sql, (id, MAX_TRIES))
            .map(|changed| changed == 1)
    }

    /// Returns whether the build had not ended.
    pub fn cancel(&self, id: i64) -> Deferred<bool, Error> {
        let sql = "
            UPDATE build SET state = 'cancelled'
            WHERE id = ? AND state IN ('queued', 'running')";
        self.0.run_statement(sql, [id]).map(|changed| changed == 1)
    }
}

fn read(row: &Row<'_>) -> Result<Build> {
    Ok(Build {
        id: row.get(0)?,
        repository: row.get(1)?,
        script: row.get(2)?,
        state: row.get(3)?,
        worker: row.get(4)?,
        code: row.get(5)?,
        tries: row.get(6)?,
    })
}
