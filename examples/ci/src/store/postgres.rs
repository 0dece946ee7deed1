//! The builds of several masters, in PostgreSQL.
//!
//! Each connection of a master has a number, and holds the advisory lock of that number as long as
//! it lives. A build that runs has the number of its master. If another master gets the lock, that
//! one is dead or cut off, and its builds are queued again. A master that was cut off cannot change
//! them any more, because it has another number then.

use std::{
    cell::RefCell, collections::HashMap, error, future::poll_fn, pin::pin, rc::Rc, time::Duration,
};

use entwined::{
    Handle,
    service::Backoff,
    transport::{Stream, connect_host, unix},
};
use futures_util::future::{Either, select};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Row, config::Host, types::ToSql};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use super::{Build, COLUMNS, Error, MAX_TRIES, Result, SHORT, SHOWN};
use crate::wire::Job;

/// How often a master looks for builds of others that are dead.
const LOOK: Duration = Duration::from_secs(1);

/// How long the database may take for what it does at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two masters must not create it at the same time.
const SCHEMA: &str = "
    BEGIN;
    SELECT pg_advisory_xact_lock(0);
    CREATE SEQUENCE IF NOT EXISTS master;
    CREATE TABLE IF NOT EXISTS build (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, repository TEXT, script TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'queued', worker TEXT, code INTEGER,
        tries INTEGER NOT NULL DEFAULT 0, master BIGINT);
    CREATE INDEX IF NOT EXISTS build_state ON build (state, id);
    CREATE OR REPLACE FUNCTION build_changed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_notify('builds', NEW.id::text); RETURN NULL; END $$;
    CREATE OR REPLACE TRIGGER build_changed AFTER INSERT OR UPDATE ON build
        FOR EACH ROW EXECUTE FUNCTION build_changed();
    COMMIT;
    LISTEN builds;";

/// What a master hears.
pub enum Told {
    /// A build has changed, here or elsewhere.
    Changed(i64),
    /// The connection is there.
    Connected,
    /// The connection is lost, and with it all builds that run here.
    Lost,
}

pub struct Postgres {
    handle: Handle,
    config: Config,
    link: RefCell<Option<Link>>,
    /// Builds that run here, with the number under which they were taken.
    taken: RefCell<HashMap<i64, i64>>,
}

#[derive(Clone)]
struct Link {
    client: Rc<Client>,
    number: i64,
}

impl Postgres {
    pub fn new(handle: &Handle, url: &str) -> Result<Rc<Postgres>> {
        Ok(Rc::new(Postgres {
            handle: handle.clone(),
            config: url.parse()?,
            link: RefCell::default(),
            taken: RefCell::default(),
        }))
    }

    /// Connects, again and again, and tells what is heard.
    pub async fn keep(self: Rc<Self>, tell: impl Fn(Told) + Clone + 'static) {
        let mut backoff = Backoff::default();
        (backoff.first, backoff.max) = (Duration::from_millis(200), Duration::from_secs(10));
        loop {
            match self.connect(tell.clone()).await {
                Ok(()) => backoff.reset(),
                Err(error) => tracing::warn!(%error, "no database"),
            }
            if self.link.take().is_some() {
                tell(Told::Lost);
            }
            self.handle.sleep(backoff.next(0.5)).await;
        }
    }

