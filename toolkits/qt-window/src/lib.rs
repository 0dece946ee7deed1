//! The network of a C++ program: an HTTP server in the thread of its widgets.

mod sys;

use entwined_http::{self as http, Router};
use entwined_qt::entwined::transport::tcp;
use sys::Window;

/// Serves in the application's loop, until the application quits.
fn start(window: Window) -> Result<(), Box<dyn std::error::Error>> {
    let network = entwined_qt::attach()?;
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
    network.keep();
    Ok(())
}
