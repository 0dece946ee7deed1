//! The master: hands builds to workers, one at a time to each.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    error::Error,
    fs, mem,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use entwined::{
    Handle, Standalone,
    broadcast::Broadcast,
    deferred::{Canceller, Deferred, Interrupted},
    endpoint,
    rpc::{self, CallError, Failure, Methods, Peer},
    signal::{self, Signal},
};
use entwined_http as http;
use entwined_rusqlite::ConnectionPool;

use crate::{
    log::Files,
    site,
    store::{self, Postgres, Sqlite, Store, Told},
    trust::{self, Trust},
    wire::{Job, Said},
};

/// How often a worker is asked whether it is there, and how long it has to answer.
const PING: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(3);

/// How soon the database is asked again for what must be done.
const AGAIN: Duration = Duration::from_secs(1);

pub struct Master {
    pub handle: Handle,
    pub store: Store,
    pub files: Files,
    /// The number of each build that has changed, in its state or in its log.
    pub changes: Broadcast<i64>,
    pub workers: RefCell<HashSet<String>>,
    running: RefCell<HashMap<i64, Canceller>>,
}

/// Where a master is, and what it uses.
pub struct Settings {
    pub listen: String,
    pub workers: String,
    pub data: PathBuf,
    pub database: Option<String>,
    pub trust: Trust,
}

/// A master in a program without a window.
pub fn run(settings: Settings) -> Result<(), Box<dyn Error>> {
    let reactor = Standalone::new()?;
    let (handle, settings) = (reactor.handle(), Rc::new(settings));
    let store = reactor.block_on(open(handle.clone(), settings.clone()))?;
    signal::stop_on(&handle, [Signal::INT, Signal::TERM])?.keep();
    start(&handle, store, &settings)?;
    Ok(reactor.run()?)
}

/// Opens where the builds are.
pub async fn open(handle: Handle, settings: Rc<Settings>) -> Result<Store, Box<dyn Error>> {
    if let Some(url) = &settings.database {
        return Ok(Store::Postgres(Postgres::new(&handle, url)?));
    }
    let data = &settings.data;
    fs::create_dir_all(data).map_err(|error| format!("{}: {error}", data.display()))?;
    // What is running is queued again, which it must not be while another master runs it.
    let lock = fs::File::create(data.join("lock"))?;
    if lock.try_lock().is_err() {
        return Err(format!("{}: another master uses this folder", data.display()).into());
    }
    let file = settings.data.join("builds.db");
    let sqlite = Sqlite(ConnectionPool::open(&handle, file));
    sqlite.prepare().await?;
    // Until this program ends.
    mem::forget(lock);
    Ok(Store::Sqlite(sqlite))
}

/// Begins to serve workers and the page.
pub fn start(
    handle: &Handle,
    store: Store,
    settings: &Settings,
) -> Result<Rc<Master>, Box<dyn Error>> {
    let master = Rc::new(Master {
        handle: handle.clone(),
        store,
        files: Files::new(handle, &settings.data)?,
        changes: Broadcast::new(1_024),
        workers: RefCell::default(),
        running: RefCell::default(),
    });
    if let Store::Postgres(postgres) = &master.store {
        let told = Rc::downgrade(&master);
        handle.spawn(postgres.clone().keep(move |what| {
            if let Some(master) = told.upgrade() {
                master.told(what);
            }
        }));
        handle.spawn(postgres.clone().look_after_others());
    }
    let listener = endpoint::server(&settings.workers)?.listen(handle)?;
    let others: Rc<[_]> = settings.trust.others()?.into();
    let workers = rpc::serve(settings.trust.acceptor()?.listen(listener), {
        let master = master.clone();
        move |_peer| {
            let (master, others) = (master.clone(), others.clone());
            let mut methods = Methods::new();
            methods.add("work", move |call, (): ()| {
                let (master, others) = (master.clone(), others.clone());
                async move {
                    let peer = call.peer().ok_or("the worker has gone")?;
                    let name = peer.ask(|tls| trust::name(&others, tls).map(str::to_owned));
                    let name = name.flatten().ok_or("the worker is not known")?;
                    master.employ(peer, name).await
                }
            });
            methods
        }
    });
    let listener = endpoint::server(&settings.listen)?.listen(handle)?;
    let page = http::serve(listener, site::router(&master));
    println!("http listening on {}", page.local_address());
    println!("workers connect to {}", workers.local_address());
    // They last as long as the loop runs.
    page.keep();
    workers.keep();
    Ok(master)
}

