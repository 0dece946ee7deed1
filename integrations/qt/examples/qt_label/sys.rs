//! The network of a C++ window whose label is set by requests.
//!
//! ```text
//! cd integrations/qt; cargo build --example qt_label
//! c++ -fPIC examples/qt_label/window.cpp ../../toolkits/target/debug/examples/libqt_label.a \
//!     $(pkg-config --cflags --libs Qt6Widgets) -o qt_label
//! ./qt_label                             and in a terminal: curl -X PUT -d hello ADDRESS/label
//! ```

use std::{
    error::Error,
    ffi::{CString, c_char},
};

use entwined_http::{self as http, Router};
use entwined_qt::entwined::transport::tcp;

unsafe extern "C" {
    fn window_set_label(text: *const c_char);
    safe fn window_quit();
}

/// C++ calls this when it has made its `QApplication`. False if the network cannot be started.
#[unsafe(no_mangle)]
extern "C" fn network_start() -> bool {
    serve()
        .map_err(|error| eprintln!("no network: {error}"))
        .is_ok()
}

fn serve() -> Result<(), Box<dyn Error>> {
    let network = entwined_qt::attach()?.keep();
    // Handlers run on the GUI's thread.
    let router = Router::new()
        .post("/quit", || window_quit())
        .put("/label", |text: String| {
            let text = CString::new(text).unwrap_or_default();
            // SAFETY: the text lives until the call has returned, and ends with a zero.
            unsafe { window_set_label(text.as_ptr()) };
        });
    let server = http::serve(tcp::listen(&network, "127.0.0.1:0")?, router);
    println!("listening on http://{}", server.local_address());
    server.keep();
    Ok(())
}
