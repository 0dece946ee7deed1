//! A search that takes time: 200,000 entries of lighthouse logs, in SQLite, on a thread.
//!
//! ```text
//! Archive (the table, and the threads)
//!    |
//!    | search(Pattern)
//!    v
//! Running (a stream of States) --+--> the page's events
//!                                \--> Search --> the window's widgets
//! ```
//!
//! The table is in memory and is written by the first search. Dropping a [`Running`] cancels it:
//! the query is interrupted.

mod archive;
mod entries;
mod pattern;
mod running;
mod state;

use std::{
    cell::{Cell, Ref, RefCell},
    fmt,
    rc::Rc,
};

use entwined::{
    Handle,
    deferred::{Deferred, Interrupted},
};

pub use archive::{Archive, ENTRIES};
pub use pattern::{MAX_ERRORS, MAX_PATTERN, Pattern, PatternError};
pub use running::Running;
pub use state::{FIRST, Hit, Phase, State};

/// The search of a window: one at a time, and its state to show. Cheap to clone; clones share the
/// search.
#[derive(Clone)]
pub struct Search(Rc<Inner>);

struct Inner {
    handle: Handle,
    archive: Archive,
    state: RefCell<State>,
    version: Cell<u64>,
    task: RefCell<Option<Deferred<(), Interrupted>>>,
}

impl Search {
    /// Creates a search in `archive` that has not begun.
    pub fn new(handle: &Handle, archive: Archive) -> Self {
        Search(Rc::new(Inner {
            handle: handle.clone(),
            archive,
            state: RefCell::default(),
            version: Cell::new(0),
            task: RefCell::default(),
        }))
    }

    /// Searches for what the user typed. Cancels a search that is running. If `typed` is not valid,
    /// the [`State`] says why.
    pub fn start(&self, typed: &str) {
        self.stop();
        match typed.parse::<Pattern>() {
            Ok(pattern) => {
                let mut running = self.0.archive.search(pattern);
                self.show(running.state().clone());
                let search = self.clone();
                let task = self.0.handle.spawn(async move {
                    while let Some(state) = running.next().await {
                        search.show(state);
                    }
                });
                self.0.task.replace(Some(task));
            }
            Err(error) => self.show(State::failed(typed, &error)),
        }
    }

    /// Ends the running search, if any. What was found so far stays.
    pub fn cancel(&self) {
        self.stop();
        let mut state = self.0.state.borrow().clone();
        if state.cancel() {
            self.show(state);
        }
    }

    /// Returns the state to show. Do not hold it across calls to the other methods.
    pub fn state(&self) -> Ref<'_, State> {
        self.0.state.borrow()
    }

    /// Returns a number that changes whenever the state does.
    pub fn version(&self) -> u64 {
        self.0.version.get()
    }

    fn stop(&self) {
        let task = self.0.task.take();
        if let Some(task) = task {
            task.cancel();
        }
    }

    fn show(&self, state: State) {
        self.0.version.set(self.0.version.get() + 1);
        let before = self.0.state.replace(state);
        drop(before);
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search")
            .field("phase", &self.state().phase())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
