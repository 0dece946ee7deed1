//! An app's report about its run.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::frames::FrameSummary;
use crate::model::Model;

/// The line that `--report` prints, for a program to read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Requests answered.
    pub requests: u64,
    /// Frames painted; 0 without a window.
    pub frames: u64,
    /// Gaps between frames in milliseconds; all 0 without a window.
    pub frame_gap_ms: FrameSummary,
    /// Turns of the reactor.
    pub turns: u64,
    /// The longest time that one callback blocked the thread, in milliseconds.
    pub longest_callback_ms: f64,
}

impl Report {
    /// Creates the report from `model` and the reactor's own figures.
    pub fn new(model: &Model, turns: u64, longest_callback: Duration) -> Self {
        let frame_gap_ms = model.frames();
        Self {
            requests: model.requests(),
            frames: frame_gap_ms.frames,
            frame_gap_ms,
            turns,
            longest_callback_ms: (longest_callback.as_secs_f64() * 1e6).round() / 1e3,
        }
    }

    /// Returns the report as JSON, in one line without a line ending.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and fixed names always serialise")
    }

    /// Prints the line on standard output. Returns an error if the reader has gone away, instead of
    /// panicking; the caller decides what to do.
    pub fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", self.to_json())?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Host;

    #[test]
    fn one_line_with_every_figure() {
        let model = Model::new(Host::Standalone);
        model.request();
        let report = Report::new(&model, 7, Duration::from_micros(1_234));
        assert_eq!(
            report.to_json(),
            concat!(
                r#"{"requests":1,"frames":0,"frame_gap_ms":{"p50":0.0,"p99":0.0,"max":0.0},"#,
                r#""turns":7,"longest_callback_ms":1.234}"#
            )
        );
    }
}
