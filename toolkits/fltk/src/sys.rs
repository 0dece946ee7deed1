//! FLTK, as far as the backend needs it.

use std::{
    cell::Cell,
    ffi::{c_int, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    rc::Rc,
};

use crate::Server;

unsafe extern "C" {
    fn on_fltk_watch(fd: c_int, call: extern "C" fn(c_int, *mut c_void), data: *mut c_void);
    fn on_fltk_unwatch(fd: c_int);
    fn on_fltk_add_check(call: extern "C" fn(*mut c_void), data: *mut c_void);
    fn on_fltk_remove_check(call: extern "C" fn(*mut c_void), data: *mut c_void);
    fn on_fltk_lock();
    fn on_fltk_awake(call: extern "C" fn(*mut c_void), data: *mut c_void) -> bool;
    fn on_fltk_wait(seconds: f64);
}

/// Longer than any sleep.
const FOREVER: f64 = 1e20;

thread_local! {
    /// Whether the loop is already kept from its next sleep.
    static AWAKE: Cell<bool> = const { Cell::new(false) };
}

/// A reactor's place in the loop, until it is dropped. It can be dropped inside its own calls.
#[derive(Debug)]
pub(crate) struct Carrier {
    fd: c_int,
    /// A reference of which the loop has the pointer.
    server: Rc<Server>,
}

impl Carrier {
    /// Watches `fd`, which must stay open until the carrier is dropped.
    pub(crate) fn new(fd: c_int, server: Rc<Server>) -> Self {
        let carrier = Carrier { fd, server };
        // SAFETY: the pointer is valid until `drop` has removed both. The calls do not unwind.
        unsafe {
            on_fltk_lock();
            on_fltk_watch(fd, readable, carrier.data());
            on_fltk_add_check(before_sleep, carrier.data());
        }
        carrier
    }

    /// [`Server::event`] is called soon. Returns false if there is no room for that: then the next
    /// check comes soon.
    pub(crate) fn post(&self) -> bool {
        let server = Rc::into_raw(self.server.clone()).cast_mut();
        // SAFETY: FLTK hands the pointer to `event`, which takes the reference back.
        let posted = unsafe { on_fltk_awake(event, server.cast()) };
        if !posted {
            // SAFETY: FLTK has not kept it.
            drop(unsafe { Rc::from_raw(server.cast_const()) });
        }
        posted
    }

    fn data(&self) -> *mut c_void {
        Rc::as_ptr(&self.server).cast_mut().cast()
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // SAFETY: FLTK lets its callbacks remove themselves and others.
        unsafe {
            on_fltk_unwatch(self.fd);
            on_fltk_remove_check(before_sleep, self.data());
        }
    }
}

/// Makes one iteration, which waits for at most so many seconds.
pub(crate) fn iterate(seconds: Option<f64>) {
    // SAFETY: it may be called inside its own callbacks.
    unsafe { on_fltk_wait(seconds.unwrap_or(FOREVER)) }
}

/// Keeps the loop from its next sleep.
pub(crate) fn wake() {
    if !AWAKE.replace(true) {
        // SAFETY: any thread may call it, once the loop was locked.
        let posted = unsafe { on_fltk_awake(awake, ptr::null_mut()) };
        // Without room, the calls that wait keep it from that.
        AWAKE.set(posted);
    }
}

extern "C" fn awake(_: *mut c_void) {
    AWAKE.set(false);
}

extern "C" fn readable(_: c_int, server: *mut c_void) {
    with(server, Server::readable);
}

extern "C" fn event(server: *mut c_void) {
    with(server, Server::event);
    // SAFETY: `post` has left a reference for this.
    drop(unsafe { Rc::from_raw(server.cast_const().cast::<Server>()) });
}

extern "C" fn before_sleep(server: *mut c_void) {
    with(server, Server::before_sleep);
}

/// Calls the server. Keeps panics from unwinding into C++.
fn with(server: *mut c_void, call: impl FnOnce(&Server)) {
    let server = server.cast_const().cast::<Server>();
    // SAFETY: it came from the `Rc` in a carrier, which is alive: dropping it removes all calls.
    // From here on there is a reference for this call, which may drop the carrier.
    let server = unsafe {
        Rc::increment_strong_count(server);
        Rc::from_raw(server)
    };
    let contained = catch_unwind(AssertUnwindSafe(move || {
        call(&server);
        drop(server);
    }));
    if contained.is_err() {
        eprintln!("a panic was caught before it could unwind into FLTK's loop");
    }
}
