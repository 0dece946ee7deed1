//! What a program does with FLTK, for the suite: timeouts, iterations, a dialog. The only other
//! file with `unsafe`.

use std::{cell::RefCell, ffi::c_void, ptr::NonNull, rc::Rc, time::Duration};

use entwined_conformance::{keep_panic, resume_panic};

use crate::sys;

/// FLTK's `Fl_Window`.
type Window = c_void;

unsafe extern "C" {
    fn on_fltk_add_timeout(seconds: f64, call: extern "C" fn(*mut c_void), data: *mut c_void);
    fn on_fltk_add_idle(call: extern "C" fn(*mut c_void), data: *mut c_void);
    fn on_fltk_remove_idle(call: extern "C" fn(*mut c_void), data: *mut c_void);
    fn on_fltk_fill_ring();
    fn on_fltk_dialog() -> *mut Window;
    fn on_fltk_dialog_show(window: *mut Window);
    fn on_fltk_dialog_hide(window: *mut Window);
    fn on_fltk_dialog_shown(window: *mut Window) -> bool;
    fn on_fltk_dialog_delete(window: *mut Window);
}

type Call = Box<dyn FnOnce()>;

/// Makes the loop call `call` once, after a delay.
pub fn call_in(delay: Duration, call: Call) {
    let call = Box::into_raw(Box::new(call));
    // SAFETY: FLTK hands the pointer to `run`.
    unsafe { on_fltk_add_timeout(delay.as_secs_f64(), run, call.cast()) }
}

extern "C" fn run(call: *mut c_void) {
    // SAFETY: `call_in` made it, and FLTK calls a timeout once.
    let call = unsafe { Box::from_raw(call.cast::<Call>()) };
    keep_panic(call);
    // The iteration would sleep after this, and the caller waits for what happened here.
    sys::wake();
}

type Work = RefCell<Box<dyn FnMut() -> bool>>;

/// Makes the loop call `work` as often as it can, until that returns false.
pub fn keep_busy(work: Box<dyn FnMut() -> bool>) {
    let work: *mut Work = Box::into_raw(Box::new(RefCell::new(work)));
    // SAFETY: FLTK hands the pointer to `work_on`, until that removes it.
    unsafe { on_fltk_add_idle(work_on, work.cast()) }
}

extern "C" fn work_on(data: *mut c_void) {
    // SAFETY: `keep_busy` made it, and it is freed below.
    let work = unsafe { &*data.cast::<Work>() };
    let more = keep_panic(|| (work.borrow_mut())()).unwrap_or(false);
    if !more {
        // SAFETY: FLTK does not call an idle callback inside itself, and not after its removal.
        unsafe {
            on_fltk_remove_idle(work_on, data);
            drop(Box::from_raw(data.cast::<Work>()));
        }
    }
    sys::wake();
}

/// Makes as many calls of `Fl::awake` as FLTK holds.
pub fn fill_ring() {
    // SAFETY: any thread may call it, once the loop was locked.
    unsafe { on_fltk_fill_ring() }
}

/// One iteration of the loop. Waits for at most `wait`, or without a limit.
pub fn iterate(wait: Option<Duration>) {
    sys::iterate(wait.map(|wait| wait.as_secs_f64()));
    resume_panic();
}

/// A modal dialog.
#[derive(Debug)]
pub struct Dialog(NonNull<Window>);

impl Dialog {
    /// It is not shown yet.
    pub fn new() -> Rc<Self> {
        // SAFETY: windows may be made before they have a display.
        let window = unsafe { on_fltk_dialog() };
        Rc::new(Dialog(
            NonNull::new(window).expect("new never returns null"),
        ))
    }

    /// Shows it, and runs the loop until it is closed.
    pub fn run(&self) {
        let window = self.0.as_ptr();
        // SAFETY: it lives as long as this.
        unsafe { on_fltk_dialog_show(window) };
        // SAFETY: as above.
        while unsafe { on_fltk_dialog_shown(window) } {
            iterate(None);
        }
    }

    /// Closes it.
    pub fn close(&self) {
        // SAFETY: it lives as long as this.
        unsafe { on_fltk_dialog_hide(self.0.as_ptr()) };
    }
}

impl Drop for Dialog {
    fn drop(&mut self) {
        // SAFETY: it is deleted once, and FLTK lets that happen in its callbacks.
        unsafe { on_fltk_dialog_delete(self.0.as_ptr()) }
    }
}
