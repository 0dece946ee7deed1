//! The driver that a host calls, and the backends that need no other crate.

mod driver;
mod interleave;
mod selector;
mod standalone;
mod watcher;

pub use driver::Driver;
pub use interleave::{HostCall, Interleave};
pub use selector::Selector;
pub use standalone::{RunError, Standalone};
pub use watcher::Watcher;
