//! The border to the other language, `network.h`.

use std::{
    ffi::{CString, c_char, c_void},
    io,
    panic::catch_unwind,
};

use entwined::Handle;

/// What requests do to the window. It belongs to the GUI's thread.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Window {
    window: *mut c_void,
    set_label: unsafe extern "C" fn(*mut c_void, *const c_char),
    open_dialog: unsafe extern "C" fn(*mut c_void, *const c_char),
    quit: unsafe extern "C" fn(*mut c_void),
}

impl Window {
    pub(crate) fn set_label(&self, text: &str) {
        let text = text_of(text);
        // SAFETY: the caller of `start` promises that the window lives until the application quits,
        // and requests are served no longer. A window is not `Send`, so this is the GUI's thread.
        // The text is copied.
        unsafe { (self.set_label)(self.window, text.as_ptr()) }
    }

    /// Returns when the dialog is closed.
    pub(crate) fn open_dialog(&self, text: &str) {
        let text = text_of(text);
        // SAFETY: as in `set_label`; the text lives until the call returns.
        unsafe { (self.open_dialog)(self.window, text.as_ptr()) }
    }

    pub(crate) fn quit(&self) {
        // SAFETY: as in `set_label`.
        unsafe { (self.quit)(self.window) }
    }
}

/// As C has it: up to the first zero.
fn text_of(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).expect("it has no zero")
}

/// Attaches a reactor to the application by `attach`, and serves requests that change the window.
/// Returns whether that succeeded, and never unwinds. This is `network_start` of `network.h`.
///
/// # Safety
/// `window` points to a window that lives until the application quits.
pub unsafe fn start(window: *const Window, attach: fn() -> io::Result<Handle>) -> bool {
    // SAFETY: the caller promises it.
    let window = unsafe { *window };
    match catch_unwind(|| crate::serve(window, attach).map_err(|error| error.to_string())) {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            eprintln!("there is no network: {error}");
            false
        }
        Err(_) => false,
    }
}
