//! A custom `GSource`, for which glib-rs has no safe API. The only file with `unsafe`.
//!
//! Ownership: GLib owns the memory of a [`Raw`] and frees it when the last reference to it is
//! dropped. That may happen in the middle of the source's own dispatch, or on another thread (if
//! somebody iterates the context there). By then the memory must hold nothing that needs the right
//! thread. So [`Source`]'s drop takes the [`Watch`] out, and a dispatch that is on the stack holds
//! its own `Rc` of it.

use std::{
    cell::RefCell,
    marker::PhantomData,
    mem,
    os::{
        fd::RawFd,
        raw::{c_int, c_uint, c_void},
    },
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    rc::Rc,
    sync::atomic::{AtomicBool, AtomicPtr, Ordering},
    thread::{self, ThreadId},
};

use glib::{
    MainContext, Priority, ffi,
    translate::{FromGlibPtrFull, IntoGlib, ToGlibPtr},
};

/// What a source does. A panic in any of the methods is caught and logged.
pub(crate) trait Watch {
    /// A fd that makes the source ready when it is readable. It stays open as long as the watch
    /// lives.
    fn fd(&self) -> Option<RawFd> {
        None
    }

    /// Called when the loop is about to sleep; returns true if it must not. Must not run user code.
    fn prepare(&self) -> bool;

    /// Called after the loop has slept.
    fn woke(&self) {}

    /// Called when the source is ready, or has been ready at some earlier time.
    fn dispatch(&self);
}

/// A watch in a main context, until it is dropped. It can be dropped from inside its own dispatch.
pub(crate) struct Source {
    source: glib::Source,
    /// The contents belong to this thread.
    _local: PhantomData<*const ()>,
}

/// A `GSource` as GLib allocates it, followed by our part.
#[repr(C)]
struct Raw {
    source: ffi::GSource,
    shell: Shell,
}

struct Shell {
    /// The only thread that may access `watch`.
    thread: ThreadId,
    watch: RefCell<Option<Rc<dyn Watch>>>,
    /// GLib's name for the fd, if there is one.
    fd: AtomicPtr<c_void>,
    /// Whether the fd is left out of the poll. Only the thread that iterates the context, one at a
    /// time, changes it.
    left_out: AtomicBool,
}

impl Source {
    /// Puts `watch` into `context`. It may be dispatched recursively, from inside its own dispatch.
    pub(crate) fn attach(
        context: &MainContext,
        priority: Priority,
        name: &str,
        watch: Rc<dyn Watch>,
    ) -> Self {
        let fd = watch.fd();
        let shell = Shell {
            thread: thread::current().id(),
            watch: RefCell::new(Some(watch)),
            fd: AtomicPtr::default(),
            left_out: AtomicBool::new(false),
        };
        // SAFETY: GLib only reads the functions, which are `'static`. It allocates the size that it
        // is given, aligned for any C type, and so for `Raw`. The shell is written once, before
        // anything can read it. `from_glib_full` takes the only reference; the setters are called
        // on a live source that is not attached yet.
        let source: glib::Source = unsafe {
            let raw = ffi::g_source_new(
                &raw const FUNCTIONS as *mut _,
                mem::size_of::<Raw>() as c_uint,
            );
            ptr::write(&raw mut (*raw.cast::<Raw>()).shell, shell);
            ffi::g_source_set_priority(raw, priority.into_glib());
            ffi::g_source_set_can_recurse(raw, true.into_glib());
            ffi::g_source_set_name(raw, name.to_glib_none().0);
            if let Some(fd) = fd {
                let fd = ffi::g_source_add_unix_fd(raw, fd, ffi::G_IO_IN);
                (*raw.cast::<Raw>()).shell.fd.store(fd, Ordering::Relaxed);
            }
            FromGlibPtrFull::from_glib_full(raw)
        };
        let _ = source.attach(Some(context));
        Source {
            source,
            _local: PhantomData,
        }
    }

    #[cfg(test)]
    pub(crate) fn priority(&self) -> i32 {
        self.source.priority()
    }

