//! The border to Objective-C, `network.h`. The only file with `unsafe`.

use std::{
    ffi::{CString, c_char, c_void},
    panic::catch_unwind,
};

/// What requests do to the window. It belongs to the main thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Window {
    window: *mut c_void,
    set_label: unsafe extern "C" fn(*mut c_void, *const c_char),
    open_panel: unsafe extern "C" fn(*mut c_void, *const c_char),
    quit: unsafe extern "C" fn(*mut c_void),
}

impl Window {
    pub(crate) fn set_label(&self, text: &str) {
        let text = text_of(text);
        // SAFETY: `network_start` promises that the window lives until the application terminates,
        // and requests are served no longer. A window is not `Send`, so this is the main thread.
        // The text is copied.
        unsafe { (self.set_label)(self.window, text.as_ptr()) }
    }

    /// Returns when the panel is closed.
    pub(crate) fn open_panel(&self, text: &str) {
        let text = text_of(text);
        // SAFETY: as in `set_label`; the text lives until the call returns.
        unsafe { (self.open_panel)(self.window, text.as_ptr()) }
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

/// Starts the network; see `network.h`.
///
/// # Safety
/// `window` points to a window that lives until the application terminates.
#[unsafe(no_mangle)]
unsafe extern "C" fn network_start(window: *const Window) -> bool {
    // SAFETY: the caller promises it.
    let window = unsafe { *window };
    match catch_unwind(|| crate::start(window).map_err(|error| error.to_string())) {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            eprintln!("there is no network: {error}");
            false
        }
        Err(_) => false,
    }
}
