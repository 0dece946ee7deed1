//! The pool of connections.

use std::{
    cell::Cell,
    error,
    path::Path,
    rc::Rc,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use entwined::{
    Handle, Standalone,
    deferred::{ChainError, Deferred, Interrupted, all, gather},
    thread::Config,
};
use entwined_rusqlite::{
    ConnectionPool, Error,
    rusqlite::{self, Connection, functions::FunctionFlags},
};
use tempfile::TempDir;

/// A query that never finishes.
const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                       SELECT count(*) FROM n WHERE began()";

struct Rig {
    reactor: Standalone,
    pool: ConnectionPool,
    /// Receives a message when [`ENDLESS`] has begun to count.
    began: mpsc::Receiver<()>,
    opened: Arc<AtomicU32>,
    _directory: TempDir,
}

/// Creates a pool with this many connections and this much room in its queue, on a database with a
/// table of three numbers.
fn rig(connections: usize, queue: usize) -> Rig {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("test.db");
    let first = Connection::open(&file).expect("a database");
    first
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE number (n INTEGER); \
             INSERT INTO number VALUES (1), (2), (3)",
        )
        .expect("a table");
    let reactor = Standalone::new().expect("a reactor");
    let mut config = Config::default();
    (config.max_threads, config.max_queued) = (connections, queue);
    let (begin, began) = mpsc::channel();
    let opened = Arc::new(AtomicU32::new(0));
    let pool = ConnectionPool::with(&reactor.handle(), config, {
        let opened = opened.clone();
        move || {
            opened.fetch_add(1, Ordering::Relaxed);
            open(&file, begin.clone())
        }
    });
    Rig {
        reactor,
        pool,
        began,
        opened,
        _directory: directory,
    }
}

fn open(file: &Path, begin: mpsc::Sender<()>) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.create_scalar_function("began", 0, FunctionFlags::SQLITE_UTF8, move |_| {
        let _ = begin.send(());
        Ok(true)
    })?;
    Ok(connection)
}

impl Rig {
    /// Runs the reactor until `deferred` has fired.
    fn outcome<T: 'static, E: ChainError>(&self, deferred: Deferred<T, E>) -> Result<T, E> {
        let result = Rc::new(Cell::new(None));
        deferred.add_both({
            let (result, handle) = (result.clone(), self.reactor.handle());
            move |outcome| {
                result.set(Some(outcome));
                // The Deferred may have fired before the run.
                handle.clone().call_soon(move || handle.stop());
                Ok::<_, Interrupted>(())
            }
        });
        self.reactor.run().expect("it runs");
        result.take().expect("the Deferred has fired")
    }

    fn numbers(&self) -> Vec<i64> {
        let query = self
            .pool
            .run_query("SELECT n FROM number ORDER BY n", (), |row| row.get(0));
        self.outcome(query).expect("rows")
    }
}

#[test]
fn rows_come_back_as_owned_values() {
    let rig = rig(1, 10);
    let query = rig.pool.run_query(
        "SELECT n, n * 2 FROM number WHERE n > ?1 ORDER BY n",
        [1],
        |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, String>(1)
                    .unwrap_or_else(|_| "no text".to_owned()),
            ))
        },
    );
    assert_eq!(
        rig.outcome(query).expect("rows"),
        [(2, "no text".to_owned()), (3, "no text".to_owned())]
    );
}

#[test]
fn a_statement_gives_the_number_of_rows_it_changed() {
    let rig = rig(1, 10);
    let changed = rig.pool.run_statement("UPDATE number SET n = n + ?1", [10]);
    assert_eq!(rig.outcome(changed).expect("done"), 3);
    assert_eq!(rig.numbers(), [11, 12, 13]);
}

#[test]
fn an_interaction_is_committed_when_it_gives_a_value() {
    let rig = rig(1, 10);
    let id = rig.pool.run_interaction(|transaction| {
        transaction.execute("INSERT INTO number VALUES (4)", ())?;
        Ok::<_, Error>(transaction.last_insert_rowid())
    });
    assert_eq!(rig.outcome(id).expect("done"), 4);
    assert_eq!(rig.numbers(), [1, 2, 3, 4]);
}

