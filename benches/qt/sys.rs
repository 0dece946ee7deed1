//! The server of the window in `main.cpp`, in the window's thread.

use std::{error::Error, ffi::c_void, net::SocketAddr, panic::catch_unwind};

use entwined_http::{self as http, Router};
use entwined_qt::entwined::transport::tcp;

/// The window, and what each request does to it.
#[derive(Clone, Copy)]
struct Window {
    request: unsafe extern "C" fn(*mut c_void),
    window: *mut c_void,
}

impl Window {
    fn request(&self) {
        // SAFETY: whoever called `serve` promises that the window lives until the application
        // quits. It is not `Send`, so this is the GUI's thread.
        unsafe { (self.request)(self.window) }
    }
}

/// Serves on a port of the loopback interface until the application quits, and prints the address.
/// Each request calls `request`. Returns whether that succeeded.
///
/// # Safety
/// `window` is what `request` expects, and lives until the application quits.
#[unsafe(no_mangle)]
unsafe extern "C" fn serve(
    port: u16,
    request: unsafe extern "C" fn(*mut c_void),
    window: *mut c_void,
) -> bool {
    let window = Window { request, window };
    let served = catch_unwind(|| start(port, window).map_err(|error| eprintln!("{error}")));
    matches!(served, Ok(Ok(())))
}

fn start(port: u16, window: Window) -> Result<(), Box<dyn Error>> {
    let network = entwined_qt::attach()?.keep();
    let router = Router::new().get("/hello", move || {
        window.request();
        "hello, world"
    });
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let server = http::serve(tcp::listen(&network, address)?, router);
    println!("http listening on {}", server.local_address());
    server.keep();
    Ok(())
}
