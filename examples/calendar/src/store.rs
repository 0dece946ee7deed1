//! What is stored: collections, calendars among them, files in them, and their properties, in
//! SQLite. A request is one transaction, so it is done as a whole or not at all, and its answer
//! is sent when it is on the disk.
//!
//! Each change gets the next number. It is the ETag of what was changed and the token of a
//! collection's state, and the numbers of what is gone are kept for those who synchronize.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use entwined::{Handle, thread::Config};
use entwined_rusqlite::{
    ConnectionPool,
    rusqlite::{Connection, ErrorCode, OptionalExtension, Result, Row, Transaction},
};

use crate::fault::Fault;

/// Paths are decoded, and have no slash at their end. `uid` is set in calendars only.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS node (
        path TEXT PRIMARY KEY, parent TEXT NOT NULL, kind INTEGER NOT NULL,
        content BLOB NOT NULL, media_type TEXT NOT NULL, uid TEXT,
        version INTEGER NOT NULL, created INTEGER NOT NULL, modified INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS node_parent ON node (parent, version);
    CREATE UNIQUE INDEX IF NOT EXISTS node_uid ON node (parent, uid) WHERE uid IS NOT NULL;
    CREATE TABLE IF NOT EXISTS property (
        path TEXT NOT NULL REFERENCES node ON UPDATE CASCADE ON DELETE CASCADE,
        namespace TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (path, namespace, name)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS gone (
        path TEXT PRIMARY KEY, parent TEXT NOT NULL, version INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS gone_version ON gone (version);
    CREATE TABLE IF NOT EXISTS counter (
        epoch TEXT NOT NULL, version INTEGER NOT NULL, forgotten INTEGER NOT NULL);
    INSERT INTO counter SELECT lower(hex(randomblob(8))), 0, 0
        WHERE NOT EXISTS (SELECT * FROM counter);";

/// How many deletions are remembered. Who was away for longer reads everything again.
const MAX_GONE: u32 = 10_000;

pub const ROOT: &str = "/dav";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Collection,
    Calendar,
}

impl Kind {
    pub fn is_collection(self) -> bool {
        self != Kind::File
    }
}

#[derive(Clone, Debug)]
pub struct Node {
    pub path: String,
    pub kind: Kind,
    pub length: i64,
    pub media_type: String,
    pub version: i64,
    /// In seconds since 1970.
    pub created: i64,
    modified: i64,
}

impl Node {
    pub fn modified(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.modified.unsigned_abs())
    }
}

/// What a path becomes.
pub struct New<'a> {
    pub kind: Kind,
    pub content: &'a [u8],
    pub media_type: &'a str,
    pub uid: Option<&'a str>,
}

pub fn open(handle: &Handle, file: PathBuf) -> ConnectionPool {
    let mut config = Config::default();
    (config.max_threads, config.max_queued) = (4, 1_024);
    ConnectionPool::with(handle, config, move || {
        let connection = Connection::open(&file)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        match connection.execute_batch("PRAGMA journal_mode = WAL") {
            // Another program uses it, perhaps for the same; SQLite does not wait here. The mode
            // is that of the file, so a later connection sets it.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {}
            result => result?,
        }
        // With FULL a commit is on the disk even if the machine loses its power.
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
        Ok(connection)
    })
}

/// Creates what is missing: the tables, and a first calendar.
pub fn prepare(transaction: &Transaction<'_>) -> std::result::Result<(), Fault> {
    transaction.execute_batch(SCHEMA)?;
    let store = Store(transaction);
    if store.find(ROOT)?.is_none() {
        let new = |kind| New {
            kind,
            content: b"",
            media_type: "",
            uid: None,
        };
        store.put(ROOT, new(Kind::Collection))?;
        store.put(&format!("{ROOT}/personal"), new(Kind::Calendar))?;
    }
    Ok(())
}

/// Everything at `?1` and below it; `0` comes after `/`.
const TREE: &str = "(path = ?1 OR path >= ?1 || '/' AND path < ?1 || '0')";

/// The store in one transaction.
pub struct Store<'a>(pub &'a Connection);

const COLUMNS: &str = "path, kind, length(content), media_type, version, created, modified";

