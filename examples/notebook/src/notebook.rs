//! A notebook that is open: its cells, its kernel, and the pages that show it.

#[cfg(feature = "window")]
use std::cell::Ref;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io, mem,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use entwined::{Handle, broadcast::Broadcast, deferred::DeferredLock};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    document::{Content, Document, Output},
    kernel::{Happened, Kernel, Kinds},
    order::Event,
};

/// What the output of a cell may have, in bytes. The rest is left out, and the cell goes on.
const MAX_OUTPUT: usize = 8 * 1024 * 1024;
/// Text of an output; a browser slows down with more.
const MAX_TEXT: usize = 512 * 1024;
const MAX_CELLS: usize = 1_000;
/// How many news a page may be behind before it gets everything anew, and their bytes.
const KEPT: (usize, usize) = (2_000, 4 * 1024 * 1024);
/// How long changes are collected before they are written.
const SAVE: Duration = Duration::from_secs(1);

/// What a page asks for. Cells are known by numbers that are never used again.
#[derive(Clone, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Wish {
    /// Adds a cell behind another, or at the end.
    Add {
        after: Option<u64>,
    },
    Remove {
        id: u64,
    },
    Edit {
        id: u64,
        source: String,
    },
    Run {
        id: u64,
        source: String,
    },
    Interrupt,
    Restart,
    /// Ends the kernel.
    Close,
}

/// Something that has happened in a notebook.
pub struct News {
    /// The cell in which it has.
    #[cfg_attr(not(feature = "window"), expect(dead_code))]
    pub cell: Option<u64>,
    /// The same for pages, in JSON.
    pub text: String,
}

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Idle,
    Waiting,
    Running,
}

pub struct CellOf {
    pub id: u64,
    pub content: Content,
    pub state: State,
    /// Bytes of its outputs, also of those that are left out.
    size: usize,
}

/// A notebook at one moment.
struct Whole {
    cells: Vec<(u64, Content, State)>,
    kernel: &'static str,
    kind: String,
}

impl Whole {
    fn into_json(self) -> serde_json::Value {
        let cells = self.cells.into_iter().map(|(id, content, state)| {
            json!({
                "id": id, "source": content.source, "count": content.count,
                "outputs": content.outputs, "state": state,
            })
        });
        let cells: Vec<_> = cells.collect();
        json!({"type": "whole", "cells": cells, "kernel": self.kernel, "kind": self.kind})
    }
}

struct Running {
    kernel: Kernel,
    ready: bool,
}

pub struct Notebook {
    handle: Handle,
    kinds: Kinds,
    kind: String,
    path: PathBuf,
    /// What else is in the file.
    rest: Map<String, Value>,
    cells: RefCell<Vec<CellOf>>,
    next_id: Cell<u64>,
    count: Cell<u32>,
    kernel: RefCell<Option<Running>>,
    /// The number of the newest kernel. What an older one says is not listened to.
    generation: Cell<u32>,
    /// Cells that wait for their turn; the first one runs.
    queue: RefCell<VecDeque<u64>>,
    pub news: Broadcast<News>,
    changed: Cell<bool>,
    /// A task is there that will write it.
    saving: Cell<bool>,
    writing: DeferredLock,
}

impl Notebook {
    pub fn new(handle: &Handle, kinds: &Kinds, path: PathBuf, document: Document) -> Rc<Notebook> {
        let notebook = Notebook {
            handle: handle.clone(),
            kinds: kinds.clone(),
            kind: document.kernel,
            path,
            rest: document.rest,
            cells: RefCell::default(),
            next_id: Cell::new(1),
            count: Cell::new(0),
            kernel: RefCell::default(),
            generation: Cell::new(0),
            queue: RefCell::default(),
            news: Broadcast::with_max_bytes(KEPT.0, KEPT.1, |news: &News| news.text.len()),
            changed: Cell::new(false),
            saving: Cell::new(false),
            writing: DeferredLock::new(),
        };
        for content in document.cells {
            notebook.insert(None, content);
        }
        if notebook.cells.borrow().is_empty() {
            notebook.insert(None, Content::default());
        }
        Rc::new(notebook)
    }

    /// The process of the kernel.
    pub fn kernel_id(&self) -> Option<u32> {
        let kernel = self.kernel.borrow();
        kernel.as_ref().map(|running| running.kernel.id())
    }

