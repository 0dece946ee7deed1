//! The state of a search to show, the same in a window and on a page. Knows nothing about threads
//! or clocks.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::archive::ENTRIES;
use crate::plot::thousands;

/// How many hits are shown.
pub const FIRST: usize = 20;

/// The number of characters shown before and after the match.
const AROUND: usize = 24;

/// An entry that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// The entry's heading.
    pub heading: String,
    /// The text around the match, with an ellipsis where something was left out.
    pub text: String,
}

impl Hit {
    /// `end` is where the match ends in `text`, and `length` is about how many characters it has.
    pub(super) fn new(heading: String, text: &str, end: usize, length: usize) -> Self {
        let (before, after) = text.split_at_checked(end).unwrap_or((text, ""));
        let skipped = before.chars().count().saturating_sub(length + AROUND);
        let start = before
            .char_indices()
            .nth(skipped)
            .map_or(0, |(index, _)| index);
        let end = after
            .char_indices()
            .nth(AROUND)
            .map_or(after.len(), |(index, _)| index);
        // Half a word is hard to read, so skip to the next word; keep a word that is longer than
        // the space available.
        let before = match before[start..].split_once(' ') {
            Some((_, words)) if start > 0 && words.chars().count() >= length => words,
            _ => &before[start..],
        };
        let kept = if end < after.len() {
            after[..end]
                .rsplit_once(' ')
                .map_or(&after[..end], |(words, _)| words)
        } else {
            after
        };
        let (left, right) = (
            if start > 0 { "…" } else { "" },
            if end < after.len() { "…" } else { "" },
        );
        Hit {
            heading,
            text: format!("{left}{before}{kept}{right}"),
        }
    }
}

/// The phase of a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The search was never started.
    #[default]
    Idle,
    /// The search waits for a thread.
    Waiting,
    /// The table is being written, which happens once.
    Filling,
    /// The search is running.
    Searching,
    /// The search has looked at everything.
    Done,
    /// The search was cancelled; the hits so far are kept.
    Cancelled,
    /// The search failed, or did not even begin.
    Failed,
}

/// The progress of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) stage: Stage,
    pub(super) entries: u32,
    pub(super) of: u32,
    pub(super) hits: u32,
    pub(super) first: Vec<Hit>,
    pub(super) time: Duration,
}

/// What the thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Filling,
    Searching,
}

impl Progress {
    pub(super) fn new(stage: Stage, entries: u32, of: u32, time: Duration) -> Self {
        Progress {
            stage,
            entries,
            of,
            hits: 0,
            first: Vec::new(),
            time,
        }
    }
}

/// A search as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pattern: String,
    phase: Phase,
    /// What the thread was doing at the last report.
    stage: Option<Stage>,
    entries: u32,
    of: u32,
    hits: u32,
    first: Vec<Hit>,
    time: Duration,
    error: String,
}

impl State {
    /// Creates the state of a search for `pattern` that waits for a thread.
    pub(super) fn waiting(pattern: String) -> Self {
        State {
            pattern,
            phase: Phase::Waiting,
            ..State::default()
        }
    }

    /// Creates the state of a search that did not even begin.
    pub(super) fn failed(pattern: &str, error: &dyn fmt::Display) -> Self {
        State {
            pattern: pattern.to_owned(),
            phase: Phase::Failed,
            error: error.to_string(),
            ..State::default()
        }
    }

    /// Records the thread's progress. Progress after the end changes nothing.
    pub(super) fn advance(&mut self, progress: Progress) {
        if !self.is_running() {
            return;
        }
        self.stage = Some(progress.stage);
        self.phase = match progress.stage {
            Stage::Filling => Phase::Filling,
            Stage::Searching => Phase::Searching,
        };
        (self.entries, self.of, self.hits) = (progress.entries, progress.of, progress.hits);
        (self.first, self.time) = (progress.first, progress.time);
    }

    /// Records the end.
    pub(super) fn end<E: fmt::Display>(&mut self, result: Result<Progress, E>) {
        if !self.is_running() {
            return;
        }
        match result {
            Ok(progress) => {
                self.advance(progress);
                self.phase = Phase::Done;
            }
            Err(error) => {
                self.phase = Phase::Failed;
                self.error = error.to_string();
            }
        }
    }

    /// Cancels the search; returns whether it was running.
    pub(super) fn cancel(&mut self) -> bool {
        let ran = self.is_running();
        if ran {
            self.phase = Phase::Cancelled;
        }
        ran
    }

    /// Returns the pattern.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Returns the phase.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns whether the search can be cancelled.
    pub fn is_running(&self) -> bool {
        matches!(
            self.phase,
            Phase::Waiting | Phase::Filling | Phase::Searching
        )
    }

    /// Returns how much of the current phase is done, 0 to 1.
    pub fn fraction(&self) -> f64 {
        if self.of == 0 {
            0.0
        } else {
            f64::from(self.entries) / f64::from(self.of)
        }
    }

    /// Returns how many entries were found so far.
    pub fn hits(&self) -> u32 {
        self.hits
    }

