//! The state that the window shows and the page mirrors.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound::{Excluded, Included};
use std::rc::{Rc, Weak};
use std::time::Instant;

use serde::Serialize;

use crate::frames::{FrameRecorder, FrameSummary};
use crate::history::History;

/// The longest text that [`Model::set_text`] keeps, in characters.
pub const MAX_TEXT: usize = 200;

/// The state of one app. Cheap to clone; clones share the state. It is `!Send`: widget callbacks
/// and request handlers share it in one thread.
///
/// Setters call the callbacks registered with [`on_change`](Self::on_change), after the change and
/// with nothing borrowed. A callback may read, change the model again, subscribe, and unsubscribe
/// itself or others. A setter that changes nothing calls no callback, which ends the cycle between
/// a text entry and the text that it shows.
///
/// ```
/// use site::{Change, Host, Model};
///
/// let model = Model::new(Host::Standalone);
/// let kept = model.on_change(|model, change| {
///     if change == Change::Count {
///         println!("now {}", model.count());
///     }
/// });
/// assert_eq!(model.add(), 1);
/// drop(kept); // and nothing is told any more
/// ```
#[derive(Clone)]
pub struct Model(Rc<Inner>);

/// What hosts the app: which loop runs it, and so what a page can expect of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Host {
    /// A plain process: no window, no picture.
    Standalone,
    /// A GTK 4 window.
    Gtk,
    /// A winit window.
    Winit,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// [`Model::count`].
    Count,
    /// [`Model::text`].
    Text,
    /// The rate and its history, after a sample was taken.
    Rate,
    /// [`Model::uploads`] or [`Model::files`].
    Files,
    /// Nothing has changed yet: the first request after a quiet minute is about to be counted. Code
    /// that sleeps instead of ticking should now call [`Model::tick`] and continue from there.
    Awake,
}

/// Everything that a page shows, as it is sent to the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The counter.
    pub count: u64,
    /// The text entry.
    pub text: String,
    /// Requests since the start.
    pub requests: u64,
    /// Requests per second in the last sample.
    pub rps: u32,
    /// Requests per second over the last minute, one sample every half second, oldest first.
    pub history: Vec<u32>,
    /// Frames per second that the window drew, in the last sample.
    pub fps: u32,
    /// Uploads in progress.
    pub uploads: Vec<Progress>,
    /// Files that have arrived, the newest last.
    pub files: Vec<Entry>,
    /// What hosts the app.
    pub host: Host,
}

/// An upload in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Its name.
    pub name: String,
    /// Bytes received so far.
    pub done: u64,
    /// Bytes in total; 0 if unknown.
    pub total: u64,
}

/// A file that has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its name, which is unique.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// An upload in progress, as its sender sees it. Dropping it unfinished cancels the upload.
#[must_use = "dropping an upload cancels it"]
pub struct Upload {
    model: Model,
    id: u64,
    name: String,
}

/// Keeps a callback subscribed. Dropping it unsubscribes, even from inside that callback.
#[must_use = "dropping a subscription ends it at once"]
pub struct Subscription {
    model: Weak<Inner>,
    id: u64,
}

type Callback = Rc<dyn Fn(&Model, Change)>;

struct Inner {
    host: Host,
    count: Cell<u64>,
    text: RefCell<String>,
    requests: Cell<u64>,
    /// Set while ticking is not needed.
    asleep: Cell<bool>,
    history: RefCell<History>,
    frames: RefCell<FrameRecorder>,
    frames_seen: Cell<(u64, Option<Instant>)>,
    fps: Cell<u32>,
    uploads: RefCell<BTreeMap<u64, Progress>>,
    files: RefCell<Vec<Entry>>,
    /// Keyed by number, so that callbacks can be added or removed while the others are being
    /// called.
    callbacks: RefCell<BTreeMap<u64, Callback>>,
    last_id: Cell<u64>,
}

