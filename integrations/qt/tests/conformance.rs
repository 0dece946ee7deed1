//! The conformance suite in a Qt application, with modal dialogs and windows that draw. The
//! environment says on which dispatcher (`QT_NO_GLIB=1`) and which platform
//! (`QT_QPA_PLATFORM=offscreen`).

use std::{cell::RefCell, process::ExitCode, rc::Rc, time::Duration};

use entwined::{
    Handle,
    reactor::{LifeError, WaitError},
};
use entwined_conformance::{End, Harness, nest_in_dialog};
use entwined_qt::{Attachment, entwined};
use qt_host::{Application, Dialog, Timers};

#[derive(Clone)]
struct Qt {
    timers: Rc<Timers>,
    handle: Handle,
    attachment: Rc<RefCell<Option<Rc<Attachment>>>>,
}

impl Qt {
    fn on(timers: Rc<Timers>) -> Self {
        let attachment = entwined_qt::attach_stopped().expect("a reactor");
        Qt {
            timers,
            handle: attachment.handle(),
            attachment: Rc::new(RefCell::new(Some(Rc::new(attachment)))),
        }
    }
}

impl Harness for Qt {
    const NAME: &'static str = "qt";

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
        qt_host::iterate(wait);
    }

    fn host_call(&self, delay: Duration, callback: Box<dyn FnOnce()>) {
        self.timers.once(delay, callback);
    }

    fn keep_busy(&self, work: Box<dyn FnMut() -> bool>) {
        self.timers.every(Duration::ZERO, work);
    }

    fn draw_frames(&self, draw: Box<dyn FnMut() -> bool>) {
        qt_host::draw(draw);
    }

    fn nest(&self, end: End) -> Result<(), WaitError> {
        let dialog = Dialog::new();
        let shown = dialog.clone();
        nest_in_dialog(&self.handle, end, || dialog.exec(), move || shown.accept())
    }
}

fn main() -> ExitCode {
    let application = Application::new(true);
    println!("Qt {}, {}", qt_host::version(), application.dispatcher());
    match entwined_conformance::run_all::<Qt>() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
