//! The network of a window in another language: an HTTP server in the thread of its widgets.
//!
//! `qt-window` and `cocoa-window` are such windows. Each is linked with a static library of one
//! function, which says how to attach to its toolkit.

mod sys;

use std::{cell::Cell, error, io};

use entwined::{Handle, transport::tcp};
use entwined_http::{self as http, Error, Router, StatusCode};
pub use sys::{Window, start};

/// Serves in the application's loop, until the application quits.
fn serve(window: Window, attach: fn() -> io::Result<Handle>) -> Result<(), Box<dyn error::Error>> {
    let network = attach()?;
    let server = http::serve(tcp::listen(&network, "127.0.0.1:0")?, router(window));
    println!("listening on http://{}", server.local_address());
    server.keep();
    Ok(())
}

fn router(window: Window) -> Router {
    // Each dialog is a loop on the stack, and the network rests while sixteen are.
    let open = Cell::new(false);
    Router::new()
        .put("/label", move |text: String| {
            window.set_label(&text);
            "set\n"
        })
        .post("/dialog", move || {
            if open.replace(true) {
                return Err(Error::new(StatusCode::CONFLICT, "a dialog is open already"));
            }
            // The dialog's loop runs inside this call. It serves all other requests.
            window.open_dialog("A request opened this dialog, and waits until it is closed.");
            open.set(false);
            Ok("closed\n")
        })
        .post("/quit", move || {
            window.quit();
            "it quits\n"
        })
}