    /// Moves the source to another priority, from the loop's next iteration on.
    pub(crate) fn set_priority(&self, priority: Priority) {
        let raw: *mut ffi::GSource = self.source.to_glib_none().0;
        // SAFETY: our reference keeps the source alive; GLib takes the context's lock.
        unsafe { ffi::g_source_set_priority(raw, priority.into_glib()) }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.source.destroy();
        let raw: *mut ffi::GSource = self.source.to_glib_none().0;
        // SAFETY: our reference keeps the memory alive, and `attach` has written the shell. A
        // `Source` never leaves its thread.
        let shell = unsafe { shell(raw) };
        let watch = shell.watch.take();
        drop(watch);
    }
}

/// Returns whether `fd` is readable now. Does not wait.
pub(crate) fn is_readable(fd: RawFd) -> bool {
    let mut polled = ffi::GPollFD {
        fd,
        events: ffi::G_IO_IN as u16,
        revents: 0,
    };
    // SAFETY: the pointer refers to one `GPollFD`, as the count says, for the duration of the call.
    // A bad fd is reported in `revents`, not as an error.
    unsafe { ffi::g_poll(&raw mut polled, 1, 0) > 0 }
}

static FUNCTIONS: ffi::GSourceFuncs = ffi::GSourceFuncs {
    prepare: Some(prepare),
    check: Some(check),
    dispatch: Some(dispatch),
    finalize: Some(finalize),
    closure_callback: None,
    closure_marshal: None,
};

/// # Safety
/// `raw` was made by [`Source::attach`] and has not been finalized yet.
unsafe fn shell<'a>(raw: *mut ffi::GSource) -> &'a Shell {
    // SAFETY: by the caller's promise, the shell behind it was written.
    unsafe { &(*raw.cast::<Raw>()).shell }
}

/// Returns the watch of a source, unless it was dropped or this is not its thread.
///
/// # Safety
/// Same as [`shell`].
unsafe fn watch(raw: *mut ffi::GSource) -> Option<Rc<dyn Watch>> {
    // SAFETY: the caller makes the same promise.
    let shell = unsafe { shell(raw) };
    // Any thread may iterate a context that has no owner; the reactor must not run there.
    if shell.thread != thread::current().id() {
        return None;
    }
    shell.watch.borrow().clone()
}

/// Leaves the source's fd out of the poll as long as another thread iterates the context: nobody
/// would serve it there, so that thread would never sleep.
///
/// # Safety
/// `raw` is a live source of ours, and this thread iterates its context.
unsafe fn choose_fd(raw: *mut ffi::GSource) {
    // SAFETY: by the caller's promise.
    let shell = unsafe { shell(raw) };
    let fd = shell.fd.load(Ordering::Relaxed);
    let out = shell.thread != thread::current().id();
    if !fd.is_null() && shell.left_out.swap(out, Ordering::Relaxed) != out {
        let events = if out { 0 } else { ffi::G_IO_IN };
        // SAFETY: GLib gave this name to the fd when it was added, and it is never removed.
        unsafe { ffi::g_source_modify_unix_fd(raw, fd, events) }
    }
}

unsafe extern "C" fn prepare(raw: *mut ffi::GSource, timeout: *mut c_int) -> ffi::gboolean {
    contained(|| {
        // SAFETY: GLib calls this with a live source of ours, and a valid pointer for the timeout.
        let watch = unsafe {
            *timeout = -1;
            choose_fd(raw);
            watch(raw)
        };
        watch.is_some_and(|watch| watch.prepare())
    })
    .into_glib()
}

unsafe extern "C" fn check(raw: *mut ffi::GSource) -> ffi::gboolean {
    contained(|| {
        // SAFETY: GLib calls this with a live source of ours.
        if let Some(watch) = unsafe { watch(raw) } {
            watch.woke();
        }
    });
    // GLib itself checks whether the fd is ready.
    ffi::GFALSE
}

unsafe extern "C" fn dispatch(
    raw: *mut ffi::GSource,
    _: ffi::GSourceFunc,
    _: ffi::gpointer,
) -> ffi::gboolean {
    contained(|| {
        // SAFETY: GLib calls this with a source of ours, and holds a reference to it for the
        // duration.
        if let Some(watch) = unsafe { watch(raw) } {
            watch.dispatch();
        }
    });
    ffi::G_SOURCE_CONTINUE
}

