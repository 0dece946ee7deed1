//! The conformance suite in an FLTK program, with modal dialogs. Needs a display.

use std::{cell::RefCell, process::ExitCode, rc::Rc, time::Duration};

use entwined::{
    Handle,
    reactor::{LifeError, WaitError},
};
use entwined_conformance::{End, Harness, nest_in_dialog};
use on_fltk::{Attachment, Dialog};

#[derive(Clone)]
struct Fltk {
    handle: Handle,
    attachment: Rc<RefCell<Option<Rc<Attachment>>>>,
}

impl Harness for Fltk {
    const NAME: &'static str = "fltk";

    fn new() -> Self {
        let attachment = on_fltk::attach_stopped().expect("a reactor");
        Fltk {
            handle: attachment.handle(),
            attachment: Rc::new(RefCell::new(Some(Rc::new(attachment)))),
        }
    }

    /// There is one loop.
    fn another(&self) -> Self {
        Self::new()
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
        on_fltk::iterate(wait);
    }

    fn host_call(&self, delay: Duration, callback: Box<dyn FnOnce()>) {
        on_fltk::call_in(delay, callback);
    }

    fn keep_busy(&self, work: Box<dyn FnMut() -> bool>) {
        on_fltk::keep_busy(work);
    }

    fn nest(&self, end: End) -> Result<(), WaitError> {
        let dialog = Dialog::new();
        let shown = dialog.clone();
        nest_in_dialog(&self.handle, end, || dialog.run(), move || shown.close())
    }
}

fn main() -> ExitCode {
    match entwined_conformance::run_all::<Fltk>() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
