//! A GLib host and its reactor, as the conformance suite needs them: here and in the tests of the GTK backend.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use entwined::{
    Handle,
    reactor::{LifeError, RunError, Stopped},
    testing::End,
};
use entwined_glib::{Attachment, Options};
use glib::{ControlFlow, MainContext, MainLoop, Priority, thread_guard::ThreadGuard};

#[derive(Clone)]
pub struct GlibHost {
    context: MainContext,
    handle: Handle,
    attachment: Rc<RefCell<Option<Rc<Attachment>>>>,
}

impl GlibHost {
    pub fn new(context: &MainContext) -> Self {
        let attachment = Options::new().attach_stopped(context).expect("a reactor");
        let handle = attachment.handle();
        GlibHost { context: context.clone(), handle, attachment: Rc::new(RefCell::new(Some(Rc::new(attachment)))) }
    }

    pub fn another(&self) -> Self {
        Self::new(&self.context)
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    fn attachment(&self) -> Result<Rc<Attachment>, LifeError> {
        self.attachment.borrow().clone().ok_or(LifeError::Closed)
    }

    pub fn attach(&self) -> Result<(), LifeError> {
        self.attachment()?.start()
    }

    pub fn detach(&self) {
        let attachment = self.attachment.take();
        drop(attachment);
    }

    pub fn iterate(&self, wait: Option<Duration>) {
        match wait {
            None => drop(self.context.iteration(true)),
            Some(Duration::ZERO) => drop(self.context.iteration(false)),
            Some(wait) => {
                let alarm = self.every(wait, Priority::LOW, Box::new(|| false));
                self.context.iteration(true);
                alarm.destroy();
            }
        }
    }

    pub fn run(&self) -> Result<(), LifeError> {
        if self.handle.is_running() {
            return Err(LifeError::AlreadyRunning);
        }
        match self.attachment()?.run() {
            Err(RunError::Life(error)) => Err(error),
            result => {
                result.expect("the selector works");
                Ok(())
            }
        }
    }

    pub fn host_call(&self, delay: Duration, callback: Box<dyn FnOnce()>) {
        let mut callback = Some(callback);
        let call = move || {
            callback.take().expect("it is removed after one call")();
            false
        };
        self.every(delay, Priority::DEFAULT, Box::new(call));
    }

    /// By a source that is always ready, above the priority of the reactor and of GDK's redraw.
    pub fn keep_busy(&self, work: Box<dyn FnMut() -> bool>) {
        self.every(Duration::ZERO, Priority::DEFAULT, work);
    }

    fn every(&self, interval: Duration, priority: Priority, work: Box<dyn FnMut() -> bool>) -> glib::Source {
        let work = ThreadGuard::new(RefCell::new(work));
        let source = glib::timeout_source_new(interval, None, priority, move || {
            if (work.get_ref().borrow_mut())() { ControlFlow::Continue } else { ControlFlow::Break }
        });
        source.attach(Some(&self.context));
        source
    }

    /// Runs a main loop inside a callback until `end` is ready; what `open` gives is there meanwhile.
    pub fn nest<W>(&self, end: End, open: impl FnOnce() -> W) -> Result<(), Stopped> {
        if !self.handle.is_running() {
            return Err(Stopped);
        }
        let inner = MainLoop::new(Some(&self.context), false);
        let (quit, done) = (Quit(inner.clone()), Rc::new(Cell::new(false)));
        let told = done.clone();
        let task = self.handle.spawn(async move {
            // Dropped at the end of the run at the latest.
            let _quit = quit;
            end.await;
            told.set(true);
        });
        task.detach();
        let _window = open();
        inner.run();
        if done.get() { Ok(()) } else { Err(Stopped) }
    }
}

struct Quit(MainLoop);

impl Drop for Quit {
    fn drop(&mut self) {
        self.0.quit();
    }
}

/// The methods of a harness around a [`GlibHost`] that are the same in both.
macro_rules! forward {
    () => {
        fn handle(&self) -> entwined::Handle {
            self.0.handle()
        }

        fn attach(&self) -> Result<(), entwined::reactor::LifeError> {
            self.0.attach()
        }

        fn detach(&self) {
            self.0.detach();
        }

        fn iterate(&self, wait: Option<std::time::Duration>) {
            self.0.iterate(wait);
        }

        fn run(&self) -> Result<(), entwined::reactor::LifeError> {
            self.0.run()
        }

        fn host_call(&self, delay: std::time::Duration, callback: Box<dyn FnOnce()>) {
            self.0.host_call(delay, callback);
        }

        fn keep_busy(&self, work: Box<dyn FnMut() -> bool>) {
            self.0.keep_busy(work);
        }
    };
}

pub(crate) use forward;