#[test]
fn an_interaction_is_rolled_back_when_it_gives_an_error_of_its_own() {
    let rig = rig(1, 10);
    let failed = rig.pool.run_interaction(|transaction| {
        transaction.execute("DELETE FROM number", ())?;
        Err::<(), Box<dyn error::Error + Send + Sync>>("second thoughts".into())
    });
    assert_eq!(
        rig.outcome(failed).expect_err("an error").to_string(),
        "second thoughts"
    );
    assert_eq!(rig.numbers(), [1, 2, 3]);
    assert_eq!(
        rig.opened.load(Ordering::Relaxed),
        1,
        "the connection is used again"
    );
}

#[test]
fn an_interaction_is_rolled_back_when_it_panics() {
    let rig = rig(1, 10);
    let panicking = rig
        .pool
        .run_interaction(|transaction| -> Result<(), Error> {
            transaction.execute("DELETE FROM number", ())?;
            panic!("half way");
        });
    let error = rig.outcome(panicking).expect_err("an error");
    assert!(
        matches!(error, Error::Interrupted(Interrupted::Panicked(message)) if message == "half way")
    );
    assert_eq!(rig.numbers(), [1, 2, 3]);
    assert_eq!(
        rig.opened.load(Ordering::Relaxed),
        2,
        "the connection was not used again"
    );
}

#[test]
fn cancelling_interrupts_a_running_query() {
    let rig = rig(1, 10);
    let endless = rig.pool.run_query(ENDLESS, (), |row| row.get::<_, i64>(0));
    rig.began.recv().expect("it begins");
    endless.cancel();
    assert!(matches!(
        endless.take().expect("fired"),
        Err(Error::Interrupted(Interrupted::Cancelled))
    ));
    // There is one connection, so this is answered only when the query has ended; and it is not
    // interrupted itself.
    assert_eq!(rig.numbers(), [1, 2, 3]);
    assert_eq!(rig.opened.load(Ordering::Relaxed), 1);
}

#[test]
fn cancelling_between_two_statements_ends_the_transaction() {
    let rig = rig(1, 10);
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let cancelled = rig.pool.run_interaction(move |transaction| {
        transaction.execute("DELETE FROM number", ())?;
        begun.send(()).expect("kept");
        may_go_on.recv().expect("kept");
        let result = transaction.query_row(ENDLESS, (), |row| row.get::<_, i64>(0));
        tell.send(
            result
                .as_ref()
                .err()
                .and_then(rusqlite::Error::sqlite_error_code),
        )
        .expect("kept");
        Ok::<_, Error>(result?)
    });
    has_begun.recv().expect("it begins");
    cancelled.cancel();
    go_on.send(()).expect("kept");
    assert_eq!(
        told.recv(),
        Ok(Some(rusqlite::ErrorCode::OperationInterrupted))
    );
    assert_eq!(rig.numbers(), [1, 2, 3]);
}

#[test]
fn cancelling_rolls_back_an_interaction_that_is_done_but_for_its_commit() {
    let rig = rig(1, 10);
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let cancelled = rig.pool.run_interaction(move |transaction| {
        transaction.execute("DELETE FROM number", ())?;
        begun.send(()).expect("kept");
        may_go_on.recv().expect("kept");
        Ok::<_, Error>(())
    });
    has_begun.recv().expect("it begins");
    cancelled.cancel();
    go_on.send(()).expect("kept");
    assert_eq!(rig.numbers(), [1, 2, 3]);
}

#[test]
fn the_end_of_the_run_interrupts_what_runs() {
    let rig = rig(1, 10);
    let endless = rig.pool.run_query(ENDLESS, (), |row| row.get::<_, i64>(0));
    rig.began.recv().expect("it begins");
    let handle = rig.reactor.handle();
    handle.clone().call_soon(move || handle.stop());
    rig.reactor.run().expect("it runs");
    assert!(matches!(
        endless.take().expect("fired"),
        Err(Error::Interrupted(Interrupted::Cancelled))
    ));
    assert_eq!(rig.numbers(), [1, 2, 3], "in the next run");
}

