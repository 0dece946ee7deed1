//! The C++ shim, `carrier.cpp`. The only file with `unsafe`.
//!
//! Ownership: a [`Carrier`] owns the `QObject` and one reference to the [`Server`] that it calls.
//! Dropping the carrier silences the object, which then deletes itself; the reference is dropped
//! with it. A call that is on the stack holds its own.

use std::{
    ffi::{c_int, c_void},
    fmt,
    marker::PhantomData,
    mem,
    os::fd::RawFd,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::NonNull,
    rc::Rc,
    time::Duration,
};

use crate::backend::Server;

/// Where the calling thread is, relative to the application.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// It is the application's thread.
    Application,
    /// There is no application.
    Nowhere,
    /// The application belongs to another thread.
    AnotherThread,
}

/// Returns where the calling thread is.
pub(crate) fn place() -> Place {
    // SAFETY: it only reads the application's pointer and thread, with Qt's own synchronisation.
    match unsafe { entwined_qt_place() } {
        0 => Place::Application,
        1 => Place::Nowhere,
        _ => Place::AnotherThread,
    }
}

/// Makes this thread's loop run one iteration, which waits for an event if `may_block`.
pub(crate) fn iterate(may_block: bool) {
    // SAFETY: Qt's loops may be entered from inside their own callbacks. Without a loop it does
    // nothing.
    unsafe { entwined_qt_iterate(may_block) }
}

/// Makes this thread's loop return from its sleep, or not begin the next one.
pub(crate) fn wake_up() {
    // SAFETY: any thread may call it. Without a loop it does nothing.
    unsafe { entwined_qt_wake_up() }
}

/// A reactor's place in the loop of the application, until it is dropped. It can be dropped from
/// inside its own calls.
pub(crate) struct Carrier {
    object: NonNull<Object>,
    /// A reference of which the object has the pointer.
    server: Rc<Server>,
}

/// The C++ object.
#[repr(C)]
struct Object {
    _private: [u8; 0],
    /// It belongs to this thread.
    _local: PhantomData<*mut ()>,
}

impl Carrier {
    /// Watches `fd`, which must stay open until the carrier is dropped, for `server`.
    ///
    /// # Panics
    /// Panics if this is not the [application's thread](Place::Application).
    pub(crate) fn new(fd: RawFd, server: Rc<Server>) -> Self {
        assert_eq!(place(), Place::Application);
        // SAFETY: there is an application with a dispatcher, and this is its thread. The table is
        // copied. The pointer to the server is valid while the object uses it: until `retire`,
        // before which the reference in the carrier is not dropped.
        let object =
            unsafe { entwined_qt_carrier_new(fd, &CALLS, Rc::as_ptr(&server).cast::<c_void>()) };
        Carrier {
            object: NonNull::new(object).expect("new never returns null"),
            server,
        }
    }

    /// Posts the event that [`Server::turn`] hears of.
    pub(crate) fn post(&self) {
        // SAFETY: the object lives, and this is its thread: a carrier is not `Send`.
        unsafe { entwined_qt_carrier_post(self.object.as_ptr()) }
    }

    /// Sets the timer that [`Server::timeout`] hears of, again and again, or stops it.
    pub(crate) fn set_timer(&self, interval: Option<Duration>) {
        let milliseconds = interval.map_or(-1, |interval| {
            c_int::try_from(interval.as_millis()).unwrap_or(c_int::MAX)
        });
        // SAFETY: as in `post`.
        unsafe { entwined_qt_carrier_set_timer(self.object.as_ptr(), milliseconds) }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // SAFETY: as in `post`, and only once. The object does not use the server from here on.
        unsafe { entwined_qt_carrier_retire(self.object.as_ptr()) }
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier")
            .field("served_for", &Rc::strong_count(&self.server))
            .finish_non_exhaustive()
    }
}

/// The table `EntwinedQtCalls`.
#[repr(C)]
struct Calls {
    turn: extern "C" fn(*const c_void),
    readable: extern "C" fn(*const c_void),
    timeout: extern "C" fn(*const c_void),
    before_iteration: extern "C" fn(*const c_void),
    about_to_block: extern "C" fn(*const c_void),
    about_to_quit: extern "C" fn(*const c_void),
    application_gone: extern "C" fn(*const c_void),
    frame_begins: extern "C" fn(*const c_void, *const c_void, f64),
    frame_ends: extern "C" fn(*const c_void, *const c_void),
    window_gone: extern "C" fn(*const c_void, *const c_void),
}

static CALLS: Calls = Calls {
    turn,
    readable,
    timeout,
    before_iteration,
    about_to_block,
    about_to_quit,
    application_gone,
    frame_begins,
    frame_ends,
    window_gone,
};

unsafe extern "C" {
    fn entwined_qt_place() -> c_int;
    fn entwined_qt_carrier_new(
        fd: c_int,
        calls: *const Calls,
        server: *const c_void,
    ) -> *mut Object;
    fn entwined_qt_carrier_post(carrier: *mut Object);
    fn entwined_qt_carrier_set_timer(carrier: *mut Object, milliseconds: c_int);
    fn entwined_qt_carrier_retire(carrier: *mut Object);
    fn entwined_qt_iterate(may_block: bool);
    fn entwined_qt_wake_up();
}

extern "C" fn turn(server: *const c_void) {
    with(server, Server::turn);
}

extern "C" fn readable(server: *const c_void) {
    with(server, Server::readable);
}

extern "C" fn timeout(server: *const c_void) {
    with(server, Server::timeout);
}

extern "C" fn before_iteration(server: *const c_void) {
    with(server, Server::before_iteration);
}

extern "C" fn about_to_block(server: *const c_void) {
    with(server, Server::about_to_block);
}

extern "C" fn about_to_quit(server: *const c_void) {
    with(server, Server::about_to_quit);
}

extern "C" fn application_gone(server: *const c_void) {
    with(server, Server::application_gone);
}

extern "C" fn frame_begins(server: *const c_void, window: *const c_void, hertz: f64) {
    with(server, |server| server.frame_begins(window.addr(), hertz));
}

extern "C" fn frame_ends(server: *const c_void, window: *const c_void) {
    with(server, |server| server.frame_ends(window.addr()));
}

extern "C" fn window_gone(server: *const c_void, window: *const c_void) {
    with(server, |server| server.window_gone(window.addr()));
}

/// Calls the server. Keeps panics from unwinding into C++.
fn with(server: *const c_void, call: impl FnOnce(&Server)) {
    let server = server.cast::<Server>();
    // SAFETY: it came from the `Rc` in a carrier, which is alive: the object calls nothing once it
    // is retired. From here on there is a reference for this call, which may drop the carrier.
    let server = unsafe {
        Rc::increment_strong_count(server);
        Rc::from_raw(server)
    };
    let contained = catch_unwind(AssertUnwindSafe(move || {
        call(&server);
        drop(server);
    }));
    if let Err(panic) = contained {
        tracing::error!("a panic was caught before it could unwind into Qt's event loop");
        // Its destructor could panic too.
        mem::forget(panic);
    }
}
