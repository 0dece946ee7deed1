//! A GLib host and its reactor for the conformance suite, both here and in the tests of the GTK
//! backend.

use std::{
    cell::{Cell, RefCell},
    marker::PhantomData,
    rc::Rc,
    time::Duration,
};

use entwined::{
    Handle,
    reactor::{LifeError, RunError, WaitError},
};
use entwined_conformance::{End, Harness};
use entwined_glib::{Attachment, Config};
use glib::{ControlFlow, MainContext, MainLoop, Priority, Source, thread_guard::ThreadGuard};

/// The kind of host.
pub trait Kind: 'static {
    const NAME: &'static str;

    /// Returns the context for a new host.
    fn context() -> MainContext;

    /// What is open while a callback runs a nested loop.
    type Dialog;

    fn open_dialog() -> Self::Dialog;

    /// Calls `draw` for each frame until it returns false.
    fn draw_frames(host: &GlibHost<Self>, draw: Box<dyn FnMut() -> bool>)
    where
        Self: Sized;
}

pub struct GlibHost<K> {
    context: MainContext,
    handle: Handle,
    attachment: Rc<RefCell<Option<Rc<Attachment>>>>,
    kind: PhantomData<K>,
}

impl<K> Clone for GlibHost<K> {
    fn clone(&self) -> Self {
        let GlibHost {
            context,
            handle,
            attachment,
            kind,
        } = self;
        GlibHost {
            context: context.clone(),
            handle: handle.clone(),
            attachment: attachment.clone(),
            kind: *kind,
        }
    }
}

impl<K: Kind> GlibHost<K> {
    fn on(context: MainContext) -> Self {
        let attachment = Config::new().attach_stopped(&context).expect("a reactor");
        let handle = attachment.handle();
        let attachment = Rc::new(RefCell::new(Some(Rc::new(attachment))));
        GlibHost {
            context,
            handle,
            attachment,
            kind: PhantomData,
        }
    }

    fn attachment(&self) -> Result<Rc<Attachment>, LifeError> {
        self.attachment.borrow().clone().ok_or(LifeError::Closed)
    }

    /// Adds a timer to the host.
    pub fn every(
        &self,
        interval: Duration,
        priority: Priority,
        work: Box<dyn FnMut() -> bool>,
    ) -> Source {
        let work = ThreadGuard::new(RefCell::new(work));
        let source = glib::timeout_source_new(interval, None, priority, move || {
            if (work.get_ref().borrow_mut())() {
                ControlFlow::Continue
            } else {
                ControlFlow::Break
            }
        });
        source.attach(Some(&self.context));
        source
    }
}

impl<K: Kind> Harness for GlibHost<K> {
    const NAME: &'static str = K::NAME;

    fn new() -> Self {
        Self::on(K::context())
    }

    fn another(&self) -> Self {
        Self::on(self.context.clone())
    }

    fn handle(&self) -> Handle {
        self.handle.clone()
    }

    fn attach(&self) -> Result<(), LifeError> {
        self.attachment()?.start()
    }

    fn detach(&self) {
        let attachment = self.attachment.take();
        drop(attachment);
    }

    fn iterate(&self, wait: Option<Duration>) {
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

    fn run(&self) -> Result<(), LifeError> {
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

    fn host_call(&self, delay: Duration, callback: Box<dyn FnOnce()>) {
        let mut callback = Some(callback);
        let call = move || {
            callback.take().expect("it is removed after one call")();
            false
        };
        self.every(delay, Priority::DEFAULT, Box::new(call));
    }

    /// Uses a source that is always ready, above the priority of the reactor and of GDK's redraw.
    fn keep_busy(&self, work: Box<dyn FnMut() -> bool>) {
        self.every(Duration::ZERO, Priority::DEFAULT, work);
    }

    fn draw_frames(&self, draw: Box<dyn FnMut() -> bool>) {
        K::draw_frames(self, draw);
    }

    /// Uses a nested loop, as a modal dialog does.
    fn nest(&self, end: End) -> Result<(), WaitError> {
        if !self.handle.is_running() {
            return Err(WaitError::Stopped);
        }
        let inner = MainLoop::new(Some(&self.context), false);
        let (quit, done) = (Quit(inner.clone()), Rc::new(Cell::new(false)));
        let told = done.clone();
        self.handle.spawn(async move {
            // Dropped at the end of the run at the latest.
            let _quit = quit;
            end.await;
            told.set(true);
        });
        let _dialog = K::open_dialog();
        inner.run();
        if done.get() {
            Ok(())
        } else {
            Err(WaitError::Stopped)
        }
    }
}

struct Quit(MainLoop);

impl Drop for Quit {
    fn drop(&mut self) {
        self.0.quit();
    }
}