unsafe extern "C" fn finalize(raw: *mut ffi::GSource) {
    contained(|| {
        // SAFETY: GLib calls this once, when there is no other reference, before it frees the
        // memory. The shell is not used again.
        let shell = unsafe { ptr::read(&raw const (*raw.cast::<Raw>()).shell) };
        if shell.thread != thread::current().id() {
            // Happens only if a `Source` was leaked and its context was then freed on another
            // thread.
            mem::forget(shell);
        }
    });
}

/// Keeps panics from unwinding into C.
fn contained<T: Default>(function: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(function)).unwrap_or_else(|panic| {
        tracing::error!("a panic was caught before it could unwind into GLib's main loop");
        // Its destructor could panic too.
        mem::forget(panic);
        T::default()
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Runs a closure in each dispatch, once per iteration.
    struct Always<F: Fn()>(F);

    impl<F: Fn()> Watch for Always<F> {
        fn prepare(&self) -> bool {
            true
        }
        fn dispatch(&self) {
            self.0();
        }
    }

    fn attach(context: &MainContext, function: impl Fn() + 'static) -> Source {
        Source::attach(
            context,
            Priority::DEFAULT,
            "test",
            Rc::new(Always(function)),
        )
    }

    #[test]
    fn a_source_dropped_inside_its_own_dispatch_frees_its_watch_once() {
        let context = MainContext::new();
        let slot: Rc<RefCell<Option<Source>>> = Rc::default();
        let calls = Rc::new(Cell::new(0));
        let source = attach(&context, {
            let (slot, calls) = (slot.clone(), calls.clone());
            move || {
                drop(slot.take());
                // What the closure owns still exists.
                calls.set(calls.get() + 1);
            }
        });
        slot.replace(Some(source));
        context.iteration(false);
        assert_eq!(
            Rc::strong_count(&calls),
            1,
            "the watch was dropped after its dispatch"
        );
        context.iteration(false);
        assert_eq!(calls.get(), 1);
    }

    #[test]
    fn a_source_dropped_in_a_nested_loop_of_its_own_dispatch_lives_until_the_outer_one_returns() {
        let context = MainContext::new();
        let slot: Rc<RefCell<Option<Source>>> = Rc::default();
        let calls = Rc::new(Cell::new(0));
        let source = attach(&context, {
            let (context, slot, calls) = (context.clone(), slot.clone(), calls.clone());
            move || {
                calls.set(calls.get() + 1);
                match calls.get() {
                    1 | 2 => drop(context.iteration(false)),
                    _ => drop(slot.take()),
                }
                assert!(Rc::strong_count(&calls) > 1);
            }
        });
        slot.replace(Some(source));
        context.iteration(false);
        assert_eq!((calls.get(), Rc::strong_count(&calls)), (3, 1));
    }

    #[test]
    fn a_panic_does_not_reach_c() {
        let context = MainContext::new();
        let calls = Rc::new(Cell::new(0));
        let source = attach(&context, {
            let calls = calls.clone();
            move || {
                calls.set(calls.get() + 1);
                panic!("in a dispatch");
            }
        });
        context.iteration(false);
        context.iteration(false);
        assert_eq!(calls.get(), 2, "the source stays");
        drop(source);
        assert_eq!(Rc::strong_count(&calls), 1);
    }

    #[test]
    fn another_thread_that_iterates_the_context_does_not_reach_the_watch() {
        let context = MainContext::new();
        let calls = Rc::new(Cell::new(0));
        let _source = attach(&context, {
            let calls = calls.clone();
            move || calls.set(calls.get() + 1)
        });
        thread::scope(|scope| scope.spawn(|| context.iteration(false)).join().unwrap());
        assert_eq!(calls.get(), 0);
        context.iteration(false);
        assert_eq!(calls.get(), 1);
    }

    #[test]
    fn a_leaked_source_does_not_free_what_belongs_to_another_thread() {
        let calls = Rc::new(Cell::new(0));
        let context = MainContext::new();
        let kept = calls.clone();
        let source = attach(&context, move || kept.set(1));
        let source = mem::ManuallyDrop::new(source);
        // SAFETY: the original is not used again, so the reference has one owner.
        let inner = unsafe { ptr::read(&raw const source.source) };
        thread::spawn(move || drop((context, inner)))
            .join()
            .unwrap();
        assert_eq!(Rc::strong_count(&calls), 2);
    }
}