#[test]
fn a_time_limit_interrupts_it_too() {
    let rig = rig(1, 10);
    let endless = rig.pool.run_query(ENDLESS, (), |row| row.get::<_, i64>(0));
    let limited = endless.add_timeout(&rig.reactor.handle(), Duration::from_millis(1));
    assert!(matches!(
        rig.outcome(limited),
        Err(Error::Interrupted(Interrupted::TimedOut))
    ));
    assert_eq!(rig.numbers(), [1, 2, 3]);
}

#[test]
fn the_limits_hold_and_a_full_queue_refuses() {
    let rig = rig(2, 1);
    // Each job waits until both connections have one.
    let barrier = Arc::new(Barrier::new(3));
    let both: Vec<_> = (0..2)
        .map(|_| {
            let barrier = barrier.clone();
            rig.pool.run_with_connection(move |_, _| {
                barrier.wait();
                Ok::<_, Error>(barrier.wait().is_leader())
            })
        })
        .collect();
    barrier.wait();
    let queued = rig.pool.run_statement("INSERT INTO number VALUES (4)", ());
    let refused = rig.pool.run_statement("INSERT INTO number VALUES (5)", ());
    assert!(matches!(refused.take().expect("fired"), Err(Error::Full)));
    assert_eq!((rig.pool.connections(), rig.pool.queued()), (2, 1));
    barrier.wait();
    // Both together, because the end of a run would cancel the other.
    rig.outcome(gather((all(both), queued))).expect("done");
    assert_eq!(rig.numbers(), [1, 2, 3, 4]);
    assert_eq!(rig.opened.load(Ordering::Relaxed), 2);
}

#[test]
fn one_connection_serves_what_comes_one_after_the_other() {
    let rig = rig(8, 10);
    for _ in 0..50 {
        assert_eq!(rig.numbers(), [1, 2, 3]);
    }
    assert_eq!(rig.opened.load(Ordering::Relaxed), 1);
}

#[test]
fn a_transaction_that_was_left_open_is_rolled_back_and_named() {
    let rig = rig(1, 10);
    let left = rig.pool.run_with_connection(|connection, _| {
        Ok::<_, Error>(connection.execute_batch("BEGIN; DELETE FROM number")?)
    });
    assert!(matches!(rig.outcome(left), Err(Error::LeftOpen)));
    assert_eq!(rig.numbers(), [1, 2, 3]);
}

#[test]
fn errors_say_whose_they_are() {
    let rig = rig(1, 10);
    let wrong = rig.pool.run_statement("INSERT INTO nowhere VALUES (1)", ());
    let error = rig.outcome(wrong).expect_err("no such table");
    assert!(matches!(error, Error::Sqlite(_)));
    assert!(error.to_string().contains("nowhere"), "{error}");
    let nowhere = ConnectionPool::open(&rig.reactor.handle(), "/no/such/directory/test.db");
    let error = rig
        .outcome(nowhere.run_statement("SELECT 1", ()))
        .expect_err("it cannot be opened");
    assert!(matches!(error, Error::Open(_)));
    assert!(error::Error::source(&error).is_some());
}

/// Dropped with the connection.
struct Closed(mpsc::Sender<()>);

impl Drop for Closed {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[test]
fn connections_are_closed_when_the_pool_is_gone_and_what_was_queued_is_done() {
    let Rig {
        reactor,
        pool,
        _directory,
        ..
    } = rig(1, 1_000);
    let (closed, is_closed) = mpsc::channel();
    let witness = Closed(closed);
    let first = pool.run_with_connection(move |connection, _| {
        connection.create_scalar_function("closed", 0, FunctionFlags::SQLITE_UTF8, move |_| {
            let _witness = &witness;
            Ok(0)
        })?;
        Ok::<_, Error>(())
    });
    let rows: Vec<_> = (0..100)
        .map(|n| pool.run_statement("INSERT INTO number VALUES (?)", [n]))
        .collect();
    drop(pool);
    let handle: Handle = reactor.handle();
    let done = handle.spawn({
        let handle = handle.clone();
        async move {
            first.await?;
            let rows = all(rows).await?;
            handle.stop();
            Ok::<_, Error>(rows.len())
        }
    });
    reactor.run().expect("it runs");
    assert_eq!(
        done.take()
            .expect("fired")
            .expect("no panic")
            .expect("no error"),
        100
    );
    assert_eq!(is_closed.recv(), Ok(()));
}

#[test]
fn it_works_on_another_loop() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut host = calloop::EventLoop::<()>::try_new().expect("a loop");
    let backend = entwined_calloop::attach(&host.handle()).expect("a backend");
    let pool = ConnectionPool::open(&backend, directory.path().join("test.db"));
    let done = Rc::new(Cell::new(None));
    let signal = host.get_signal();
    pool.run_interaction(|transaction| {
        transaction.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1), (2)")?;
        Ok::<_, Error>(
            transaction.query_row("SELECT sum(x) FROM t", (), |row| row.get::<_, i64>(0))?,
        )
    })
    .add_both({
        let done = done.clone();
        move |result| {
            done.set(result.ok());
            signal.stop();
            Ok::<_, Error>(())
        }
    });
    host.run(None, &mut (), |()| {}).expect("it runs");
    assert_eq!(done.get(), Some(3));
}

