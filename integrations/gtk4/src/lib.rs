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
//!     let handle = network.clone();
//!     network
//!         .spawn(async move {
//!             // No locks and no channels: this runs on the GUI's thread.
//!             for second in 0.. {
//!                 label.set_text(&format!("{second} s"));
//!                 handle.sleep(std::time::Duration::from_secs(1)).await;
//!             }
//!         })
//!         .detach();
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
//! the network still gets its [floor](entwined_glib::Options::floor).

mod frames;

use std::{io, rc::Rc};

use entwined::Handle;
use entwined_glib::Options;
use gtk4::{Application, glib::MainContext, prelude::*};

use frames::Frames;

/// Attaches a new reactor to `application`, for as long as the application lives.
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
/// Same as [`Options::attach`](entwined_glib::Options::attach): returns an error if another thread
/// runs the default main context, or if the process is out of file descriptors.
pub fn attach(application: &impl IsA<Application>) -> io::Result<Handle> {
    attach_to(application.upcast_ref())
}

fn attach_to(application: &Application) -> io::Result<Handle> {
    let context = MainContext::default();
    let attachment = Rc::new(Options::new().attach_stopped(&context)?);
    let handle = attachment.handle();
    let frames = Frames::new(handle.clone());
    let begin = {
        let attachment = attachment.clone();
        move || {
            frames.follow();
            if let Err(error) = attachment.start() {
                tracing::error!(%error, "the application started again, but its reactor cannot");
            }
        }
    };
    if application.is_registered() && !application.is_remote() {
        begin();
    }
    application.connect_startup(move |_| begin());
    application.connect_shutdown(move |_| {
        let handle = attachment.handle();
        // An error means that the run is already ending, or has ended.
        handle.stop();
        while handle.is_running() {
            context.iteration(true);
        }
    });
    Ok(handle)
}
