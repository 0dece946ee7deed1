//! The Objective-C shim, `shim.m`. The only file with `unsafe`.

use std::{
    ffi::{c_int, c_void},
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::NonNull,
    rc::Rc,
    time::Duration,
};

use entwined::reactor::HostCall;

use crate::Attached;

unsafe extern "C" {
    fn entwined_cocoa_is_main_thread() -> c_int;
    fn entwined_cocoa_post(call: *mut c_void);
    fn entwined_cocoa_observe(attached: *mut c_void) -> *mut c_void;
    fn entwined_cocoa_retire(end: *mut c_void);
    fn entwined_cocoa_iterate(seconds: f64);
}

pub(crate) fn is_main_thread() -> bool {
    // SAFETY: any thread may ask.
    unsafe { entwined_cocoa_is_main_thread() != 0 }
}

/// Makes the main thread run `call` soon, or drops it. Any thread may call this.
pub(crate) fn post(call: HostCall) {
    // The box of a box is one pointer.
    let call = Box::into_raw(Box::new(call)).cast::<c_void>();
    // SAFETY: any thread may call it. It hands the pointer, once, to one of the two functions
    // below.
    unsafe { entwined_cocoa_post(call) }
}

/// Runs one iteration of this thread's loop, which waits at most this long.
pub(crate) fn iterate(wait: Duration) {
    // SAFETY: a run loop may be run from inside its own callbacks.
    unsafe { entwined_cocoa_iterate(wait.as_secs_f64()) }
}

/// The observer of the application's end, until it is dropped. It can be dropped from inside its
/// own call.
pub(crate) struct End {
    object: NonNull<c_void>,
    /// A reference of which the object has the pointer.
    _attached: Rc<Attached>,
}

impl End {
    pub(crate) fn observe(attached: Rc<Attached>) -> Self {
        let pointer = Rc::as_ptr(&attached).cast_mut().cast();
        // SAFETY: the pointer is valid until `retire`, before which the reference here is not
        // dropped.
        let object = unsafe { entwined_cocoa_observe(pointer) };
        End {
            object: NonNull::new(object).expect("memory for an object"),
            _attached: attached,
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // SAFETY: `observe` made it, and it is retired once. It does not use the pointer from here
        // on.
        unsafe { entwined_cocoa_retire(self.object.as_ptr()) }
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").finish_non_exhaustive()
    }
}

#[unsafe(no_mangle)]
extern "C" fn entwined_cocoa_run(call: *mut c_void) {
    // SAFETY: `post` made it, and it comes back once.
    let call = unsafe { Box::from_raw(call.cast::<HostCall>()) };
    contained(call);
}

#[unsafe(no_mangle)]
extern "C" fn entwined_cocoa_refuse(call: *mut c_void) {
    // SAFETY: `post` made it, and it comes back once.
    let call = unsafe { Box::from_raw(call.cast::<HostCall>()) };
    contained(move || drop(call));
}

#[unsafe(no_mangle)]
extern "C" fn entwined_cocoa_terminate(attached: *mut c_void) {
    let attached = attached.cast_const().cast::<Attached>();
    // SAFETY: it came from the `Rc` in an `End`, which is alive: the object calls nothing once it
    // is retired. From here on there is a reference for this call, which may drop the `End`.
    let attached = unsafe {
        Rc::increment_strong_count(attached);
        Rc::from_raw(attached)
    };
    contained(move || attached.terminate());
}

/// Keeps panics from unwinding into Objective-C.
fn contained(function: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(function)) {
        tracing::error!("a panic was caught before it could unwind into the run loop");
        // Its destructor could panic too.
        mem::forget(panic);
    }
}
