#![doc = include_str!("../README.md")]

mod backend;
mod behaviours;
mod bridge;
mod by_hand;
mod calls;
mod carrier;
mod connecting;
#[cfg(unix)]
mod connecting_unix;
mod connections;
mod dialog;
mod endings;
mod harness;
mod identity;
mod leftovers;
mod life;
mod list;
mod macros;
mod panics;
mod readiness;
#[cfg(unix)]
mod readiness_unix;
mod reentrancy;
mod rig;
mod run;
mod seam;
mod sharing;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod sockets;
mod streams;
mod sys;
mod table;
mod threads;
mod timers;

pub use by_hand::{ByHand, OwnLoop};
pub use dialog::nest_in_dialog;
pub use harness::{End, Harness};
pub use list::{Entry, list};
pub use panics::{keep_panic, resume_panic};
pub use run::{check, run_all, verdict};
pub use table::table_of;