    fn insert(&self, after: Option<u64>, content: Content) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let size = content.outputs.iter().map(Output::len).sum();
        let mut cells = self.cells.borrow_mut();
        let behind = cells.iter().position(|cell| Some(cell.id) == after);
        let at = behind.map_or(cells.len(), |behind| behind + 1);
        let state = State::Idle;
        cells.insert(
            at,
            CellOf {
                id,
                content,
                state,
                size,
            },
        );
        id
    }

    /// The cells, in order, to look at.
    #[cfg(feature = "window")]
    pub fn cells(&self) -> Ref<'_, [CellOf]> {
        Ref::map(self.cells.borrow(), Vec::as_slice)
    }

    /// Everything as it is when this is called, for a page that has nothing yet. That may be
    /// megabytes, so a thread writes it.
    pub fn whole(&self) -> impl Future<Output = io::Result<String>> + use<> {
        let cells = self.cells.borrow();
        let cells = cells.iter().map(|it| (it.id, it.content.clone(), it.state));
        let (cells, kernel, kind) = (cells.collect(), self.kernel_state(), self.kind.clone());
        let whole = Whole {
            cells,
            kernel,
            kind,
        };
        self.handle
            .defer_to_thread(move |_| Ok(whole.into_json().to_string()))
    }

    pub fn kernel_state(&self) -> &'static str {
        match &*self.kernel.borrow() {
            None => "none",
            Some(Running { ready: false, .. }) => "starts",
            Some(_) if self.queue.borrow().is_empty() => "idle",
            Some(_) => "busy",
        }
    }

    fn tell(&self, news: serde_json::Value) {
        let (cell, text) = (news["id"].as_u64(), news.to_string());
        self.news.send(News { cell, text });
    }

    fn tell_kernel(&self) {
        self.tell(json!({"type": "kernel", "state": self.kernel_state()}));
    }

    pub fn act(self: &Rc<Self>, wish: Wish) {
        match wish {
            Wish::Add { after } if self.cells.borrow().len() < MAX_CELLS => {
                let id = self.insert(after, Content::default());
                self.tell(json!({"type": "added", "id": id, "after": after}));
            }
            Wish::Add { .. } => {}
            Wish::Remove { id } => {
                // One that runs must come to its end first.
                if self.queue.borrow().contains(&id) {
                    return;
                }
                self.cells.borrow_mut().retain(|cell| cell.id != id);
                self.tell(json!({"type": "removed", "id": id}));
            }
            Wish::Edit { id, source } => self.edit(id, source),
            Wish::Run { id, source } => {
                self.edit(id, source);
                self.enqueue(id);
            }
            Wish::Interrupt => self.interrupt(),
            Wish::Restart => {
                self.end_kernel("the kernel was restarted");
                self.start();
            }
            Wish::Close => self.end_kernel("the kernel was closed"),
        }
        self.save_soon();
    }

    fn with<R>(&self, id: u64, change: impl FnOnce(&mut CellOf) -> R) -> Option<R> {
        let mut cells = self.cells.borrow_mut();
        cells.iter_mut().find(|cell| cell.id == id).map(change)
    }

    fn edit(&self, id: u64, source: String) {
        let changed = self.with(id, |cell| {
            let changed = cell.content.source != source;
            cell.content.source = source.clone();
            changed
        });
        if changed == Some(true) {
            self.tell(json!({"type": "source", "id": id, "source": source}));
        }
    }

    fn set_state(&self, id: u64, state: State) {
        let count = self.with(id, |cell| {
            cell.state = state;
            cell.content.count
        });
        self.tell(json!({"type": "state", "id": id, "state": state, "count": count.flatten()}));
    }

    fn enqueue(self: &Rc<Self>, id: u64) {
        let known = self.with(id, |_| ()).is_some();
        if !known || self.queue.borrow().contains(&id) {
            return;
        }
        self.queue.borrow_mut().push_back(id);
        self.set_state(id, State::Waiting);
        if self.kernel.borrow().is_none() {
            self.start();
        } else {
            self.next();
        }
    }

    fn start(self: &Rc<Self>) {
        let generation = self.generation.get() + 1;
        self.generation.set(generation);
        let notebook = Rc::downgrade(self);
        let tell = move |happened| {
            let Some(notebook) = notebook.upgrade() else {
                return;
            };
            if notebook.generation.get() == generation {
                notebook.heard(happened);
            }
        };
        match Kernel::start(&self.handle, &self.kinds, &self.kind, tell) {
            Ok(kernel) => {
                let ready = false;
                self.kernel.replace(Some(Running { kernel, ready }));
                self.tell_kernel();
            }
            Err(error) => self.end_kernel(&format!("the kernel cannot start: {error}")),
        }
    }

    /// Ends the kernel, and the cells that wait for it.
    fn end_kernel(&self, why: &str) {
        self.generation.set(self.generation.get() + 1);
        drop(self.kernel.take());
        let queue = mem::take(&mut *self.queue.borrow_mut());
        if let Some(first) = queue.front() {
            let text = why.to_owned();
            self.add_output(*first, Output::Error { text });
        }
        for id in queue {
            self.set_state(id, State::Idle);
        }
        self.tell_kernel();
    }

    /// Interrupts the cell that runs; those that wait do not run.
    fn interrupt(&self) {
        let waiting = {
            let mut queue = self.queue.borrow_mut();
            let rest = 1.min(queue.len());
            queue.split_off(rest)
        };
        for id in waiting {
            self.set_state(id, State::Idle);
        }
        let runs = self
            .cells
            .borrow()
            .iter()
            .any(|cell| cell.state == State::Running);
        if let (true, Some(running)) = (runs, &*self.kernel.borrow()) {
            running.kernel.interrupt();
        }
    }

    /// Runs the first cell that waits, if none runs.
    fn next(&self) {
        let Some(id) = self.queue.borrow().front().copied() else {
            return self.tell_kernel();
        };
        let is_ready = self.kernel.borrow().as_ref().is_some_and(|it| it.ready);
        let waits = self.with(id, |cell| cell.state == State::Waiting);
        if !is_ready || waits != Some(true) {
            return;
        }
        let count = self.count.get() + 1;
        self.count.set(count);
        let source = self.with(id, |cell| {
            (cell.content.count, cell.size) = (Some(count), 0);
            cell.content.outputs.clear();
            cell.content.kept = None;
            cell.content.source.clone()
        });
        self.set_state(id, State::Running);
        if let (Some(running), Some(source)) = (&*self.kernel.borrow(), source) {
            running.kernel.run(count, &source);
        }
        self.tell_kernel();
    }

    fn heard(self: &Rc<Self>, happened: Happened) {
        let first = self.queue.borrow().front().copied();
        match happened {
            Happened::Event(Event::Ready) => {
                if let Some(running) = &mut *self.kernel.borrow_mut() {
                    running.ready = true;
                }
                self.next();
            }
            Happened::Event(Event::Done) => {
                if let Some(id) = self.queue.borrow_mut().pop_front() {
                    self.set_state(id, State::Idle);
                }
                self.next();
            }
            Happened::Ended(why) => self.end_kernel(&format!("the kernel has ended: {why}")),
            Happened::Output(text) if text.is_empty() => return,
            other => {
                let output = match other {
                    Happened::Output(text) => Output::Text { text },
                    Happened::Event(Event::Value { text }) => Output::Value { text },
                    Happened::Event(Event::Error { text }) => Output::Error { text },
                    Happened::Event(Event::Picture { png }) => Output::Picture { png },
                    _ => return,
                };
                // What comes while nothing runs is of something that a cell has started.
                if !first.is_some_and(|id| self.add_output(id, output)) {
                    return;
                }
            }
        }
        self.save_soon();
    }

    /// Returns whether there was room for it.
    fn add_output(&self, id: u64, mut output: Output) -> bool {
        let added = self.with(id, |cell| {
            let limit = match &output {
                Output::Picture { .. } => MAX_OUTPUT,
                // Why it has failed is shown, also if there is no room for more output.
                Output::Error { .. } => 2 * MAX_OUTPUT,
                _ => MAX_TEXT,
            };
            let (before, after) = (cell.size, cell.size + output.len());
            if before > limit {
                return None;
            }
            if after > limit {
                output = Output::Error {
                    text: "There is too much output; the rest is left out.\n".into(),
                };
            }
            cell.size = after;
            cell.content.kept = None;
            match (cell.content.outputs.last_mut(), &output) {
                (Some(Output::Text { text }), Output::Text { text: more }) => text.push_str(more),
                _ => cell.content.outputs.push(output.clone()),
            }
            Some(output)
        });
        let added = added.flatten();
        let is_added = added.is_some();
        if let Some(output) = added {
            self.tell(json!({"type": "output", "id": id, "output": output}));
        }
        is_added
    }

    fn document(&self) -> Document {
        let cells = self.cells.borrow();
        Document {
            kernel: self.kind.clone(),
            cells: cells.iter().map(|cell| cell.content.clone()).collect(),
            rest: self.rest.clone(),
        }
    }

    /// Writes the notebook in a second, with what is changed until then.
    fn save_soon(self: &Rc<Self>) {
        self.changed.set(true);
        if self.saving.replace(true) {
            return;
        }
        let notebook = self.clone();
        self.handle.spawn(async move {
            while notebook.changed.get() {
                notebook.handle.sleep(SAVE).await;
                if let Err(error) = notebook.save().await {
                    tracing::error!(path = %notebook.path.display(), %error, "not saved");
                    let why = format!("The notebook could not be saved: {error}");
                    notebook.tell(json!({"type": "trouble", "why": why}));
                }
            }
            notebook.saving.set(false);
        });
    }

    /// Whether something is not on the disk yet.
    pub fn is_to_be_saved(&self) -> bool {
        self.saving.get()
    }

    /// Writes the notebook if it was changed since it was written.
    pub async fn save(&self) -> io::Result<()> {
        // Only one at a time, so that an older state never replaces a newer one.
        let _lock = self.writing.acquire().await.map_err(io::Error::other)?;
        if !self.changed.take() {
            return Ok(());
        }
        let (document, path) = (self.document(), self.path.clone());
        let written = self.handle.defer_to_thread(move |_| document.write(&path));
        let result: io::Result<()> = written.await;
        if result.is_err() {
            self.changed.set(true);
        }
        result
    }
}
