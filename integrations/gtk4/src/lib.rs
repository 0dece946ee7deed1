//! Entwined in a GTK 4 application: network code in the GUI's own thread, between the frames.
//!
//! ```no_run
//! use gtk4::{Application, ApplicationWindow, Label, prelude::*};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let application = Application::builder().application_id("org.example.Clock").build();
//! let network = entwined_gtk4::attach(&application)?;
//! application.connect_activate(move |application| {
//!     let label = Label::new(None);
//!     let window = ApplicationWindow::builder().application(application).child(&label).build();
//!     window.present();
//!     let handle = network.handle();
//!     network
//!         .spawn(async move {
//!             // No locks and no channels: this runs on the GUI's thread.
//!             for second in 0.. {
//!                 label.set_text(&format!("{second} s"));
//!                 handle.sleep(std::time::Duration::from_secs(1)).await;
//!             }
//!         });
//! });
//! application.run();
//! # Ok(())
//! # }
//! ```
//!
//! # Frames
//!
//! The reactor follows the frame clocks of all the process's windows. While one of them draws, a
//! dispatch ends before the next frame is due, and is short if a frame is late. While none draws, a
//! dispatch takes 2 ms at most ([`Pacing`](entwined::reactor::Pacing)). If the GUI is always busy,
//! the network still gets its [floor](entwined_glib::Config::floor).
#![warn(missing_debug_implementations)]

mod frames;

use std::{cell::RefCell, fmt, io, ops::Deref, rc::Rc};

use entwined::Handle;
use entwined_glib::Config;
use gtk4::{
    Application,
    glib::{MainContext, SignalHandlerId},
    prelude::*,
};

use frames::Frames;
pub use {entwined, entwined_glib, gtk4};

/// Attaches a new reactor to `application`.
///
/// Its run begins with the application: in `startup`, or at once if that has already happened. Work
/// requested through the handle before then waits. In an instance that is not the primary one, the
/// run never begins, because there is no `startup`.
///
/// Its run ends gracefully with the application. In `shutdown` the phases of
/// [`Handle::on_shutdown`] run to their end, each limited to the core's 30 s, while the main
/// context keeps running. [`Handle::stop`] ends the run and leaves the application alone; to begin
/// another run, attach again.
///
/// Can be called from inside any callback, and several times: each call makes a new reactor.
///
/// # Errors
/// Same as [`Config::attach`](entwined_glib::Config::attach): returns an error if another thread
/// runs the default main context, or if the process is out of file descriptors.
pub fn attach(application: &impl IsA<Application>) -> io::Result<Attachment> {
    attach_to(application.upcast_ref())
}

/// A reactor in an application. It dereferences to the [`Handle`] that programs work with.
///
/// Dropping it detaches the reactor at once and for good, without the shutdown phases. Keep it
/// until [`run`](ApplicationExtManual::run) has returned, or call [`keep`](Attachment::keep).
#[must_use = "dropping it detaches the reactor at once; use `keep` to let it stay"]
pub struct Attachment {
    handle: Handle,
    application: Application,
    attached: Attached,
    /// The handlers of the application; that of `startup` has the reactor too. Empty once it was
    /// kept.
    handlers: Vec<SignalHandlerId>,
    kept: bool,
}

type Attached = Rc<RefCell<Option<entwined_glib::Attachment>>>;

impl Attachment {
    /// Returns the handle that programs work with.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Detaches the reactor at once and for good, as dropping this does.
    pub fn detach(self) {}

    /// Leaves the reactor attached for as long as the application lives.
    pub fn keep(mut self) -> Handle {
        self.handlers.clear();
        self.kept = true;
        self.handle()
    }
}

impl Deref for Attachment {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("handle", &self.handle)
            .field("application", &self.application)
            .finish_non_exhaustive()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            self.application.disconnect(handler);
        }
        if !self.kept {
            // At once, also if a handler is on the stack. Dropped after the borrow: it runs code of
            // others.
            let attached = self.attached.take();
            drop(attached);
        }
    }
}

fn attach_to(application: &Application) -> io::Result<Attachment> {
    let context = MainContext::default();
    let attachment = Config::new().attach_stopped(&context)?;
    let handle = attachment.handle();
    let attached: Attached = Rc::new(RefCell::new(Some(attachment)));
    let frames = Frames::new(handle.clone());
    let begin = {
        let attached = attached.clone();
        move || {
            frames.follow();
            if let Some(Err(error)) = attached.borrow().as_ref().map(|attached| attached.start()) {
                tracing::error!(%error, "the application started again, but its reactor cannot");
            }
        }
    };
    if application.is_registered() && !application.is_remote() {
        begin();
    }
    let startup = application.connect_startup(move |_| begin());
    let shutdown = application.connect_shutdown({
        let handle = handle.clone();
        move |_| {
            // An error means that the run is already ending, or has ended.
            handle.stop();
            while handle.is_running() {
                context.iteration(true);
            }
        }
    });
    Ok(Attachment {
        attached,
        kept: false,
        handle,
        application: application.clone(),
        handlers: vec![startup, shutdown],
    })
}
