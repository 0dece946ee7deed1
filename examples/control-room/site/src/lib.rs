//! What the three example apps share, so that each app contains only its own way to host it.
//!
//! - [`Model`]: the state that a window shows and a page mirrors.
//! - [`page`]: that page, one document that fetches nothing from other sites.
//! - [`Options`] and [`Report`]: the command line in, one JSON line out.
//! - [`FrameRecorder`]: how evenly the window was drawn while the network was busy.
//! - [`canvas`] (feature `canvas`): the window's contents drawn in software, for hosts without
//!   widgets.
//!
//! - [`Network`]: the servers, the same for every host.
//! - [`search`]: work on a thread, shown in a window and on pages.
//!
//! Only [`Network`] and [`search`] know about a reactor, and nothing here knows about widgets. Time
//! is passed in as an argument.

#![forbid(unsafe_code)]

mod app;
mod args;
#[cfg(feature = "canvas")]
pub mod canvas;
mod frames;
mod history;
mod model;
mod network;
mod page;
pub mod plot;
mod png;
mod report;
pub mod search;
mod shelf;

pub use app::{main, no_display};
pub use args::{ArgsError, Options, Parsed};
pub use frames::{FrameRecorder, FrameSummary};
pub use history::{SAMPLE_INTERVAL, SAMPLES};
pub use model::{Change, Entry, Host, MAX_TEXT, Model, Progress, Snapshot, Subscription, Upload};
pub use network::{Ask, Facts, Network, Picture, Window};
pub use page::{PAGE_CONTENT_TYPE, page};
pub use png::Pixels;
pub use report::Report;