impl Store<'_> {
    pub fn find(&self, path: &str) -> Result<Option<Node>> {
        let sql = format!("SELECT {COLUMNS} FROM node WHERE path = ?");
        let mut statement = self.0.prepare_cached(&sql)?;
        statement.query_row([path], node).optional()
    }

    pub fn content(&self, path: &str) -> Result<Vec<u8>> {
        let mut statement = self
            .0
            .prepare_cached("SELECT content FROM node WHERE path = ?")?;
        statement.query_row([path], |row| row.get(0))
    }

    /// What is directly in a collection and was changed after this version.
    pub fn children(&self, path: &str, after: i64) -> Result<Vec<Node>> {
        let sql =
            format!("SELECT {COLUMNS} FROM node WHERE parent = ? AND version > ? ORDER BY version");
        let mut statement = self.0.prepare_cached(&sql)?;
        let rows = statement.query_map((path, after), node)?;
        rows.collect()
    }

    /// What was directly in a collection and was deleted after this version, and in which one.
    pub fn gone(&self, path: &str, after: i64) -> Result<Vec<(String, i64)>> {
        let sql = "SELECT path, version FROM gone WHERE parent = ? AND version > ?";
        let mut statement = self.0.prepare_cached(sql)?;
        let rows = statement.query_map((path, after), |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    }

    /// The path of the file in a calendar with this UID.
    pub fn with_uid(&self, calendar: &str, uid: &str) -> Result<Option<String>> {
        let sql = "SELECT path FROM node WHERE parent = ? AND uid = ?";
        let mut statement = self.0.prepare_cached(sql)?;
        statement
            .query_row([calendar, uid], |row| row.get(0))
            .optional()
    }

    /// Creates or replaces. A node that is replaced keeps its properties.
    pub fn put(&self, path: &str, new: New<'_>) -> Result<i64> {
        let version = self.next()?;
        let sql = "
            INSERT INTO node VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, unixepoch(), unixepoch())
            ON CONFLICT (path) DO UPDATE SET kind = excluded.kind, content = excluded.content,
                media_type = excluded.media_type, uid = excluded.uid, version = excluded.version,
                modified = excluded.modified";
        let kind = new.kind as u8;
        self.0.prepare_cached(sql)?.execute((
            path,
            parent(path),
            kind,
            new.content,
            new.media_type,
            new.uid,
            version,
        ))?;
        self.here(path)?;
        Ok(version)
    }

    /// Deletes a node and everything below it.
    pub fn remove(&self, path: &str) -> Result<()> {
        let version = self.next()?;
        let remember =
            format!("INSERT OR REPLACE INTO gone SELECT path, parent, ?2 FROM node WHERE {TREE}");
        self.0.prepare_cached(&remember)?.execute((path, version))?;
        let delete = format!("DELETE FROM node WHERE {TREE}");
        self.0.prepare_cached(&delete)?.execute([path])?;
        let forgotten: Option<i64> = self
            .0
            .prepare_cached("SELECT version FROM gone ORDER BY version DESC LIMIT 1 OFFSET ?")?
            .query_row([MAX_GONE], |row| row.get(0))
            .optional()?;
        if let Some(forgotten) = forgotten {
            self.0
                .execute("DELETE FROM gone WHERE version <= ?", [forgotten])?;
            self.0
                .execute("UPDATE counter SET forgotten = ?", [forgotten])?;
        }
        Ok(())
    }

    /// Copies a node and, if `deep`, everything below it. Nothing is at `to`, and it has no UID
    /// yet.
    pub fn copy(&self, from: &str, to: &str, deep: bool) -> Result<()> {
        let version = self.next()?;
        let rename = "?2 || substr(path, length(?1) + 1)";
        let which = match deep {
            true => TREE,
            false => "path = ?1",
        };
        let parent = format!(
            "CASE path WHEN ?1 THEN '{}' ELSE ?2 || substr(parent, length(?1) + 1) END",
            parent(to).replace('\'', "''")
        );
        let nodes = format!(
            "INSERT INTO node SELECT {rename}, {parent}, kind, content, media_type,
                CASE path WHEN ?1 THEN NULL ELSE uid END, ?3, unixepoch(), modified
                FROM node WHERE {which}"
        );
        self.0.execute(&nodes, (from, to, version))?;
        let properties = format!(
            "INSERT INTO property SELECT {rename}, namespace, name, value FROM property
                WHERE {which}"
        );
        self.0.execute(&properties, (from, to))?;
        self.0.execute(
            "DELETE FROM gone WHERE path IN (SELECT path FROM node WHERE version = ?)",
            [version],
        )?;
        Ok(())
    }

    /// Sets the UID of a node that was copied.
    pub fn set_uid(&self, path: &str, uid: Option<&str>) -> Result<()> {
        self.0
            .execute("UPDATE node SET uid = ? WHERE path = ?", (uid, path))?;
        Ok(())
    }

    pub fn properties(&self, path: &str) -> Result<Vec<(String, String, String)>> {
        let sql = "SELECT namespace, name, value FROM property WHERE path = ?";
        let mut statement = self.0.prepare_cached(sql)?;
        let rows =
            statement.query_map([path], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        rows.collect()
    }

    pub fn property(&self, path: &str, namespace: &str, name: &str) -> Result<Option<String>> {
        let sql = "SELECT value FROM property WHERE path = ? AND namespace = ? AND name = ?";
        let mut statement = self.0.prepare_cached(sql)?;
        statement
            .query_row([path, namespace, name], |row| row.get(0))
            .optional()
    }

    /// Sets a property, or removes it.
    pub fn set_property(
        &self,
        path: &str,
        (namespace, name): (&str, &str),
        value: Option<&str>,
    ) -> Result<()> {
        match value {
            Some(value) => self
                .0
                .prepare_cached("INSERT OR REPLACE INTO property VALUES (?, ?, ?, ?)")?
                .execute([path, namespace, name, value])?,
            None => self
                .0
                .prepare_cached(
                    "DELETE FROM property WHERE path = ? AND namespace = ? AND name = ?",
                )?
                .execute([path, namespace, name])?,
        };
        Ok(())
    }

    pub fn property_count(&self, path: &str) -> Result<u32> {
        let sql = "SELECT count(*) FROM property WHERE path = ?";
        let mut statement = self.0.prepare_cached(sql)?;
        statement.query_row([path], |row| row.get(0))
    }

    /// The token of a collection's state: the last change in it.
    pub fn token(&self, path: &str) -> Result<String> {
        let sql = "
            SELECT epoch || '-' || max(
                ifnull((SELECT max(version) FROM node WHERE parent = ?1), 0),
                ifnull((SELECT max(version) FROM gone WHERE parent = ?1), 0),
                ifnull((SELECT version FROM node WHERE path = ?1), 0), forgotten)
            FROM counter";
        let mut statement = self.0.prepare_cached(sql)?;
        let token: String = statement.query_row([path], |row| row.get(0))?;
        Ok(format!("{TOKEN}{token}"))
    }

    /// The token of a state in which this version was the last. `begun`: what was gone before this
    /// version is not known to the client, who has not read everything yet.
    pub fn token_at(&self, version: i64, begun: i64) -> Result<String> {
        let sql = "SELECT epoch FROM counter";
        let epoch: String = self.0.query_row(sql, [], |row| row.get(0))?;
        Ok(match begun > version {
            true => format!("{TOKEN}{epoch}-{version}-{begun}"),
            false => format!("{TOKEN}{epoch}-{version}"),
        })
    }

    /// The two versions that a token stands for; `None` if it cannot be used, or not any more.
    pub fn read_token(&self, token: &str) -> Result<Option<(i64, i64)>> {
        let (epoch, version, forgotten): (String, i64, i64) =
            self.0.query_row("SELECT * FROM counter", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
        let parse = || {
            let rest = token.strip_prefix(TOKEN)?.strip_prefix(&epoch)?;
            let rest = rest.strip_prefix('-')?;
            let (known, begun) = rest.split_once('-').unwrap_or((rest, rest));
            Some((known.parse().ok()?, begun.parse().ok()?))
        };
        let fits = |(known, begun): &(i64, i64)| {
            (0..=version).contains(known) && (forgotten..=version).contains(begun)
        };
        Ok(parse().filter(fits))
    }

    /// The newest version of all.
    pub fn newest(&self) -> Result<i64> {
        self.0
            .query_row("SELECT version FROM counter", [], |row| row.get(0))
    }

    fn next(&self) -> Result<i64> {
        let mut statement = self
            .0
            .prepare_cached("UPDATE counter SET version = version + 1 RETURNING version")?;
        statement.query_row([], |row| row.get(0))
    }

    fn here(&self, path: &str) -> Result<()> {
        let mut statement = self.0.prepare_cached("DELETE FROM gone WHERE path = ?")?;
        statement.execute([path])?;
        Ok(())
    }
}

/// A token must be a URI (RFC 6578, 6.2).
const TOKEN: &str = "data:,";

/// The path of the collection that a path is in.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn node(row: &Row<'_>) -> Result<Node> {
    Ok(Node {
        path: row.get(0)?,
        kind: match row.get(1)? {
            0 => Kind::File,
            1 => Kind::Collection,
            _ => Kind::Calendar,
        },
        length: row.get(2)?,
        media_type: row.get(3)?,
        version: row.get(4)?,
        created: row.get(5)?,
        modified: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use entwined::{Standalone, reactor::RunError};
    use entwined_rusqlite::Error;

    use super::*;

    /// Two calendars may begin with the same file at once.
    #[test]
    fn a_new_database_can_be_opened_while_another_program_writes() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("calendar.db");
        let other = Connection::open(&file).expect("a database");
        let begin = "CREATE TABLE other (x); BEGIN IMMEDIATE; INSERT INTO other VALUES (1)";
        other.execute_batch(begin).expect("nobody else writes");
        let reactor = Standalone::new().expect("a reactor");
        let pool = open(&reactor.handle(), file);
        let count = pool.run_with_connection(|connection, _| {
            let count = "SELECT count(*) FROM other";
            Ok::<i64, Error>(connection.query_row(count, (), |row| row.get(0))?)
        });
        let count = reactor.block_on(async { Ok::<_, RunError>(count.await) });
        assert_eq!(count.expect("it runs").expect("it is opened"), 0);
    }
}