impl Master {
    /// Gives builds to a worker as long as it is connected. When the connection is lost, this is
    /// dropped wherever it waits.
    async fn employ(self: Rc<Self>, peer: Peer, name: String) -> Result<(), Failure> {
        let _place = Place::new(&self, &name)?;
        let beat = self
            .handle
            .spawn(heartbeat(self.handle.clone(), peer.clone()));
        let _beat = OnDrop(Some(move || beat.cancel()));
        let mut changes = self.changes.subscribe();
        loop {
            match self.take(name.clone()).await? {
                Some((job, lost)) => self.build(&peer, job, lost).await?,
                None => drop(changes.next().await),
            }
        }
    }

    /// Takes a build for a worker, with what puts it back if it is dropped. The database goes on
    /// even if the worker is lost meanwhile, so this does too: in a task of its own.
    async fn take(self: &Rc<Self>, worker: String) -> Result<Option<(Job, Lost)>, store::Error> {
        let (taker, taken) = Deferred::new();
        let master = self.clone();
        self.handle.spawn(async move {
            let job = master.store.take(worker).await;
            let with_lost = |job: Job| {
                let id = job.id;
                let requeue: Box<dyn FnOnce()> = Box::new(move || master.requeue(id));
                (job, OnDrop(Some(requeue)))
            };
            taker.settle(job.map(|job| job.map(with_lost)));
        });
        taken.await
    }

    async fn build(self: &Rc<Self>, peer: &Peer, job: Job, lost: Lost) -> Result<(), Failure> {
        let id = job.id;
        self.changes.send(id);
        let running = self.handle.spawn(self.clone().record(peer.clone(), job));
        self.running.borrow_mut().insert(id, running.canceller());
        let result = running.await;
        self.running.borrow_mut().remove(&id);
        match result {
            Ok(Ok(code)) => drop(self.store.finish(id, code).await?),
            // It was cancelled, and is marked as such already.
            Err(Interrupted::Cancelled) => {}
            Ok(Err(why)) if !peer.is_closing() => {
                let message = format!("[{why}]\n").into_bytes();
                // If the disk is full, that is why, and this does not fit either.
                if let Err(error) = self.files.append(id, message).await {
                    tracing::warn!(%error, id, "a log is not written");
                }
                self.store.finish(id, None).await?;
            }
            Ok(Err(why)) => return Err(why),
            Err(why) => return Err(why.into()),
        }
        lost.disarm();
        self.changes.send(id);
        Ok(())
    }

    /// What the database says, in which other masters change builds too.
    fn told(self: Rc<Self>, what: Told) {
        match what {
            Told::Changed(id) => {
                self.changes.send(id);
                if self.running.borrow().contains_key(&id) {
                    let master = self.clone();
                    self.handle.spawn(async move {
                        let found = master.store.find(id).await;
                        if let Ok(Some(build)) = found
                            && build.state != "running"
                        {
                            master.drop_running(id);
                        }
                    });
                }
            }
            Told::Connected => drop(self.changes.send(0)),
            // Other masters run them again.
            Told::Lost => {
                let ids: Vec<_> = self.running.borrow().keys().copied().collect();
                for id in ids {
                    self.drop_running(id);
                }
                self.changes.send(0);
            }
        }
    }

    /// Ends a build whose result is not wanted. The call is dropped with its task, and so is the
    /// process on the worker.
    fn drop_running(&self, id: i64) {
        let running = self.running.borrow_mut().remove(&id);
        if let Some(running) = running {
            running.cancel();
        }
    }

