//! The conformance suite in a Qt application, with modal dialogs and windows that draw. The
//! environment says on which dispatcher (`QT_NO_GLIB=1`) and which platform
//! (`QT_QPA_PLATFORM=offscreen`).

use std::{
    cell::{Cell, RefCell},
    process::ExitCode,
    rc::Rc,
    time::Duration,
};

use entwined::{
    Handle,
    reactor::{LifeError, Stopped},
};
use entwined_conformance::{End, Harness};
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

    fn nest(&self, end: End) -> Result<(), Stopped> {
        if !self.handle.is_running() {
            return Err(Stopped);
        }
        let (dialog, done) = (Dialog::new(), Rc::new(Cell::new(false)));
        let (quit, told) = (Quit(dialog.clone()), done.clone());
        self.handle.spawn(async move {
            // Dropped at the end of the run at the latest.
            let _quit = quit;
            end.await;
            told.set(true);
        });
        dialog.exec();
        if done.get() { Ok(()) } else { Err(Stopped) }
    }
}

struct Quit(Rc<Dialog>);

impl Drop for Quit {
    fn drop(&mut self) {
        self.0.accept();
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
