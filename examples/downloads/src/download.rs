//! One download: what it does, and what can be done with it.

use std::{
    cell::{Cell, RefCell},
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use entwined::{
    Handle,
    deferred::{Deferred, DeferredSemaphore, Interrupted, Resolver},
    service::Backoff,
    thread::{Config, ThreadPool},
};
use entwined_http::client::Client;
use serde::{Serialize, Serializer};

use crate::{
    name,
    transfer::{self, Ended, Means, Part},
};

/// How many run at a time; the others wait.
const MAX_AT_ONCE: usize = 4;
/// How many times in a row a server is asked again without a new byte.
const MAX_TRIES: u32 = 5;
/// How often a window hears of progress: more often nobody can see.
const SHOWN: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", content = "text", rename_all = "lowercase")]
pub enum State {
    /// Others are before it, or the server is asked again soon, and why.
    Waiting(String),
    Running,
    Paused,
    /// Where the file is.
    #[serde(serialize_with = "as_text")]
    Done(PathBuf),
    Failed(String),
}

/// A folder may have any name.
fn as_text<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

impl State {
    /// Whether it may go on.
    pub fn is_stopped(&self) -> bool {
        matches!(self, State::Paused | State::Failed(_))
    }

    pub fn is_active(&self) -> bool {
        matches!(self, State::Running | State::Waiting(_))
    }
}

/// What all downloads share.
pub struct Downloads {
    means: Means,
    folder: PathBuf,
    turns: DeferredSemaphore,
    next_id: Cell<u32>,
    all: RefCell<Vec<Rc<Download>>>,
    /// Hears of each change, and whether it is more than progress.
    changed: RefCell<Option<Rc<Changed>>>,
}

type Changed = dyn Fn(&Rc<Download>, bool);

pub struct Download {
    pub id: u32,
    pub url: String,
    state: RefCell<State>,
    part: RefCell<Part>,
    /// Bytes a second, as it was lately.
    speed: Cell<f64>,
    /// The last look at the clock for the speed, and the bytes that had come.
    measured: Cell<(Instant, u64)>,
    stop: RefCell<Option<Resolver<(), Interrupted>>>,
    /// It is to go on as soon as it has stopped.
    again: Cell<bool>,
    /// It is to be forgotten as soon as it has stopped.
    removed: Cell<bool>,
}

impl Download {
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub fn received(&self) -> u64 {
        self.part.borrow().received
    }

    pub fn total(&self) -> Option<u64> {
        self.part.borrow().total
    }

    pub fn speed(&self) -> f64 {
        self.speed.get()
    }

    /// What the file will be called.
    pub fn name(&self) -> String {
        let part = self.part.borrow();
        match &part.name {
            Some(name) => name::clean(name),
            None => name::clean(&name::in_url(&self.url)),
        }
    }

    fn measure(&self, received: u64) {
        let (before, bytes) = self.measured.get();
        let seconds = before.elapsed().as_secs_f64();
        if seconds >= 0.5 {
            let now = received.saturating_sub(bytes) as f64 / seconds;
            let lately = self.speed.get();
            let speed = if lately == 0.0 {
                now
            } else {
                0.6 * now + 0.4 * lately
            };
            self.speed.set(speed);
            self.measured.set((Instant::now(), received));
        }
    }
}

impl Downloads {
    pub fn new(handle: &Handle, folder: PathBuf) -> Rc<Downloads> {
        let client = Client::builder(handle)
            .decompress(false)
            .body_timeout(transfer::SILENCE)
            .build();
        // The window is drawn first.
        let config = Config {
            nice: 19,
            ..Config::default()
        };
        Rc::new(Downloads {
            means: Means {
                client,
                threads: ThreadPool::new("files", config),
                handle: handle.clone(),
            },
            folder,
            turns: DeferredSemaphore::new(MAX_AT_ONCE),
            next_id: Cell::new(1),
            all: RefCell::default(),
            changed: RefCell::default(),
        })
    }

    /// Sets what hears of each change.
    pub fn on_change(&self, changed: impl Fn(&Rc<Download>, bool) + 'static) {
        self.changed.replace(Some(Rc::new(changed)));
    }

    fn tell(&self, download: &Rc<Download>, is_new: bool) {
        let changed = self.changed.borrow().clone();
        if let Some(changed) = changed {
            changed(download, is_new);
        }
    }

    pub fn all(&self) -> Vec<Rc<Download>> {
        self.all.borrow().clone()
    }

    pub fn find(&self, id: u32) -> Option<Rc<Download>> {
        let all = self.all.borrow();
        all.iter().find(|download| download.id == id).cloned()
    }

    /// Begins to download what is at a URL.
    pub fn add(self: &Rc<Self>, url: &str) -> Result<Rc<Download>, String> {
        let url = url.trim();
        if !url.starts_with("http://") && !url.starts_with("https://") {
            let url = name::without_password(url);
            return Err(format!("{url:?} does not begin with http:// or https://"));
        }
        if url.contains(char::is_control) {
            return Err("a URL has no control characters".into());
        }
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let download = Rc::new(Download {
            id,
            url: url.to_owned(),
            state: RefCell::new(State::Paused),
            part: RefCell::default(),
            speed: Cell::new(0.0),
            measured: Cell::new((Instant::now(), 0)),
            stop: RefCell::default(),
            again: Cell::default(),
            removed: Cell::new(false),
        });
        self.all.borrow_mut().push(download.clone());
        self.resume(&download);
        Ok(download)
    }

    fn set(&self, download: &Rc<Download>, state: State) {
        download.state.replace(state);
        self.tell(download, true);
    }

    fn part_file(&self, download: &Download) -> PathBuf {
        let process = std::process::id();
        self.folder.join(format!(".{process}-{}.part", download.id))
    }

    /// Stops; what has come stays.
    pub fn pause(&self, download: &Rc<Download>) {
        download.again.set(false);
        if let Some(stop) = download.stop.take() {
            stop.resolve(());
        }
    }

    /// Goes on with what was paused or has failed.
    pub fn resume(self: &Rc<Self>, download: &Rc<Download>) {
        if !download.state().is_stopped() || download.removed.get() {
            // What is stopping writes down what has come first.
            let stops = download.state().is_active() && download.stop.borrow().is_none();
            download.again.set(stops);
            return;
        }
        let (stop, stopped) = Deferred::new();
        download.stop.replace(Some(stop));
        self.set(download, State::Waiting("Others are before it".into()));
        let (downloads, download) = (self.clone(), download.clone());
        self.means.handle.spawn(async move {
            let ended = downloads.run(&download, stopped).await;
            download.stop.take();
            download.speed.set(0.0);
            match ended {
                _ if download.removed.get() => downloads.forget(&download),
                Ok(path) => downloads.set(&download, State::Done(path)),
                Err(Ended::Stopped) => {
                    downloads.set(&download, State::Paused);
                    if download.again.take() {
                        downloads.resume(&download);
                    }
                }
                Err(Ended::Lost(why) | Ended::Failed(why)) => {
                    let url = name::without_password(&download.url);
                    tracing::warn!(url, why, "not downloaded");
                    downloads.set(&download, State::Failed(why));
                }
            }
        });
    }

    /// Stops, and forgets it. A file that is complete stays.
    pub fn remove(self: &Rc<Self>, download: &Rc<Download>) {
        download.removed.set(true);
        self.all
            .borrow_mut()
            .retain(|other| other.id != download.id);
        match download.state().is_active() {
            true => self.pause(download),
            false => self.forget(download),
        }
        self.tell(download, true);
    }

    pub fn is_removed(&self, download: &Download) -> bool {
        download.removed.get()
    }

    fn forget(&self, download: &Download) {
        let file = self.part_file(download);
        let removed = self.means.threads.defer(&self.means.handle, move |_| {
            // There may be none yet.
            let _ = fs::remove_file(file);
            Ok::<_, Interrupted>(())
        });
        self.means.handle.spawn(removed);
    }

    async fn run(
        self: &Rc<Self>,
        download: &Rc<Download>,
        mut stopped: Deferred<(), Interrupted>,
    ) -> Result<PathBuf, Ended> {
        let turn = self.turns.acquire();
        let turn = turn.map_err(|_| Ended::Failed("too many are waiting".into()))?;
        let _turn = match futures_util::future::select(turn, &mut stopped).await {
            futures_util::future::Either::Left((turn, _)) => turn,
            futures_util::future::Either::Right(_) => return Err(Ended::Stopped),
        };
        let file = self.part_file(download);
        let mut backoff = Backoff::default();
        let mut tries = 0;
        // A server may begin anew again and again.
        let mut most = download.received();
        loop {
            let mut part = download.part.borrow().clone();
            let before = part.received;
            download.measured.set((Instant::now(), before));
            self.set(download, State::Running);
            let shown = Cell::new(Instant::now());
            let progress = |part: &Part| {
                download.part.replace(part.clone());
                download.measure(part.received);
                if shown.get().elapsed() >= SHOWN {
                    shown.set(Instant::now());
                    self.tell(download, false);
                }
            };
            let url = &download.url;
            let fetched =
                transfer::fetch(&self.means, url, &file, &mut part, &mut stopped, progress);
            let ended = fetched.await;
            let came = part.received > most;
            most = most.max(part.received);
            download.part.replace(part);
            let Err(ended) = ended else { break };
            let Ended::Lost(why) = ended else {
                return Err(ended);
            };
            tries = if came { 1 } else { tries + 1 };
            if tries > MAX_TRIES {
                return Err(Ended::Lost(why));
            }
            if came {
                backoff.reset();
            }
            self.set(download, State::Waiting(why));
            let wait = self.means.handle.sleep(backoff.next(0.5));
            let waited = futures_util::future::select(wait, &mut stopped).await;
            if let futures_util::future::Either::Right(_) = waited {
                return Err(Ended::Stopped);
            }
        }
        let (folder, name) = (self.folder.clone(), download.name());
        let settled = self.means.threads.defer(&self.means.handle, move |_| {
            name::settle(&file, &folder, &name)
        });
        let settled: std::io::Result<PathBuf> = settled.await;
        settled.map_err(|error| Ended::Failed(error.to_string()))
    }

    /// Stops everything, and removes what is not complete.
    pub fn end(&self) {
        for download in self.all() {
            download.removed.set(true);
            let _ = fs::remove_file(self.part_file(&download));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use super::*;

    #[test]
    fn a_file_in_any_folder_can_be_told_of() {
        let path = Path::new(OsStr::from_bytes(b"/\xff/a")).to_owned();
        let text = serde_json::to_string(&State::Done(path)).expect("JSON");
        assert_eq!(text, "{\"state\":\"done\",\"text\":\"/\u{fffd}/a\"}");
    }
}
