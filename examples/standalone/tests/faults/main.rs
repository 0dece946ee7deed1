//! The app among failures: of the system calls, of its peers, of whoever started it; and its
//! search.

mod app;
mod descriptors;
mod floods;
mod idle;
mod messages;
mod search;
mod system_calls;
