//! A host for tests: the application, its timers, windows and loops. All of it belongs to the
//! thread that made the application.

use std::{
    cell::RefCell,
    ffi::{CStr, c_char, c_int, c_void},
    rc::Rc,
    time::Duration,
};

use entwined_conformance::{keep_panic, resume_panic};

/// A callback; it is called again while it returns true.
pub type Work = Box<dyn FnMut() -> bool>;

unsafe extern "C" {
    fn qt_host_application(widgets: bool) -> *mut c_void;
    fn qt_host_application_delete(application: *mut c_void);
    fn qt_host_exec() -> c_int;
    fn qt_host_quit();
    fn qt_host_dispatcher() -> *const c_char;
    fn qt_host_version() -> *const c_char;
    fn qt_host_object() -> *mut c_void;
    fn qt_host_object_delete(object: *mut c_void);
    fn qt_host_every(parent: *mut c_void, milliseconds: c_int, work: *mut c_void);
    fn qt_host_draw(work: *mut c_void);
    fn qt_host_process_events(flags: c_int);
    fn qt_host_dispatch(flags: c_int);
    fn qt_host_dialog() -> *mut c_void;
    fn qt_host_dialog_exec(dialog: *mut c_void);
    fn qt_host_dialog_accept(dialog: *mut c_void);
    fn qt_host_dialog_delete(dialog: *mut c_void);
    fn qt_host_nested(milliseconds: c_int, flags: c_int);
    fn qt_host_menu(milliseconds: c_int);
    fn qt_host_spin(milliseconds: c_int, flags: c_int);
}

/// Flags of `QEventLoop::ProcessEventsFlags`.
pub mod flags {
    use std::ffi::c_int;

    /// `AllEvents`.
    pub const ALL: c_int = 0;
    /// `ExcludeSocketNotifiers`.
    pub const NO_SOCKETS: c_int = 2;
    /// `WaitForMoreEvents`.
    pub const WAIT: c_int = 4;
}

#[unsafe(no_mangle)]
extern "C" fn qt_host_call(work: *mut c_void) -> bool {
    // SAFETY: `leak` made it, and C++ drops it only after the call.
    let work = unsafe { &*work.cast::<RefCell<Work>>() };
    // It runs a loop and is due again.
    let Ok(mut work) = work.try_borrow_mut() else {
        return true;
    };
    keep_panic(&mut *work).unwrap_or(false)
}

#[unsafe(no_mangle)]
extern "C" fn qt_host_drop(work: *mut c_void) {
    // SAFETY: `leak` made it, and it is dropped once.
    drop(unsafe { Box::from_raw(work.cast::<RefCell<Work>>()) });
}

fn leak(work: Work) -> *mut c_void {
    Box::into_raw(Box::new(RefCell::new(work))).cast()
}

fn milliseconds(time: Duration) -> c_int {
    c_int::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
}

/// The application.
#[derive(Debug)]
pub struct Application(*mut c_void);

impl Application {
    /// Makes the only one.
    pub fn new(widgets: bool) -> Self {
        // SAFETY: the tests make one at a time.
        Application(unsafe { qt_host_application(widgets) })
    }

    /// Runs its main loop.
    pub fn exec(&self) -> i32 {
        // SAFETY: there is one.
        let code = unsafe { qt_host_exec() };
        resume_panic();
        code
    }

    /// Ends its main loop.
    pub fn quit() {
        // SAFETY: it does nothing without one.
        unsafe { qt_host_quit() }
    }

    /// The class of its dispatcher.
    pub fn dispatcher(&self) -> &'static str {
        // SAFETY: there is one; the text is static.
        unsafe { CStr::from_ptr(qt_host_dispatcher()) }
            .to_str()
            .expect("a name")
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // SAFETY: `new` made it.
        unsafe { qt_host_application_delete(self.0) }
    }
}

/// The version of Qt.
pub fn version() -> &'static str {
    // SAFETY: the text is static.
    unsafe { CStr::from_ptr(qt_host_version()) }
        .to_str()
        .expect("a number")
}

/// Timers that end when this is dropped.
#[derive(Debug)]
pub struct Timers(*mut c_void);

impl Timers {
    /// None yet.
    pub fn new() -> Rc<Self> {
        // SAFETY: no condition.
        Rc::new(Timers(unsafe { qt_host_object() }))
    }

    /// Calls `work` after each interval, in whole milliseconds, never early.
    pub fn every(&self, interval: Duration, work: Work) {
        // SAFETY: the parent lives.
        unsafe { qt_host_every(self.0, milliseconds(interval), leak(work)) }
    }

    /// Calls `work` once.
    pub fn once(&self, delay: Duration, work: impl FnOnce() + 'static) {
        let mut work = Some(work);
        let call = move || {
            work.take().expect("it is called once")();
            false
        };
        self.every(delay, Box::new(call));
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        // SAFETY: `new` made it.
        unsafe { qt_host_object_delete(self.0) }
    }
}

/// Opens a window that calls `work` when it draws, about 60 times a second.
pub fn draw(work: Work) {
    // SAFETY: there is an application.
    unsafe { qt_host_draw(leak(work)) }
}

/// One iteration of the loop, as `QCoreApplication::processEvents` makes it.
pub fn process_events(flags: c_int) {
    // SAFETY: no condition.
    unsafe { qt_host_process_events(flags) }
    resume_panic();
}

/// One iteration, waiting for at most this time.
pub fn iterate(wait: Option<Duration>) {
    let alarm = match wait {
        None | Some(Duration::ZERO) => None,
        Some(wait) => {
            let alarm = Timers::new();
            alarm.every(wait, Box::new(|| true));
            Some(alarm)
        }
    };
    let flags = if wait == Some(Duration::ZERO) {
        flags::ALL
    } else {
        flags::WAIT
    };
    // SAFETY: there is a dispatcher.
    unsafe { qt_host_dispatch(flags) }
    drop(alarm);
    resume_panic();
}

/// A modal dialog.
#[derive(Debug)]
pub struct Dialog(*mut c_void);

impl Dialog {
    /// It is not shown yet.
    pub fn new() -> Rc<Self> {
        // SAFETY: there is a QApplication.
        Rc::new(Dialog(unsafe { qt_host_dialog() }))
    }

    /// Shows it, and runs its loop until it is closed.
    pub fn exec(&self) {
        // SAFETY: it lives.
        unsafe { qt_host_dialog_exec(self.0) }
        resume_panic();
    }

    /// Closes it.
    pub fn accept(&self) {
        // SAFETY: it lives.
        unsafe { qt_host_dialog_accept(self.0) }
    }
}

impl Drop for Dialog {
    fn drop(&mut self) {
        // SAFETY: `new` made it.
        unsafe { qt_host_dialog_delete(self.0) }
    }
}

/// Runs a nested loop with these flags for a time.
pub fn nested(time: Duration, flags: c_int) {
    // SAFETY: there is an application.
    unsafe { qt_host_nested(milliseconds(time), flags) }
    resume_panic();
}

/// Opens a menu for a time.
pub fn menu(time: Duration) {
    // SAFETY: there is a QApplication.
    unsafe { qt_host_menu(milliseconds(time)) }
    resume_panic();
}

/// Spins for a time without sleeping.
pub fn spin(time: Duration, flags: c_int) {
    // SAFETY: there is an application.
    unsafe { qt_host_spin(milliseconds(time), flags) }
    resume_panic();
}