/// Two transactions that read before they write. With SQLite's default the second fails at once
/// with "database is locked", however long it may wait.
#[test]
fn transactions_that_read_before_they_write_wait_for_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("numbers.db");
    let reactor = Standalone::new().expect("a reactor");
    let config = Config {
        max_threads: 4,
        ..Config::default()
    };
    // The program's own function: nothing of it says how transactions begin.
    let pool = ConnectionPool::with(&reactor.handle(), config, move || Connection::open(&file));
    let sums = reactor.block_on(async move {
        pool.run_statement("CREATE TABLE number (n INTEGER)", ())
            .await?;
        pool.run_statement("INSERT INTO number VALUES (0)", ())
            .await?;
        let adding = (0..8).map(|_| {
            pool.run_interaction(|transaction| {
                let read = "SELECT n FROM number";
                let n: i64 = transaction.query_row(read, (), |row| row.get(0))?;
                std::thread::sleep(Duration::from_millis(2));
                transaction.execute("UPDATE number SET n = ?", [n + 1])?;
                Ok::<_, Error>(())
            })
        });
        all(adding).await?;
        let sums = pool.run_query("SELECT n FROM number", (), |row| row.get::<_, i64>(0));
        Ok::<_, Box<dyn error::Error>>(sums.await?)
    });
    assert_eq!(sums.expect("no transaction fails"), [8]);
}

#[test]
fn a_database_that_the_pool_opens_is_in_wal_mode() {
    let folder = tempfile::tempdir().expect("a folder");
    let reactor = Standalone::new().expect("a reactor");
    let pool = ConnectionPool::open(&reactor.handle(), folder.path().join("notes.db"));
    let modes = reactor.block_on(async move {
        let modes = pool.run_query("PRAGMA journal_mode", (), |row| row.get::<_, String>(0));
        Ok::<_, Box<dyn error::Error>>(modes.await?)
    });
    assert_eq!(modes.expect("no error"), ["wal"]);
}

/// A job that is cancelled does not keep its thread while it waits for a lock.
#[test]
fn cancelling_ends_the_wait_for_a_lock() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("test.db");
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let pool = ConnectionPool::open(&handle, &file);
    let waited = reactor.block_on(async move {
        pool.run_statement("CREATE TABLE number (n INTEGER)", ())
            .await?;
        let other = Connection::open(&file)?;
        other.execute_batch("BEGIN IMMEDIATE")?;
        let start = std::time::Instant::now();
        // As many as there are threads, which then have no time for anything else.
        let insert = "INSERT INTO number VALUES (1)";
        let waiting: Vec<_> = (0..4).map(|_| pool.run_statement(insert, ())).collect();
        handle.sleep(Duration::from_millis(100)).await;
        waiting.iter().for_each(Deferred::cancel);
        let read = pool.run_query("SELECT n FROM number", (), |row| row.get::<_, i64>(0));
        assert_eq!(read.await?, [0_i64; 0]);
        Ok::<_, Box<dyn error::Error>>(start.elapsed())
    });
    let waited = waited.expect("it works");
    assert!(waited < Duration::from_secs(3), "{waited:?}");
}
