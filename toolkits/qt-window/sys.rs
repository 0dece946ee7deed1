//! The network of a program in C++: the library that it is linked with.

use foreign_window::Window;

/// Starts the network; see `network.h`.
///
/// # Safety
/// `window` points to a window that lives until the application quits.
#[unsafe(no_mangle)]
unsafe extern "C" fn network_start(window: *const Window) -> bool {
    // SAFETY: the caller promises it.
    unsafe { foreign_window::start(window, || Ok(entwined_qt::attach()?.keep())) }
}
