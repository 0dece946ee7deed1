//! How the app handles failures of system calls, of peers, and of the user who started it; and its
//! search.

mod app;
mod descriptors;
mod floods;
mod idle;
mod messages;
mod search;
mod system_calls;
