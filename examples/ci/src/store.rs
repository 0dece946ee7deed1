//! The builds, in SQLite. A build is `queued`, `running`, or has ended: `passed`, `failed` or
//! `cancelled`. Nothing changes a build that has ended.

use entwined::deferred::Deferred;
use entwined_rusqlite::{
    ConnectionPool, Error,
    rusqlite::{OptionalExtension, Result, Row},
};
use serde::Serialize;

use crate::wire::Job;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS build (
        id INTEGER PRIMARY KEY AUTOINCREMENT, repository TEXT, script TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'queued', worker TEXT, code INTEGER,
        tries INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX IF NOT EXISTS build_state ON build (state, id);";

/// A build whose worker is lost this many times has failed: perhaps it kills them.
const MAX_TRIES: u32 = 3;

/// How many builds the page shows.
const SHOWN: u32 = 100;

const COLUMNS: &str = "id, repository, script, state, worker, code, tries";

#[derive(Clone, Debug, Serialize)]
pub struct Build {
    pub id: i64,
    repository: Option<String>,
    script: String,
    pub state: String,
    worker: Option<String>,
    code: Option<i32>,
    tries: u32,
}

impl Build {
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

    pub fn has_ended(&self) -> bool {
        !matches!(&*self.state, "queued" | "running")
    }
}

#[derive(Clone)]
pub struct Store(pub ConnectionPool);

impl Store {
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
        let sql = format!("SELECT {COLUMNS} FROM build ORDER BY id DESC LIMIT {SHOWN}");
        self.0.run_query(sql, (), Build::read)
    }

    pub fn find(&self, id: i64) -> Deferred<Option<Build>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM build WHERE id = ?");
        self.0.run_with_connection(move |connection, _| {
            let mut statement = connection.prepare_cached(&sql)?;
            Ok(statement.query_row([id], Build::read).optional()?)
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
    pub fn requeue(&self, id: i64) -> Deferred<usize, Error> {
        let sql = "
            UPDATE build SET state = iif(tries < ?2, 'queued', 'failed')
            WHERE id = ?1 AND state = 'running'";
        self.0.run_statement(sql, (id, MAX_TRIES))
    }

    /// Returns whether the build had not ended.
    pub fn cancel(&self, id: i64) -> Deferred<bool, Error> {
        let sql = "
            UPDATE build SET state = 'cancelled'
            WHERE id = ? AND state IN ('queued', 'running')";
        self.0.run_statement(sql, [id]).map(|changed| changed == 1)
    }
}
