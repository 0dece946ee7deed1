//! The table, and the threads that search it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use entwined::{
    Handle,
    thread::{Config, Job, Sender, WhenFull, channel},
};
use entwined_rusqlite::{ConnectionPool, Error};
use rusqlite::{Connection, OpenFlags, functions::FunctionFlags};

use super::{
    entries::entry,
    pattern::Pattern,
    running::Running,
    state::{FIRST, Hit, Progress, Stage},
};

/// How many entries the table has.
pub const ENTRIES: u32 = 200_000;

/// The number of entries written at once: some 4 ms, after which the search may be cancelled.
const BATCH: u32 = 2_000;

/// The number of entries searched between two progress reports: some 4 ms. The search can also be
/// cancelled in the middle.
const SLICE: u32 = 1_000;

const CREATE: &str = "CREATE TABLE IF NOT EXISTS entry \
                      (number INTEGER PRIMARY KEY, heading TEXT NOT NULL, text TEXT NOT NULL)";
const INSERT: &str = "INSERT OR REPLACE INTO entry VALUES (?1, ?2, ?3)";
// No index helps to find approximate matches: this looks at every entry.
const SELECT: &str = "SELECT heading, text, found FROM
    (SELECT number, heading, text, find(text) AS found FROM entry WHERE number BETWEEN ?1 AND ?2)
    WHERE found IS NOT NULL ORDER BY number";

/// The table of entries. It is only filled by the first search. Clones share the table.
#[derive(Clone)]
pub struct Archive {
    connections: ConnectionPool,
    table: Arc<Table>,
}

impl Archive {
    /// Creates a table of [`ENTRIES`] entries, searched by two threads at a time at most.
    pub fn new(handle: &Handle) -> Self {
        Archive::with_entries(handle, ENTRIES)
    }

    pub(super) fn with_entries(handle: &Handle, entries: u32) -> Self {
        let mut config = Config::default();
        (config.max_threads, config.max_queued) = (2, 32);
        let table = Arc::new(Table::new(entries));
        let connections = ConnectionPool::with(handle, config, {
            let table = table.clone();
            move || {
                give_way();
                table.open()
            }
        });
        Archive { connections, table }
    }

    /// Searches for `pattern`, on a thread.
    pub fn search(&self, pattern: Pattern) -> Running {
        // Of two states only the newer one is worth showing.
        let (report, progress) = channel(1, WhenFull::DropOldest);
        let text = pattern.as_str().to_owned();
        let table = self.table.clone();
        let result = self
            .connections
            .run_with_connection(move |connection, job| {
                table.fill(job, &report)?;
                table.search(connection, job, &report, pattern)
            });
        Running::new(text, progress, result)
    }
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive")
            .field("entries", &self.table.entries)
            .finish_non_exhaustive()
    }
}

/// Lets the window draw first if there are fewer processors than busy threads: lowers the priority
/// of this thread. On Linux, `nice` applies to a thread, not to the process.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(10) {
        eprintln!("could not lower the priority of a search thread: {error}");
    }
}

struct Table {
    /// The name under which all connections open the same in-memory database.
    uri: String,
    entries: u32,
    filled: Mutex<Filled>,
}

/// What all searches together have written so far.
#[derive(Default)]
struct Filled {
    entries: u32,
    /// The database exists as long as it has a connection.
    connection: Option<Connection>,
}

impl Table {
    fn new(entries: u32) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Table {
            uri: format!("file:/archive-{number}?vfs=memdb"),
            entries,
            filled: Mutex::default(),
        }
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        Connection::open_with_flags(&self.uri, OpenFlags::default() | OpenFlags::SQLITE_OPEN_URI)
    }

    /// Writes what is missing. Searches at the same time take turns, batch by batch; what a
    /// cancelled search has written is left for the next.
    fn fill(&self, job: &Job, report: &Sender<Progress>) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            job.check()?;
            let entries = self.fill_batch()?;
            if entries == self.entries {
                return Ok(());
            }
            report
                .send(Progress::new(
                    Stage::Filling,
                    entries,
                    self.entries,
                    start.elapsed(),
                ))
                .ok();
        }
    }

    /// Returns how many entries there are now.
    fn fill_batch(&self) -> Result<u32, Error> {
        // After a panic, the last batch was not committed.
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        let Filled {
            entries,
            connection,
        } = &mut *filled;
        if *entries == self.entries {
            return Ok(*entries);
        }
        let connection = match connection {
            Some(connection) => connection,
            None => {
                let new = self.open().map_err(Error::Open)?;
                new.pragma_update(None, "journal_mode", "MEMORY")?;
                connection.insert(new)
            }
        };
        let end = self.entries.min(*entries + BATCH);
        let transaction = connection.transaction()?;
        transaction.execute(CREATE, ())?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for number in *entries + 1..=end {
                let (heading, text) = entry(number);
                insert.execute((number, heading, text))?;
            }
        }
        transaction.commit()?;
        *entries = end;
        Ok(end)
    }

    fn search(
        &self,
        connection: &Connection,
        job: &Job,
        report: &Sender<Progress>,
        pattern: Pattern,
    ) -> Result<Progress, Error> {
        let start = Instant::now();
        let mut progress = Progress::new(Stage::Searching, 0, self.entries, start.elapsed());
        let length = pattern.len();
        // Replaces the function of the previous search.
        connection.create_scalar_function("find", 1, FunctionFlags::SQLITE_UTF8, move |call| {
            Ok(pattern
                .find(call.get_raw(0).as_str()?)
                .map(|end| end as i64))
        })?;
        let mut select = connection.prepare(SELECT)?;
        while progress.entries < self.entries {
            job.check()?;
            let end = self.entries.min(progress.entries + SLICE);
            let mut rows = select.query((progress.entries + 1, end))?;
            while let Some(row) = rows.next()? {
                progress.hits += 1;
                if progress.first.len() < FIRST {
                    let text: String = row.get(1)?;
                    progress.first.push(Hit::new(
                        row.get(0)?,
                        &text,
                        row.get::<_, i64>(2)? as usize,
                        length,
                    ));
                }
            }
            progress.entries = end;
            progress.time = start.elapsed();
            report.send(progress.clone()).ok();
        }
        Ok(progress)
    }
}
