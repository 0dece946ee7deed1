//! The network of a window in another language: an HTTP server in the thread of its widgets.
//!
//! `qt-window` and `cocoa-window` are such windows. Each is linked with a static library of one
//! function, which says how to attach to its toolkit.

mod sys;

use std::{error::Error, io};

use entwined::{Handle, transport::tcp};
use entwined_http::{self as http, Router};
pub use sys::{Window, start};

/// Serves in the application's loop, until the application quits.
fn serve(window: Window, attach: fn() -> io::Result<Handle>) -> Result<(), Box<dyn Error>> {
    let network = attach()?;
    let router = Router::new()
        .put("/label", move |text: String| {
            window.set_label(&text);
            "set\n"
        })
        .post("/dialog", move || {
            // The dialog's loop runs inside this call. It serves all other requests.
            window.open_dialog("A request opened this dialog, and waits until it is closed.");
            "closed\n"
        })
        .post("/quit", move || {
            window.quit();
            "it quits\n"
        });
    let server = http::serve(tcp::listen(&network, "127.0.0.1:0")?, router);
    println!("listening on http://{}", server.local_address());
    server.keep();
    Ok(())
}
