//! A host for tests: the application, its timers and a modal panel. All of it belongs to the main
//! thread.

use std::{
    cell::{Cell, RefCell},
    ffi::c_void,
    rc::Rc,
    time::Duration,
};

use entwined_conformance::{keep_panic, resume_panic};

/// A callback; it is called again while it returns true.
pub type Work = Box<dyn FnMut() -> bool>;

unsafe extern "C" {
    fn cocoa_host_application();
    fn cocoa_host_run();
    fn cocoa_host_stop();
    fn cocoa_host_terminate();
    fn cocoa_host_every(seconds: f64, work: *mut c_void) -> *mut c_void;
    fn cocoa_host_end(timer: *mut c_void);
    fn cocoa_host_iterate(seconds: f64);
    fn cocoa_host_panel() -> *mut c_void;
    fn cocoa_host_panel_run(panel: *mut c_void);
    fn cocoa_host_panel_stop();
    fn cocoa_host_panel_delete(panel: *mut c_void);
}

#[unsafe(no_mangle)]
extern "C" fn cocoa_host_call(work: *mut c_void) -> bool {
    // SAFETY: `every` made it, and it is dropped only after the call.
    let work = unsafe { &*work.cast::<RefCell<Work>>() };
    // It runs a loop and is due again.
    let Ok(mut work) = work.try_borrow_mut() else {
        return true;
    };
    keep_panic(&mut *work).unwrap_or(false)
}

#[unsafe(no_mangle)]
extern "C" fn cocoa_host_drop(work: *mut c_void) {
    // SAFETY: `every` made it, and it is dropped once.
    drop(unsafe { Box::from_raw(work.cast::<RefCell<Work>>()) });
}

/// Makes the application. Once, on the main thread.
pub fn application() {
    // SAFETY: no other condition.
    unsafe { cocoa_host_application() }
}

/// Runs the application until [`stop`].
pub fn run() {
    // SAFETY: there is an application.
    unsafe { cocoa_host_run() }
    resume_panic();
}

/// Ends [`run`].
pub fn stop() {
    // SAFETY: there is an application.
    unsafe { cocoa_host_stop() }
}

/// Terminates the application, and with it the process.
pub fn terminate() {
    // SAFETY: there is an application.
    unsafe { cocoa_host_terminate() }
}

/// Timers that end when this is dropped.
#[derive(Debug, Default)]
pub struct Timers(RefCell<Vec<*mut c_void>>);

impl Timers {
    /// None yet.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Calls `work` after each interval.
    pub fn every(&self, interval: Duration, work: Work) {
        let work = Box::into_raw(Box::new(RefCell::new(work))).cast();
        // SAFETY: it takes the pointer, and hands it to the two functions above.
        let timer = unsafe { cocoa_host_every(interval.as_secs_f64(), work) };
        self.0.borrow_mut().push(timer);
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
        for timer in self.0.take() {
            // SAFETY: `every` made it, and it is ended once.
            unsafe { cocoa_host_end(timer) }
        }
    }
}

/// One iteration of the loop, which waits at most this long.
pub fn iterate(wait: Option<Duration>) {
    let wait = wait.map_or(1e6, |wait| wait.as_secs_f64());
    // SAFETY: there is an application.
    unsafe { cocoa_host_iterate(wait) }
    resume_panic();
}

thread_local! {
    /// The panels that run, the innermost last; each is true once it was stopped.
    static RUNNING: RefCell<Vec<Rc<Cell<bool>>>> = const { RefCell::new(Vec::new()) };
}

/// A modal panel.
#[derive(Debug)]
pub struct Panel {
    panel: *mut c_void,
    stopped: Rc<Cell<bool>>,
}

impl Panel {
    /// It is not shown yet.
    pub fn new() -> Rc<Self> {
        Rc::new(Panel {
            // SAFETY: there is an application.
            panel: unsafe { cocoa_host_panel() },
            stopped: Rc::default(),
        })
    }

    /// Shows it, and runs its loop until it is stopped.
    pub fn run(&self) {
        RUNNING.with_borrow_mut(|running| running.push(self.stopped.clone()));
        // SAFETY: it lives.
        unsafe { cocoa_host_panel_run(self.panel) }
        RUNNING.with_borrow_mut(Vec::pop);
        // The one around it may have been stopped meanwhile.
        stop_innermost();
        resume_panic();
    }

    /// Stops it, as soon as those that it is around have been stopped.
    pub fn stop(&self) {
        self.stopped.set(true);
        stop_innermost();
    }
}

fn stop_innermost() {
    if RUNNING.with_borrow(|running| running.last().is_some_and(|stopped| stopped.get())) {
        // SAFETY: there is a modal loop.
        unsafe { cocoa_host_panel_stop() }
    }
}

impl Drop for Panel {
    fn drop(&mut self) {
        // SAFETY: `new` made it.
        unsafe { cocoa_host_panel_delete(self.panel) }
    }
}