    /// Runs a build and writes down what it says. It is asked for more only when what it said is
    /// written: a build that prints faster than the disk takes it has to wait.
    async fn record(self: Rc<Self>, peer: Peer, job: Job) -> Result<Option<i32>, Failure> {
        let id = job.id;
        // It may have been cancelled when it was taken, but was not yet among those that run here.
        if let Ok(found) = self.store.find(id).await
            && found.is_none_or(|build| build.state != "running")
        {
            return Ok(None);
        }
        self.files.begin(id).await?;
        let mut said = peer.stream::<Said>("run", &job);
        while let Some(piece) = said.next().await {
            match piece {
                Ok(Said::Output(bytes)) => {
                    self.files.append(id, bytes).await?;
                    self.changes.send(id);
                    self.store.grown(id).await?;
                }
                Ok(Said::Artifact(name, bytes)) => self.files.store(id, name, bytes).await?,
                Ok(Said::Exit(code)) => return Ok(code),
                Err(error) => return Err(error.into()),
            }
        }
        Err("the worker did not say how it ended".into())
    }

    fn requeue(self: Rc<Self>, id: i64) {
        self.running.borrow_mut().remove(&id);
        let message = b"[the worker is lost]\n".to_vec();
        let noted = self.files.append(id, message);
        let handle = self.handle.clone();
        handle.clone().spawn(async move {
            // As long as the database has no room for it, the build is of no worker.
            while let Err(error) = self.store.requeue(id).await {
                tracing::error!(%error, id, "a build is not queued again yet");
                handle.sleep(AGAIN).await;
            }
            if let Err(error) = noted.await {
                tracing::warn!(%error, id, "a log is not written");
            }
            self.changes.send(id);
        });
    }

    /// Queues a build. Returns its number.
    pub fn add(
        self: &Rc<Self>,
        repository: Option<String>,
        script: String,
    ) -> Deferred<i64, store::Error> {
        let master = self.clone();
        self.see_through(async move {
            let id = master.store.add(repository, script).await?;
            master.changes.send(id);
            Ok(id)
        })
    }

    /// Cancels a build. Returns whether there was something to cancel.
    pub fn cancel(self: &Rc<Self>, id: i64) -> Deferred<bool, store::Error> {
        let master = self.clone();
        self.see_through(async move {
            let cancelled = master.store.cancel(id).await?;
            if cancelled {
                master.drop_running(id);
            }
            master.changes.send(id);
            Ok(cancelled)
        })
    }

    /// Does something to its end, also if nobody waits for it any more: if the database was
    /// changed, what follows from it must be done.
    fn see_through<T: 'static>(
        &self,
        work: impl Future<Output = Result<T, store::Error>> + 'static,
    ) -> Deferred<T, store::Error> {
        let (done, result) = Deferred::new();
        self.handle.spawn(async move { done.settle(work.await) });
        result
    }
}

/// Ends the connection with a worker that does not answer.
async fn heartbeat(handle: Handle, peer: Peer) {
    loop {
        handle.sleep(PING).await;
        let answer: Result<(), CallError> =
            peer.call("ping", &()).add_timeout(&handle, PATIENCE).await;
        if let Err(error) = answer {
            tracing::warn!(%error, peer = %peer.peer_address(), "a worker does not answer");
            return peer.abort();
        }
    }
}

/// A worker's entry in the list.
struct Place {
    master: Rc<Master>,
    name: String,
}

impl Place {
    fn new(master: &Rc<Master>, name: &str) -> Result<Place, Failure> {
        if !master.workers.borrow_mut().insert(name.to_owned()) {
            return Err("a worker with this certificate is here already".into());
        }
        tracing::info!(name, "a worker has come");
        master.changes.send(0);
        Ok(Place {
            master: master.clone(),
            name: name.to_owned(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        tracing::info!(name = self.name, "a worker has gone");
        self.master.workers.borrow_mut().remove(&self.name);
        self.master.changes.send(0);
    }
}

/// Puts a build back, unless it is disarmed.
type Lost = OnDrop<Box<dyn FnOnce()>>;

/// Calls a function when it is dropped, unless it was disarmed.
struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> OnDrop<F> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(function) = self.0.take() {
            function();
        }
    }
}
