//! The conformance suite on a third-party backend: plain poll(2), written only against the public
//! interface.
#![cfg(target_os = "linux")]

use std::time::Duration;

use entwined::{Handle, reactor::LifeError};
use entwined_conformance::{ByHand, OwnLoop};

mod poll_loop;

use poll_loop::PollLoop;

impl OwnLoop for PollLoop {
    const NAME: &'static str = "poll(2)";

    fn new() -> Self {
        PollLoop::new().expect("an eventfd")
    }

    fn handle(&self) -> Handle {
        PollLoop::handle(self)
    }

    fn turn(&self, wait: Option<Duration>) -> Result<(), LifeError> {
        PollLoop::turn(self, wait)
    }

    fn run(&self) -> Result<(), LifeError> {
        PollLoop::run(self)
    }
}

entwined_conformance::conformance!(ByHand<PollLoop>);
