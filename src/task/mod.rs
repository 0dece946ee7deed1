//! Futures on the reactor's own thread. They do not need to be `Send`.

mod cooperate;
mod looping;
mod sleep;
mod timeout;

pub use looping::LoopingCall;
pub use sleep::{Elapsed, Sleep, Timeout};
