//! A Slint window with a server and a download in its own thread.
//!
//!     curl -X PUT -d hello http://ADDRESS/label
//!     curl -X POST -d http://example.org/file http://ADDRESS/download
//!     curl -X POST http://ADDRESS/quit
//!
//! Slint's loop watches no file descriptors for others, but any thread can send it a closure:
//! `Interleave` is made for such a loop. It is attached here before there is anything of Slint.
//! Slint takes closures only when it has its first window; until then the network asks again.

use std::error::Error;

use entwined::{reactor::Interleave, transport::tcp};
use entwined_http::{self as http, Router, client::Client};
use slint::ComponentHandle;
use ui::Main;

#[allow(missing_docs)]
mod ui {
    slint::slint! {
        import { ProgressIndicator, VerticalBox } from "std-widgets.slint";

        export component Main inherits Window {
            title: "Entwined in Slint";
            preferred-width: 480px;
            in property <string> text: "Waiting for a request";
            in property <string> received: "Nothing is downloaded";
            in property <float> progress;

            VerticalBox {
                padding: 24px;
                Text { text: root.text; font-size: 20px; horizontal-alignment: center; }
                ProgressIndicator { progress: root.progress; }
                Text { text: root.received; horizontal-alignment: center; }
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let network = Interleave::new(|call| drop(slint::invoke_from_event_loop(call)))?;
    network.start()?;
    let handle = network.handle();
    let (listener, client) = (tcp::listen(&handle, "127.0.0.1:0")?, Client::new(&handle));

    let window = Main::new()?;
    let (label, bar) = (window.clone_strong(), window.clone_strong());
    let router = Router::new()
        .put("/label", move |text: String| {
            label.set_text(text.into());
            "shown\n"
        })
        .post("/download", move |url: String| {
            download(client.clone(), url, bar.clone_strong())
        })
        .post("/quit", || {
            // The answer is sent first.
            let _ = slint::quit_event_loop();
            "bye\n"
        });
    let server = http::serve(listener, router);
    println!("listening on http://{}", server.local_address());
    window.run()?;
    Ok(())
}

/// Fetches `url`, and shows in the window how much of it has come.
async fn download(client: Client, url: String, window: Main) -> Result<String, Box<dyn Error>> {
    let mut response = client.get(&url).send().await?.error_for_status()?;
    let size: Option<f32> = response
        .header("content-length")
        .and_then(|size| size.parse().ok());
    let mut received = 0;
    while let Some(piece) = response.chunk().await? {
        received += piece.len();
        window.set_received(format!("{received} bytes").into());
        window.set_progress(size.map_or(0.0, |size| received as f32 / size));
    }
    window.set_progress(1.0);
    Ok(format!("{received} bytes\n"))
}
