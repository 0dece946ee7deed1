//! The system calls of a message loop.

use std::{mem, ptr, time::Duration};

use windows_sys::Win32::UI::WindowsAndMessaging::{
    DispatchMessageW, MSG, MWMO_INPUTAVAILABLE, MsgWaitForMultipleObjectsEx, PM_REMOVE,
    PeekMessageW, QS_ALLINPUT, TranslateMessage,
};

/// Hands out one message, after waiting for it for at most `wait`.
pub(crate) fn dispatch_one(wait: Option<Duration>) {
    const FOREVER: u32 = u32::MAX;
    if peek() {
        return;
    }
    let milliseconds = wait.map_or(FOREVER, |wait| {
        let rounded = wait.as_nanos().div_ceil(1_000_000);
        u32::try_from(rounded).unwrap_or(FOREVER).min(FOREVER - 1)
    });
    if milliseconds == 0 {
        return;
    }
    // SAFETY: without handles, none are read.
    unsafe {
        MsgWaitForMultipleObjectsEx(
            0,
            ptr::null(),
            milliseconds,
            QS_ALLINPUT,
            MWMO_INPUTAVAILABLE,
        )
    };
    peek();
}

/// Hands out a message if there is one.
fn peek() -> bool {
    // SAFETY: a message is plain data, which the system fills in.
    unsafe {
        let mut message: MSG = mem::zeroed();
        if PeekMessageW(&mut message, ptr::null_mut(), 0, 0, PM_REMOVE) == 0 {
            return false;
        }
        TranslateMessage(&message);
        DispatchMessageW(&message);
    }
    true
}