    /// Connects, and returns when the connection is lost.
    async fn connect(&self, tell: impl Fn(Told) + Clone + 'static) -> Result<()> {
        let stream = self.stream().await.map_err(|error| {
            tracing::warn!(%error, "the database cannot be reached");
            Error::Lost
        })?;
        let connecting = self.config.connect_raw(stream.compat(), NoTls);
        let (client, mut connection) = self.soon(connecting).await?;
        let heard = tell.clone();
        let driver = self.handle.spawn(async move {
            while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                match message {
                    Ok(AsyncMessage::Notification(note)) if note.channel() == "builds" => {
                        if let Ok(id) = note.payload().parse() {
                            heard(Told::Changed(id));
                        }
                    }
                    Ok(_) => {}
                    Err(error) => return tracing::warn!(%error, "the database is lost"),
                }
            }
        });
        let drives = driver.canceller();
        let using = pin!(self.use_it(client, tell));
        let ended = select(using, driver).await;
        // The connection goes with its driver.
        drives.cancel();
        match ended {
            Either::Left((used, _)) => used,
            Either::Right(_) => Ok(()),
        }
    }

    /// Uses a connection for as long as it answers.
    async fn use_it(&self, client: Client, tell: impl Fn(Told)) -> Result<()> {
        let prepare = async {
            client.batch_execute(SCHEMA).await?;
            let row = client.query_one("SELECT nextval('master')", &[]).await?;
            let number: i64 = row.get(0);
            let lock = "SELECT pg_advisory_lock($1)";
            client.execute(lock, &[&number]).await?;
            Ok(number)
        };
        let number = self.soon(prepare).await?;
        let client = Rc::new(client);
        self.link.replace(Some(Link {
            client: client.clone(),
            number,
        }));
        tracing::info!(number, "connected to the database");
        tell(Told::Connected);
        loop {
            self.handle.sleep(LOOK).await;
            self.soon(client.batch_execute("")).await?;
        }
    }

    /// What a database that is there does in time. A machine that has lost its power says nothing.
    async fn soon<T>(
        &self,
        asked: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        match self.handle.timeout(PATIENCE, asked).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Error::Lost),
        }
    }

    async fn stream(&self) -> std::result::Result<Stream, Box<dyn error::Error>> {
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        Ok(match self.config.get_hosts().first() {
            Some(Host::Unix(folder)) => {
                let path = folder.join(format!(".s.PGSQL.{port}"));
                unix::connect(&self.handle, path).await?
            }
            Some(Host::Tcp(name)) => connect_host(&self.handle, name, port).await?,
            None => connect_host(&self.handle, "localhost", port).await?,
        })
    }

    /// Queues builds of masters that are dead again, for as long as it is polled.
    pub async fn look_after_others(self: Rc<Self>) {
        let sql = "
            UPDATE build SET state = 'queued', master = NULL
            WHERE state = 'running' AND master IN (
                SELECT master FROM (
                    SELECT DISTINCT master FROM build WHERE state = 'running' AND master <> $1
                ) AS others WHERE pg_try_advisory_xact_lock(master))";
        loop {
            self.handle.sleep(LOOK).await;
            let Ok(Link { client, number }) = self.link() else {
                continue;
            };
            match client.execute(sql, &[&number]).await {
                Ok(0) => {}
                Ok(count) => tracing::warn!(count, "builds of another master are queued again"),
                Err(error) => tracing::warn!(%error, "cannot look after other masters"),
            }
        }
    }

    fn link(&self) -> Result<Link> {
        self.link.borrow().clone().ok_or(Error::Lost)
    }

    async fn query(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let client = self.link()?.client;
        Ok(client.query(sql, parameters).await?)
    }

    async fn execute(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<bool> {
        let client = self.link()?.client;
        Ok(client.execute(sql, parameters).await? > 0)
    }

    pub async fn newest(&self) -> Result<Vec<Build>> {
        let sql = format!("SELECT {SHORT} FROM build ORDER BY id DESC LIMIT {SHOWN}");
        Ok(self.query(&sql, &[]).await?.iter().map(read).collect())
    }

    pub async fn find(&self, id: i64) -> Result<Option<Build>> {
        let sql = format!("SELECT {COLUMNS} FROM build WHERE id = $1");
        Ok(self.query(&sql, &[&id]).await?.first().map(read))
    }

    pub async fn add(&self, repository: Option<String>, script: String) -> Result<i64> {
        let sql = "INSERT INTO build (repository, script) VALUES ($1, $2) RETURNING id";
        let rows = self.query(sql, &[&repository, &script]).await?;
        Ok(rows[0].get(0))
    }

    pub async fn take(&self, worker: String) -> Result<Option<Job>> {
        let Link { client, number } = self.link()?;
        // A build that another master is just taking is left out, not waited for.
        let sql = "
            UPDATE build
            SET state = 'running', worker = $1, master = $2, tries = tries + 1, code = NULL
            WHERE id = (SELECT id FROM build WHERE state = 'queued' ORDER BY id LIMIT 1
                FOR UPDATE SKIP LOCKED)
            RETURNING id, repository, script";
        let Some(row) = client.query_opt(sql, &[&worker, &number]).await? else {
            return Ok(None);
        };
        let job = Job {
            id: row.get(0),
            repository: row.get(1),
            script: row.get(2),
        };
        self.taken.borrow_mut().insert(job.id, number);
        Ok(Some(job))
    }

    pub async fn finish(&self, id: i64, code: Option<i32>) -> Result<bool> {
        let sql = "
            UPDATE build
            SET state = CASE WHEN $2 = 0 THEN 'passed' ELSE 'failed' END, code = $2, master = NULL
            WHERE id = $1 AND state = 'running' AND master = $3";
        let changed = self.execute(sql, &[&id, &code, &self.number(id)]).await?;
        self.taken.borrow_mut().remove(&id);
        Ok(changed)
    }

    pub async fn requeue(&self, id: i64) -> Result<bool> {
        let sql = "
            UPDATE build
            SET state = CASE WHEN tries < $2 THEN 'queued' ELSE 'failed' END, master = NULL
            WHERE id = $1 AND state = 'running' AND master = $3";
        let parameters: &[&(dyn ToSql + Sync)] = &[&id, &MAX_TRIES, &self.number(id)];
        let changed = self.execute(sql, parameters).await?;
        self.taken.borrow_mut().remove(&id);
        Ok(changed)
    }

    fn number(&self, id: i64) -> Option<i64> {
        self.taken.borrow().get(&id).copied()
    }

    pub async fn cancel(&self, id: i64) -> Result<bool> {
        let sql = "
            UPDATE build SET state = 'cancelled', master = NULL
            WHERE id = $1 AND state IN ('queued', 'running')";
        self.execute(sql, &[&id]).await
    }

    pub async fn grown(&self, id: i64) -> Result<()> {
        let id = id.to_string();
        self.execute("SELECT pg_notify('builds', $1)", &[&id])
            .await?;
        Ok(())
    }
}

fn read(row: &Row) -> Build {
    Build {
        id: row.get(0),
        repository: row.get(1),
        script: row.get(2),
        state: row.get(3),
        worker: row.get(4),
        code: row.get(5),
        tries: row.get(6),
    }
}
