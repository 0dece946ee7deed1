//! Kinds of work.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A kind of work, for metrics and reports. The reactor has six labels; a layer above it adds its
/// own with [`Label::new`].
///
/// A label is a small number, so comparing and counting labels costs nothing.
///
/// ```
/// use entwined::reactor::Label;
///
/// let query = Label::new("database query");
/// assert_eq!(query, Label::new("database query"));
/// assert_eq!(query.name(), "database query");
/// assert_ne!(query, Label::CALL);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(u8);

impl Label {
    /// A call: posted by another thread, or scheduled for the next turn.
    pub const CALL: Label = Label(0);
    /// A timer.
    pub const TIMER: Label = Label(1);
    /// One poll of a task.
    pub const TASK: Label = Label(2);
    /// A callback of a connection's protocol.
    pub const CONNECTION: Label = Label(3);
    /// A step of a shutdown.
    pub const SHUTDOWN: Label = Label(4);
    /// Work of any kind beyond the first [`MAX`](Label::MAX).
    pub const OTHER: Label = Label(5);

    /// Maximum number of labels in a process. Further labels become [`OTHER`](Label::OTHER).
    pub const MAX: usize = 32;

    /// Returns the label with this name. The same name returns the same label everywhere in the
    /// process.
    ///
    /// This takes a lock and searches a list, so make a label once, for example when a server
    /// starts.
    pub fn new(name: &'static str) -> Self {
        let mut names = names();
        if let Some(index) = names.iter().position(|known| *known == name) {
            return Label(index as u8);
        }
        if names.len() == Label::MAX {
            return Label::OTHER;
        }
        names.push(name);
        Label(names.len() as u8 - 1)
    }

    /// The name of this label.
    pub fn name(self) -> &'static str {
        names()[self.index()]
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// All labels of this process, the reactor's own first.
    pub fn all() -> Vec<Label> {
        (0..names().len()).map(|index| Label(index as u8)).collect()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Label({:?})", self.name())
    }
}

/// The names of the labels, by number.
static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

fn names() -> MutexGuard<'static, Vec<&'static str>> {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if names.is_empty() {
        names.extend([
            "call",
            "timer",
            "task",
            "connection",
            "shutdown step",
            "other",
        ]);
    }
    names
}