impl Model {
    /// Creates an empty state.
    pub fn new(host: Host) -> Self {
        Self(Rc::new(Inner {
            host,
            count: Cell::new(0),
            text: RefCell::default(),
            requests: Cell::new(0),
            asleep: Cell::new(true),
            history: RefCell::new(History::new()),
            frames: RefCell::default(),
            frames_seen: Cell::new((0, None)),
            fps: Cell::new(0),
            uploads: RefCell::default(),
            files: RefCell::default(),
            callbacks: RefCell::default(),
            last_id: Cell::new(0),
        }))
    }

    /// Calls `callback` on every change, until the subscription is dropped.
    ///
    /// The callback receives the model, so it does not need to own it (a clone inside would keep
    /// the model alive forever). When called from inside a callback, the new callback sees the next
    /// change, not the current one.
    pub fn on_change(&self, callback: impl Fn(&Model, Change) + 'static) -> Subscription {
        let id = self.0.last_id.get() + 1;
        self.0.last_id.set(id);
        self.0.callbacks.borrow_mut().insert(id, Rc::new(callback));
        Subscription {
            model: Rc::downgrade(&self.0),
            id,
        }
    }

    /// Returns what hosts the app.
    pub fn host(&self) -> Host {
        self.0.host
    }

    /// Returns the counter.
    pub fn count(&self) -> u64 {
        self.0.count.get()
    }

    /// Adds one to the counter and returns its new value (a callback may have added more
    /// meanwhile).
    pub fn add(&self) -> u64 {
        let count = self.0.count.get().wrapping_add(1);
        self.0.count.set(count);
        self.tell(Change::Count);
        count
    }

    /// Returns the text entry's text.
    pub fn text(&self) -> String {
        self.0.text.borrow().clone()
    }

    /// Returns whether the text is `text`, without a copy.
    pub fn text_is(&self, text: &str) -> bool {
        *self.0.text.borrow() == text
    }

    /// Sets the text; returns whether that changed it.
    ///
    /// The text is one line and may come from anywhere. Control characters are dropped (a toolkit
    /// may not even accept a NUL), and the text is truncated to [`MAX_TEXT`] characters.
    pub fn set_text(&self, text: &str) -> bool {
        let kept = text.chars().filter(|c| !c.is_control()).take(MAX_TEXT);
        let kept: String = kept.collect();
        if self.text_is(&kept) {
            return false;
        }
        self.0.text.replace(kept);
        self.tell(Change::Text);
        true
    }

    /// Counts a request. Almost free, and reports nothing except [`Change::Awake`] to a sleeper: at
    /// 100,000 a second, nobody needs a report of each.
    pub fn request(&self) {
        if self.0.asleep.get() {
            self.0.asleep.set(false);
            self.tell(Change::Awake);
        }
        self.0.requests.set(self.0.requests.get() + 1);
    }

    /// Returns the number of requests since the start.
    pub fn requests(&self) -> u64 {
        self.0.requests.get()
    }

    /// Samples the rates if a sample is due, so call it as often as convenient, such as once per
    /// frame. Returns `false` if nothing will change with time until [`Change::Awake`]; a program
    /// with nothing to draw can sleep until then.
    pub fn tick(&self, now: Instant) -> bool {
        let requests = self.0.requests.get();
        let sampled = self.0.history.borrow_mut().sample(now, requests);
        if sampled {
            self.sample_frames(now);
            if !self.0.asleep.get() {
                self.0
                    .asleep
                    .set(self.0.history.borrow().is_quiet(requests));
                self.tell(Change::Rate);
            }
        }
        !self.0.asleep.get()
    }

    /// Returns the requests per second in the last sample.
    pub fn rps(&self) -> u32 {
        self.0.history.borrow().rate()
    }

    /// Writes the requests per second over the last minute into `into`, oldest first. Reuse the
    /// buffer, because plots ask in each frame.
    pub fn history(&self, into: &mut Vec<u32>) {
        into.clear();
        into.extend(self.0.history.borrow().rates());
    }

    /// Returns how far the next sample has progressed, 0 to 1: the offset of a plot that scrolls
    /// smoothly.
    pub fn phase(&self, now: Instant) -> f64 {
        self.0.history.borrow().phase(now)
    }

