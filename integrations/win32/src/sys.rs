//! The window that receives the network's messages. The only file with `unsafe`.

use std::{
    collections::VecDeque,
    fmt, io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use entwined::reactor::HostCall;
use windows_sys::Win32::{
    Foundation::{HWND, LPARAM, LRESULT, WPARAM},
    System::LibraryLoader::GetModuleHandleW,
    UI::WindowsAndMessaging::{
        CreateWindowExW, DefWindowProcW, DestroyWindow, GWLP_USERDATA, GetQueueStatus,
        GetWindowLongPtrW, HWND_MESSAGE, PostMessageW, QS_HOTKEY, QS_INPUT, QS_PAINT, QS_TIMER,
        RegisterClassW, SetWindowLongPtrW, WM_APP, WNDCLASSW,
    },
};

use crate::give_way::Later;

/// What was posted to a window, and the window. Any thread may have it.
#[derive(Clone)]
pub(crate) struct Calls(Arc<Mutex<Queue>>);

struct Queue {
    /// A number of the window, which any thread may post to. Zero when it is gone.
    window: usize,
    calls: VecDeque<Call>,
}

struct Call {
    call: HostCall,
    /// Whether it has given way already.
    has_waited: bool,
}

impl Calls {
    /// Makes the window's thread run the call, or drops it.
    pub(crate) fn post(&self, call: HostCall) {
        self.push(Call {
            call,
            has_waited: false,
        });
    }

    fn push(&self, call: Call) {
        let mut queue = self.lock();
        let window = queue.window as HWND;
        if window.is_null() {
            // It may post another one when it is dropped.
            drop(queue);
            return drop(call);
        }
        queue.calls.push_back(call);
        // SAFETY: any thread may post to a window, also to one that is gone.
        if unsafe { PostMessageW(window, WM_APP, 0, 0) } == 0 {
            // The thread's queue is full.
            let call = queue.calls.pop_back();
            drop(queue);
            drop(call);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        // Nothing under the lock can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A window that nobody sees, on the thread that made it.
pub(crate) struct Window {
    window: HWND,
    /// The window has a pointer to it.
    inner: Box<Inner>,
}

struct Inner {
    calls: Calls,
    later: Later,
}

impl Window {
    pub(crate) fn new() -> io::Result<Self> {
        let class = class()?;
        let calls = Calls(Arc::new(Mutex::new(Queue {
            window: 0,
            calls: VecDeque::new(),
        })));
        let late = calls.clone();
        let later = Later::spawn(move |call| {
            late.push(Call {
                call,
                has_waited: true,
            });
        })?;
        let inner = Box::new(Inner { calls, later });
        // SAFETY: the class is registered, and all other arguments may be null.
        let window = unsafe {
            CreateWindowExW(
                0,
                class as *const u16,
                ptr::null(),
                0,
                0,
                0,
                0,
                0,
                HWND_MESSAGE,
                ptr::null_mut(),
                GetModuleHandleW(ptr::null()),
                ptr::null(),
            )
        };
        if window.is_null() {
            return Err(io::Error::last_os_error());
        }
        let pointer: *const Inner = &*inner;
        // SAFETY: the window is this thread's, and is destroyed before `inner` is dropped.
        unsafe { SetWindowLongPtrW(window, GWLP_USERDATA, pointer as isize) };
        inner.calls.lock().window = window as usize;
        Ok(Window { window, inner })
    }

    pub(crate) fn calls(&self) -> Calls {
        self.inner.calls.clone()
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let mut queue = self.inner.calls.lock();
        queue.window = 0;
        let calls = mem::take(&mut queue.calls);
        drop(queue);
        drop(calls);
        // SAFETY: `Window` is not `Send`, so this is the thread that made it. A call of its
        // procedure on the stack has a copy of what it uses.
        unsafe { DestroyWindow(self.window) };
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Window").field(&self.window).finish()
    }
}

/// Registers the class once, and returns its atom.
fn class() -> io::Result<usize> {
    static CLASS: OnceLock<u16> = OnceLock::new();
    let name: Vec<u16> = "EntwinedNetwork\0".encode_utf16().collect();
    let atom = *CLASS.get_or_init(|| {
        let class = WNDCLASSW {
            style: 0,
            lpfnWndProc: Some(procedure),
            cbClsExtra: 0,
            cbWndExtra: 0,
            // SAFETY: a null name is this program's.
            hInstance: unsafe { GetModuleHandleW(ptr::null()) },
            hIcon: ptr::null_mut(),
            hCursor: ptr::null_mut(),
            hbrBackground: ptr::null_mut(),
            lpszMenuName: ptr::null(),
            lpszClassName: name.as_ptr(),
        };
        // SAFETY: the name lives until the call has returned.
        unsafe { RegisterClassW(&class) }
    });
    match atom {
        0 => Err(io::Error::other("a window class cannot be registered")),
        atom => Ok(atom.into()),
    }
}

unsafe extern "system" fn procedure(
    window: HWND,
    message: u32,
    wide: WPARAM,
    long: LPARAM,
) -> LRESULT {
    if message != WM_APP {
        // SAFETY: these are the arguments that the system gave.
        return unsafe { DefWindowProcW(window, message, wide, long) };
    }
    // SAFETY: zero, or what `Window::new` set. The window is destroyed on this thread before
    // `inner` is dropped, and the reference ends before any code of others runs.
    let inner = unsafe { (GetWindowLongPtrW(window, GWLP_USERDATA) as *const Inner).as_ref() };
    let call = inner.and_then(|inner| {
        let Call { call, has_waited } = inner.calls.lock().calls.pop_front()?;
        if !has_waited && host_waits() {
            inner.later.post(call);
            return None;
        }
        Some(call)
    });
    let Some(call) = call else { return 0 };
    // It must not unwind into the system.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
        tracing::error!("a call of the network panicked");
        // Dropping it could panic again.
        mem::forget(panic);
    }
    0
}

/// Whether input, painting or a timer of this thread's windows waits to be handed out. All of them
/// come after posted messages.
fn host_waits() -> bool {
    // SAFETY: any thread may ask.
    let status = unsafe { GetQueueStatus(QS_INPUT | QS_HOTKEY | QS_PAINT | QS_TIMER) };
    // The high word says what is in the queue now.
    status >> 16 != 0
}
