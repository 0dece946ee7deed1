//! Time, repetition and long work for futures on the reactor's own thread. They need not be `Send`.
//!
//! [`Handle::spawn`](crate::Handle::spawn) makes a task of a future.

mod cooperate;
mod looping;
mod sleep;
mod timeout;

pub use looping::LoopingCall;
pub use sleep::{Elapsed, Sleep, Timeout};