    /// Returns the first [`FIRST`] hits.
    pub fn first(&self) -> &[Hit] {
        &self.first
    }

    /// Returns what went wrong, for the user.
    pub fn error(&self) -> Option<&str> {
        (self.phase == Phase::Failed).then_some(&self.error)
    }

    /// Returns a line for the user that describes the state.
    pub fn summary(&self) -> String {
        let number = |number: u32| thousands(number.into());
        let (entries, of) = (number(self.entries), number(self.of));
        let hits = if self.hits == 1 {
            "1 hit".to_owned()
        } else {
            format!("{} hits", number(self.hits))
        };
        match self.phase {
            Phase::Idle => format!("{} entries, searched on a thread", number(ENTRIES)),
            Phase::Waiting => "Waiting for a thread…".to_owned(),
            Phase::Filling => format!("Writing the table: {entries} of {of} entries"),
            Phase::Searching => format!("{hits} in {entries} of {of} entries"),
            Phase::Done => format!(
                "{hits} in {of} entries  ·  {:.2} s",
                self.time.as_secs_f64()
            ),
            Phase::Cancelled if self.stage == Some(Stage::Searching) => {
                format!("Cancelled: {hits} in {entries} entries")
            }
            Phase::Cancelled => "Cancelled".to_owned(),
            Phase::Failed => "No result".to_owned(),
        }
    }

    /// Returns the whole state as one line of JSON, for a page.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Shown<'a> {
            pattern: &'a str,
            phase: Phase,
            fraction: f64,
            hits: u32,
            summary: String,
            error: Option<&'a str>,
            first: &'a [Hit],
        }
        let shown = Shown {
            pattern: &self.pattern,
            phase: self.phase,
            fraction: self.fraction(),
            hits: self.hits,
            summary: self.summary(),
            error: self.error(),
            first: &self.first,
        };
        serde_json::to_string(&shown).expect("plain data always serialises")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(stage: Stage, entries: u32, hits: u32) -> Progress {
        let first = vec![
            Hit {
                heading: "Skerry Light".to_owned(),
                text: "fog".to_owned()
            };
            hits.min(1) as usize
        ];
        Progress {
            stage,
            entries,
            of: 1_000,
            hits,
            first,
            time: Duration::from_millis(1_250),
        }
    }

    #[test]
    fn from_waiting_to_done() {
        let mut state = State::waiting("fog".to_owned());
        assert!(state.is_running() && state.fraction() == 0.0);
        state.advance(progress(Stage::Filling, 500, 0));
        assert_eq!((state.phase(), state.fraction()), (Phase::Filling, 0.5));
        assert_eq!(state.summary(), "Writing the table: 500 of 1,000 entries");
        state.advance(progress(Stage::Searching, 250, 1));
        assert_eq!(state.summary(), "1 hit in 250 of 1,000 entries");
        state.end(Ok::<_, String>(progress(Stage::Searching, 1_000, 7)));
        assert_eq!(
            (state.phase(), state.hits(), state.first().len()),
            (Phase::Done, 7, 1)
        );
        assert_eq!(state.summary(), "7 hits in 1,000 entries  ·  1.25 s");
        assert!(!state.is_running());
    }

    #[test]
    fn after_a_cancel_nothing_changes_and_what_was_found_stays() {
        let mut state = State::waiting("fog".to_owned());
        state.advance(progress(Stage::Searching, 250, 3));
        assert!(state.cancel());
        let cancelled = state.clone();
        state.advance(progress(Stage::Searching, 500, 9));
        state.end(Err("interrupted"));
        assert!(!state.cancel());
        assert_eq!(state, cancelled);
        assert_eq!(state.summary(), "Cancelled: 3 hits in 250 entries");
        assert!(!State::default().cancel());
    }

    #[test]
    fn an_error_is_for_the_user_and_for_the_page() {
        let mut state = State::waiting("fog".to_owned());
        state.end(Err("no such table"));
        assert_eq!(state.error(), Some("no such table"));
        assert!(state.to_json().contains(concat!(
            r#""phase":"failed","fraction":0.0,"hits":0,"#,
            r#""summary":"No result","error":"no such table""#
        )));
        assert_eq!(State::failed("", &"nothing").error(), Some("nothing"));
        assert_eq!(State::default().error(), None);
    }

    #[test]
    fn a_hit_shows_what_is_around_the_place() {
        let text = format!("{}FOG{}", "a".repeat(100), "é".repeat(100));
        let hit = Hit::new(String::new(), &text, 103, 3);
        assert_eq!(
            hit.text,
            format!("…{}FOG{}…", "a".repeat(24), "é".repeat(24))
        );
        assert_eq!(Hit::new(String::new(), "fog", 3, 3).text, "fog");
        let text =
            "The keeper of the northern light saw the fog lift before anybody else was awake.";
        let hit = Hit::new(String::new(), text, text.find("fog").unwrap() + 3, 3);
        assert_eq!(hit.text, "…northern light saw the fog lift before anybody…");
    }
}
