//! A window that serves. `PUT /label` sets its label, `POST /dialog` opens a modal dialog and
//! answers when it is closed, `DELETE /dialog` closes it, `POST /quit` closes the window.
//!
//! It prints the address that it listens on.

#[cfg(windows)]
#[path = "window/windows.rs"]
mod program;

#[cfg(not(windows))]
#[path = "window/other.rs"]
mod program;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    program::main()
}