    /// Counts a frame that was really painted at `now`.
    pub fn frame(&self, now: Instant) {
        self.0.frames.borrow_mut().record(now);
    }

    /// Records that the window is not drawn for a while, so that the gap does not count as a stall.
    pub fn pause_frames(&self) {
        self.0.frames.borrow_mut().pause();
    }

    /// Returns how evenly frames were painted since the start.
    pub fn frames(&self) -> FrameSummary {
        self.0.frames.borrow().summary()
    }

    /// Returns the frames per second in the last sample.
    pub fn fps(&self) -> u32 {
        self.0.fps.get()
    }

    /// Returns the uploads in progress.
    pub fn uploads(&self) -> Vec<Progress> {
        self.0.uploads.borrow().values().cloned().collect()
    }

    /// Returns the files that have arrived, the newest last.
    pub fn files(&self) -> Vec<Entry> {
        self.0.files.borrow().clone()
    }

    /// Returns the number of files, and the last of them.
    pub fn last_file(&self) -> (usize, Option<Entry>) {
        let files = self.0.files.borrow();
        (files.len(), files.last().cloned())
    }

    /// Records that the upload of a file of `total` bytes (0: unknown) has begun. If its name is
    /// already taken, the file gets another one.
    pub fn begin_upload(&self, name: &str, total: u64) -> Upload {
        let taken = |name: &str| {
            let on_its_way = self
                .0
                .uploads
                .borrow()
                .values()
                .any(|upload| upload.name == name);
            on_its_way || self.0.files.borrow().iter().any(|file| file.name == name)
        };
        let (stem, extension) = match name.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
            _ => (name, String::new()),
        };
        let others = (2..).map(|number| format!("{stem} ({number}){extension}"));
        let name = std::iter::once(name.to_owned())
            .chain(others)
            .find(|name| !taken(name))
            .expect("there is always a free name");
        let id = self.0.last_id.get() + 1;
        self.0.last_id.set(id);
        self.0.uploads.borrow_mut().insert(
            id,
            Progress {
                name: name.clone(),
                done: 0,
                total,
            },
        );
        self.tell(Change::Files);
        Upload {
            model: self.clone(),
            id,
            name,
        }
    }

    /// Removes a file from the list; returns whether there was one of this name.
    pub fn remove_file(&self, name: &str) -> bool {
        let mut files = self.0.files.borrow_mut();
        let Some(place) = files.iter().position(|file| file.name == name) else {
            return false;
        };
        files.remove(place);
        drop(files);
        self.tell(Change::Files);
        true
    }

    /// Returns everything that a page shows.
    pub fn snapshot(&self) -> Snapshot {
        let mut history = Vec::new();
        self.history(&mut history);
        Snapshot {
            count: self.count(),
            text: self.text(),
            requests: self.requests(),
            rps: self.rps(),
            history,
            fps: self.fps(),
            uploads: self.uploads(),
            files: self.files(),
            host: self.0.host,
        }
    }

    fn sample_frames(&self, now: Instant) {
        let frames = self.0.frames.borrow().frames();
        if let (seen, Some(last)) = self.0.frames_seen.replace((frames, Some(now))) {
            let elapsed = now.saturating_duration_since(last).as_secs_f64();
            if elapsed > 0.0 {
                self.0
                    .fps
                    .set(((frames - seen) as f64 / elapsed).round() as u32);
            }
        }
    }

    fn tell(&self, change: Change) {
        let newest = self.0.last_id.get();
        let mut told = 0;
        while told < newest {
            let next = {
                let callbacks = self.0.callbacks.borrow();
                let mut rest = callbacks.range((Excluded(told), Included(newest)));
                rest.next().map(|(id, callback)| (*id, Rc::clone(callback)))
            };
            let Some((id, callback)) = next else { break };
            told = id;
            callback(self, change);
        }
    }
}

impl Upload {
    /// Returns the name that the file got.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Records that `done` bytes have arrived.
    pub fn progress(&self, done: u64) {
        if let Some(upload) = self.model.0.uploads.borrow_mut().get_mut(&self.id) {
            upload.done = done;
        }
        self.model.tell(Change::Files);
    }

