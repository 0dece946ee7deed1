//! Observing a reactor: kinds of work, times, metrics, reports.

mod histogram;
mod label;
mod meter;
mod metrics;
mod moment;
mod processor;
mod report;

pub use histogram::Histogram;
pub use label::Label;
pub(crate) use meter::Meter;
pub use metrics::{
    Census, ConnectionInfo, FrameMetrics, Metrics, Share, Stall, StallPlace, Stalls,
};
pub(crate) use moment::Moment;
pub(crate) use report::ObserverFn;
pub use report::{Origin, Report};
