//! The app among failures: of the system calls, of its peers, of whoever started it.

mod app;
mod descriptors;
mod idle;
mod messages;
mod system_calls;
