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

/// The state of one app. Cheap to clone; every clone is the same state. `!Send`, as everything that
/// a widget's callback and a request's handler share in one thread may be.
///
/// Setters tell everyone who asked with [`on_change`](Self::on_change), after the change and with
/// nothing borrowed: a callback may read, change the model again, subscribe, and unsubscribe itself
/// or others. A setter that changes nothing tells nobody, which is what ends the circle of a text
/// entry that sets the text that sets the entry.
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

/// What hosts the app: which loop carries it, and so what a page may expect of it.
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
    /// Nothing yet: the first request after a quiet minute is about to be counted, so whoever
    /// sleeps instead of ticking should call [`Model::tick`] now and go on from there.
    Awake,
}

/// Everything that a page shows, as it is sent to one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The counter.
    pub count: u64,
    /// The text entry.
    pub text: String,
    /// Requests since the start.
    pub requests: u64,
    /// Requests a second, in the last sample.
    pub rps: u32,
    /// Requests a second over the last minute, a sample each half second, oldest first.
    pub history: Vec<u32>,
    /// Frames a second that the window drew, in the last sample.
    pub fps: u32,
    /// Files that are on their way.
    pub uploads: Vec<Progress>,
    /// Files that are there, the newest last.
    pub files: Vec<Entry>,
    /// What hosts the app.
    pub host: Host,
}

/// A file that is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Its name.
    pub name: String,
    /// Bytes that have come.
    pub done: u64,
    /// Bytes that are to come in all; 0 when nobody knows.
    pub total: u64,
}

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its name, which no other one has.
    pub name: String,
    /// Its bytes.
    pub size: u64,
}

/// A file on its way, seen from who brings it. Dropping it unfinished gives it up.
#[must_use = "dropping an upload gives it up"]
pub struct Upload {
    model: Model,
    id: u64,
    name: String,
}

/// Keeps a callback subscribed; dropping it unsubscribes, also from inside that callback.
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
    /// Set while nobody needs to tick.
    asleep: Cell<bool>,
    history: RefCell<History>,
    frames: RefCell<FrameRecorder>,
    frames_seen: Cell<(u64, Option<Instant>)>,
    fps: Cell<u32>,
    uploads: RefCell<BTreeMap<u64, Progress>>,
    files: RefCell<Vec<Entry>>,
    /// By number, so that one can leave or join while the others are being told.
    callbacks: RefCell<BTreeMap<u64, Callback>>,
    last_id: Cell<u64>,
}

impl Model {
    /// An empty state.
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

    /// Has `callback` told of every change, until the subscription is dropped.
    ///
    /// It is given the model so that it needs not hold it (a clone inside would keep it alive for
    /// ever). Called from inside a callback: the new one hears of the next change, not of this one.
    pub fn on_change(&self, callback: impl Fn(&Model, Change) + 'static) -> Subscription {
        let id = self.0.last_id.get() + 1;
        self.0.last_id.set(id);
        self.0.callbacks.borrow_mut().insert(id, Rc::new(callback));
        Subscription {
            model: Rc::downgrade(&self.0),
            id,
        }
    }

    /// What hosts the app.
    pub fn host(&self) -> Host {
        self.0.host
    }

    /// The counter.
    pub fn count(&self) -> u64 {
        self.0.count.get()
    }

    /// Adds one to the counter; gives its new value (a callback may have added more meanwhile).
    pub fn add(&self) -> u64 {
        let count = self.0.count.get().wrapping_add(1);
        self.0.count.set(count);
        self.tell(Change::Count);
        count
    }

    /// The text entry.
    pub fn text(&self) -> String {
        self.0.text.borrow().clone()
    }

    /// Whether the text is `text`, without a copy.
    pub fn text_is(&self, text: &str) -> bool {
        *self.0.text.borrow() == text
    }

    /// Sets the text; says whether that changed it.
    ///
    /// It is one line: control characters are dropped (a toolkit may not even take a NUL), and what
    /// is longer than [`MAX_TEXT`] characters is cut there, since it may come from anywhere.
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

    /// Counts a request. As good as free, and tells nobody but the one who sleeps
    /// ([`Change::Awake`]): at 100,000 a second nobody wants to hear of each.
    pub fn request(&self) {
        if self.0.asleep.get() {
            self.0.asleep.set(false);
            self.tell(Change::Awake);
        }
        self.0.requests.set(self.0.requests.get() + 1);
    }

    /// Requests since the start.
    pub fn requests(&self) -> u64 {
        self.0.requests.get()
    }

    /// Samples the rates when a sample is due, so it may be called as often as convenient, such as
    /// once a frame. `false`: nothing will change with time until [`Change::Awake`], so that a
    /// program with nothing to draw can sleep until then.
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

    /// Requests a second, in the last sample.
    pub fn rps(&self) -> u32 {
        self.0.history.borrow().rate()
    }

    /// Requests a second over the last minute, oldest first, into `into`: a buffer to keep, since
    /// plots ask each frame.
    pub fn history(&self, into: &mut Vec<u32>) {
        into.clear();
        into.extend(self.0.history.borrow().rates());
    }

    /// How far the next sample is on its way, 0 to 1: what a plot that scrolls smoothly is off by.
    pub fn phase(&self, now: Instant) -> f64 {
        self.0.history.borrow().phase(now)
    }

    /// Counts a frame that was really painted at `now`.
    pub fn frame(&self, now: Instant) {
        self.0.frames.borrow_mut().record(now);
    }

    /// Says that the window is not being drawn for a while, which is no stall.
    pub fn pause_frames(&self) {
        self.0.frames.borrow_mut().pause();
    }

    /// How evenly frames were painted since the start.
    pub fn frames(&self) -> FrameSummary {
        self.0.frames.borrow().summary()
    }

    /// Frames a second, in the last sample.
    pub fn fps(&self) -> u32 {
        self.0.fps.get()
    }

    /// Files that are on their way.
    pub fn uploads(&self) -> Vec<Progress> {
        self.0.uploads.borrow().values().cloned().collect()
    }

    /// Files that are there, the newest last.
    pub fn files(&self) -> Vec<Entry> {
        self.0.files.borrow().clone()
    }

    /// How many files there are, and the last of them.
    pub fn last_file(&self) -> (usize, Option<Entry>) {
        let files = self.0.files.borrow();
        (files.len(), files.last().cloned())
    }

    /// Says that a file of `total` bytes (0: unknown) is on its way. If there is one of its name
    /// already, it gets another.
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
            .expect("there are endless ones");
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

    /// Forgets a file; says whether there was one of this name.
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

    /// Everything that a page shows.
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
    /// The name that it has got.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// So many bytes have come.
    pub fn progress(&self, done: u64) {
        if let Some(upload) = self.model.0.uploads.borrow_mut().get_mut(&self.id) {
            upload.done = done;
        }
        self.model.tell(Change::Files);
    }

    /// All of it has come. Gives its name.
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
            // Out of the borrow before it is dropped: what it holds may own a subscription too.
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
        assert_eq!(calls.get(), 1, "the first ended them all");
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
