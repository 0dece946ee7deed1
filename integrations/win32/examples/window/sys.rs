//! The window, as any program has one.

use std::{io, mem, ptr};

use windows_sys::Win32::{
    Foundation::{HWND, LPARAM, LRESULT, WPARAM},
    Graphics::Gdi::{COLOR_WINDOW, HBRUSH, UpdateWindow},
    System::LibraryLoader::GetModuleHandleW,
    UI::WindowsAndMessaging::{
        CreateWindowExW, DefWindowProcW, DispatchMessageW, GetLastActivePopup, GetMessageW, IDOK,
        MB_OK, MSG, MessageBoxW, PostMessageW, PostQuitMessage, RegisterClassW, SetWindowTextW,
        TranslateMessage, WM_CLOSE, WM_COMMAND, WM_DESTROY, WNDCLASSW, WS_CHILD,
        WS_OVERLAPPEDWINDOW, WS_VISIBLE,
    },
};

pub(crate) struct Window {
    window: HWND,
    label: HWND,
}

impl Window {
    pub(crate) fn open(title: &str, label: &str) -> io::Result<Self> {
        let (name, title) = (wide("EntwinedWindow"), wide(title));
        let (kind, label) = (wide("STATIC"), wide(label));
        // SAFETY: all texts live until the calls have returned, and whatever else is null may be.
        let (window, label) = unsafe {
            let program = GetModuleHandleW(ptr::null());
            let class = WNDCLASSW {
                lpfnWndProc: Some(procedure),
                hInstance: program,
                hbrBackground: (COLOR_WINDOW + 1) as HBRUSH,
                lpszClassName: name.as_ptr(),
                ..mem::zeroed()
            };
            RegisterClassW(&class);
            let window = CreateWindowExW(
                0,
                name.as_ptr(),
                title.as_ptr(),
                WS_OVERLAPPEDWINDOW | WS_VISIBLE,
                20,
                20,
                420,
                160,
                ptr::null_mut(),
                ptr::null_mut(),
                program,
                ptr::null(),
            );
            let label = CreateWindowExW(
                0,
                kind.as_ptr(),
                label.as_ptr(),
                WS_CHILD | WS_VISIBLE,
                20,
                40,
                380,
                60,
                window,
                ptr::null_mut(),
                program,
                ptr::null(),
            );
            UpdateWindow(window);
            (window, label)
        };
        if window.is_null() || label.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(Window { window, label })
    }

    pub(crate) fn set_label(&self, text: &str) {
        // SAFETY: the text lives until the call has returned.
        unsafe { SetWindowTextW(self.label, wide(text).as_ptr()) };
    }

    /// Opens a modal dialog, and returns when it is closed.
    pub(crate) fn ask(&self, text: &str) {
        let title = wide("Entwined");
        // SAFETY: the texts live until the call has returned.
        unsafe { MessageBoxW(self.window, wide(text).as_ptr(), title.as_ptr(), MB_OK) };
    }

    /// Closes the dialog that is open, if there is one, as its button does.
    pub(crate) fn answer(&self) {
        // SAFETY: the window is this thread's, and a message may be posted to any window.
        unsafe {
            let dialog = GetLastActivePopup(self.window);
            if dialog != self.window {
                PostMessageW(dialog, WM_COMMAND, IDOK as WPARAM, 0);
            }
        }
    }

    pub(crate) fn close(&self) {
        // SAFETY: any window may be sent this, also one that is gone.
        unsafe { PostMessageW(self.window, WM_CLOSE, 0, 0) };
    }
}

/// Runs until the window is closed.
pub(crate) fn run_message_loop() {
    // SAFETY: a message is plain data, which the system fills in.
    unsafe {
        let mut message: MSG = mem::zeroed();
        while GetMessageW(&mut message, ptr::null_mut(), 0, 0) > 0 {
            TranslateMessage(&message);
            DispatchMessageW(&message);
        }
    }
}

unsafe extern "system" fn procedure(
    window: HWND,
    message: u32,
    wide: WPARAM,
    long: LPARAM,
) -> LRESULT {
    // SAFETY: these are the arguments that the system gave.
    unsafe {
        if message == WM_DESTROY {
            PostQuitMessage(0);
            return 0;
        }
        DefWindowProcW(window, message, wide, long)
    }
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}
