//! The network of an Objective-C program: an HTTP server in the main thread.

mod sys;

use entwined_cocoa::entwined::transport::tcp;
use entwined_http::{self as http, Router};
use sys::Window;

/// Serves in the application's loop, until the application terminates.
fn start(window: Window) -> Result<(), Box<dyn std::error::Error>> {
    let network = entwined_cocoa::attach()?;
    let router = Router::new()
        .put("/label", move |text: String| {
            window.set_label(&text);
            "set\n"
        })
        .post("/panel", move || {
            // The panel's loop runs inside this call. It serves all other requests.
            window.open_panel("A request opened this panel, and waits until it is closed.");
            "closed\n"
        })
        .post("/quit", move || {
            window.quit();
            "it quits\n"
        });
    let server = http::serve(tcp::listen(&network, "127.0.0.1:0")?, router);
    println!("listening on http://{}", server.local_address());
    server.keep();
    network.keep();
    Ok(())
}
