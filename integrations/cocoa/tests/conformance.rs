//! The conformance suite in a Cocoa application on GNUstep, with modal panels. Needs a display.

use std::{cell::RefCell, process::ExitCode, rc::Rc, time::Duration};

use cocoa_host::{Panel, Timers};
use entwined_cocoa::{
    Attachment,
    entwined::{
        Handle,
        reactor::{LifeError, WaitError},
    },
};
use entwined_conformance::{End, Harness, nest_in_dialog};

#[derive(Clone)]
struct Cocoa {
    timers: Rc<Timers>,
    handle: Handle,
    attachment: Rc<RefCell<Option<Rc<Attachment>>>>,
}

impl Cocoa {
    fn on(timers: Rc<Timers>) -> Self {
        let attachment = entwined_cocoa::attach_stopped().expect("a reactor");
        Cocoa {
            timers,
            handle: attachment.handle(),
            attachment: Rc::new(RefCell::new(Some(Rc::new(attachment)))),
        }
    }
}

impl Harness for Cocoa {
    const NAME: &'static str = "cocoa";

    fn new() -> Self {
        Self::on(Timers::new())
    }

    fn another(&self) -> Self {
        Self::on(self.timers.clone())
    }

    fn handle(&self) -> Handle {
        self.handle.clone()
    }

    fn attach(&self) -> Result<(), LifeError> {
        let attachment = self.attachment.borrow().clone();
        attachment.ok_or(LifeError::Closed)?.start()
    }

    fn detach(&self) {
        let attachment = self.attachment.take();
        drop(attachment);
    }

    fn iterate(&self, wait: Option<Duration>) {
        cocoa_host::iterate(wait);
    }

    fn host_call(&self, delay: Duration, callback: Box<dyn FnOnce()>) {
        self.timers.once(delay, callback);
    }

    fn nest(&self, end: End) -> Result<(), WaitError> {
        let panel = Panel::new();
        let shown = panel.clone();
        nest_in_dialog(&self.handle, end, || panel.run(), move || shown.stop())
    }
}

fn main() -> ExitCode {
    cocoa_host::application();
    match entwined_conformance::run_all::<Cocoa>() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