    /// Records that the whole file has arrived. Returns its name.
    pub fn done(self, size: u64) -> String {
        let name = self.name.clone();
        self.model.0.files.borrow_mut().push(Entry {
            name: name.clone(),
            size,
        });
        name
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.model.0.uploads.borrow_mut().remove(&self.id);
        self.model.tell(Change::Files);
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("host", &self.0.host)
            .field("count", &self.count())
            .field("text", &self.text())
            .field("requests", &self.requests())
            .finish_non_exhaustive()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(model) = self.model.upgrade() {
            // End the borrow before the drop: the callback's captures may own a subscription too.
            let gone = model.callbacks.borrow_mut().remove(&self.id);
            drop(gone);
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{SAMPLE_INTERVAL, SAMPLES};

    type Heard = Rc<RefCell<Vec<Change>>>;

    fn listen(model: &Model) -> (Heard, Subscription) {
        let heard = Heard::default();
        let into = Rc::clone(&heard);
        let kept = model.on_change(move |_, change| into.borrow_mut().push(change));
        (heard, kept)
    }

    #[test]
    fn every_clone_is_the_same_state() {
        let model = Model::new(Host::Gtk);
        let other = model.clone();
        assert_eq!(model.add(), 1);
        assert_eq!(other.count(), 1);
    }

    #[test]
    fn a_dropped_subscription_hears_nothing() {
        let model = Model::new(Host::Standalone);
        let (heard, kept) = listen(&model);
        model.add();
        drop(kept);
        model.add();
        assert_eq!(*heard.borrow(), [Change::Count]);
    }

    #[test]
    fn a_subscription_may_outlive_the_model() {
        let model = Model::new(Host::Standalone);
        let (_heard, kept) = listen(&model);
        drop(model);
        drop(kept);
    }

    #[test]
    fn setting_the_same_text_tells_nobody() {
        let model = Model::new(Host::Standalone);
        let (heard, _kept) = listen(&model);
        assert!(model.set_text("ivy"));
        assert!(!model.set_text("ivy"));
        assert!(!model.set_text("ivy\n"), "the same once it is one line");
        assert_eq!(*heard.borrow(), [Change::Text]);
    }

    #[test]
    fn two_entries_bound_to_each_other_come_to_rest() {
        let model = Model::new(Host::Standalone);
        let _upper = model.on_change(|model, _| {
            model.set_text(&model.text().to_uppercase());
        });
        let _same = model.on_change(|model, _| {
            model.set_text(&model.text());
        });
        model.set_text("hop");
        assert_eq!(model.text(), "HOP");
    }

    #[test]
    fn text_is_one_bounded_line() {
        let model = Model::new(Host::Standalone);
        model.set_text("a\0b\r\nc\td");
        assert_eq!(model.text(), "abcd");
        model.set_text(&"ü".repeat(MAX_TEXT + 50));
        assert_eq!(model.text().chars().count(), MAX_TEXT);
    }

    #[test]
    fn a_callback_may_change_the_model_again() {
        let model = Model::new(Host::Standalone);
        let _kept = model.on_change(|model, change| {
            if change == Change::Count && model.count() < 5 {
                model.add();
            }
        });
        assert_eq!(model.add(), 1);
        assert_eq!(model.count(), 5);
    }

    #[test]
    fn a_callback_may_end_its_own_subscription_and_anothers() {
        let model = Model::new(Host::Standalone);
        let kept = Rc::new(RefCell::new(Vec::new()));
        let calls = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let (all, calls) = (Rc::clone(&kept), Rc::clone(&calls));
            let subscription = model.on_change(move |_, _| {
                calls.set(calls.get() + 1);
                let ended = std::mem::take(&mut *all.borrow_mut());
                drop::<Vec<Subscription>>(ended);
            });
            kept.borrow_mut().push(subscription);
        }
        model.add();
        assert_eq!(calls.get(), 1, "the first callback ended all subscriptions");
        model.add();
        assert_eq!(calls.get(), 1);
    }

    #[test]
    fn a_callback_subscribed_in_a_callback_hears_the_next_change() {
        let model = Model::new(Host::Standalone);
        let later = Rc::new(RefCell::new(None));
        let into = Rc::clone(&later);
        let _kept = model.on_change(move |model, _| {
            if into.borrow().is_none() {
                let heard = listen(model);
                into.replace(Some(heard));
            }
        });
        model.add();
        assert!(later.borrow().as_ref().unwrap().0.borrow().is_empty());
        model.add();
        let later = later.borrow();
        assert_eq!(*later.as_ref().unwrap().0.borrow(), [Change::Count]);
    }

    #[test]
    fn a_quiet_model_sleeps_and_its_first_request_wakes_it() {
        let model = Model::new(Host::Standalone);
        let mut now = Instant::now();
        assert!(!model.tick(now), "nothing to tick for at the start");
        let (heard, _kept) = listen(&model);
        model.request();
        model.request();
        assert_eq!(*heard.borrow(), [Change::Awake]);
        now += SAMPLE_INTERVAL;
        assert!(model.tick(now));
        assert_eq!(model.rps(), 4);
        for _ in 1..SAMPLES {
            now += SAMPLE_INTERVAL;
            assert!(model.tick(now));
        }
        now += SAMPLE_INTERVAL;
        assert!(!model.tick(now), "the minute is over");
        heard.borrow_mut().clear();
        model.request();
        assert_eq!(*heard.borrow(), [Change::Awake]);
    }

    #[test]
    fn a_request_after_a_long_sleep_is_not_smeared_over_it() {
        let model = Model::new(Host::Standalone);
        let start = Instant::now();
        let late = start + SAMPLE_INTERVAL * 500;
        model.tick(start);
        let _kept = model.on_change(move |model, change| {
            if change == Change::Awake {
                model.tick(late);
            }
        });
        model.request();
        model.tick(late + SAMPLE_INTERVAL);
        assert_eq!(model.rps(), 2);
    }

    #[test]
    fn frames_give_a_rate_and_a_summary() {
        let model = Model::new(Host::Winit);
        let start = Instant::now();
        model.tick(start);
        model.tick(start + SAMPLE_INTERVAL);
        for frame in 0..30_u32 {
            model.frame(start + SAMPLE_INTERVAL + SAMPLE_INTERVAL * frame / 30);
        }
        model.tick(start + SAMPLE_INTERVAL * 2);
        assert_eq!(model.fps(), 60);
        assert_eq!(model.frames().frames, 30);
    }

    #[test]
    fn files_come_have_names_of_their_own_and_go() {
        let model = Model::new(Host::Gtk);
        let (heard, _kept) = listen(&model);
        let (one, other) = (
            model.begin_upload("a.txt", 10),
            model.begin_upload("a.txt", 0),
        );
        assert_eq!((one.name(), other.name()), ("a.txt", "a (2).txt"));
        one.progress(5);
        assert_eq!(
            model.uploads()[0],
            Progress {
                name: "a.txt".to_owned(),
                done: 5,
                total: 10
            }
        );
        assert_eq!(one.done(10), "a.txt");
        drop(other);
        assert_eq!(
            (model.uploads().len(), model.files()),
            (
                0,
                vec![Entry {
                    name: "a.txt".to_owned(),
                    size: 10
                }]
            )
        );
        assert_eq!(model.begin_upload("a.txt", 1).name(), "a (2).txt");
        assert!(model.remove_file("a.txt") && !model.remove_file("a.txt"));
        assert!(heard.borrow().iter().all(|change| *change == Change::Files));
    }

    #[test]
    fn a_snapshot_is_what_the_page_reads() {
        let model = Model::new(Host::Gtk);
        model.add();
        model.set_text("say \"hi\"");
        let json = serde_json::to_value(model.snapshot()).unwrap();
        assert_eq!(json["count"], 1);
        assert_eq!(json["text"], "say \"hi\"");
        assert_eq!(json["host"], "gtk");
        assert_eq!(json["rps"], 0);
        assert_eq!(json["requests"], 0);
        assert_eq!(json["history"].as_array().unwrap().len(), SAMPLES);
    }
}
