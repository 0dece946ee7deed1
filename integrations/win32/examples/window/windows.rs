//! The program.

mod sys;

use std::{cell::Cell, error::Error, rc::Rc};

use entwined::transport::tcp;
use entwined_http::{self as http, Error as HttpError, Request, Router, StatusCode};

use sys::Window;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let window = Rc::new(Window::open(
        "Entwined",
        "Nobody has asked for anything yet.",
    )?);
    let network = entwined_win32::attach()?;
    let handle = network.handle();

    let label = window.clone();
    let (dialog, answered) = (window.clone(), window.clone());
    let open = Cell::new(false);
    let router = Router::new()
        .get("/", || async {
            "PUT /label, POST /dialog, DELETE /dialog, POST /quit\n"
        })
        .put("/label", move |mut request: Request| {
            let label = label.clone();
            async move {
                label.set_label(&request.text().await?);
                Ok::<_, HttpError>("")
            }
        })
        // A handler has the thread, as any callback of a window. The dialog runs a message loop of
        // its own, in which other requests are served. Each is on the stack, so one is enough.
        .post("/dialog", move || {
            if open.replace(true) {
                return Err(HttpError::new(
                    StatusCode::CONFLICT,
                    "a dialog is open already",
                ));
            }
            dialog.ask("A request has opened this.");
            open.set(false);
            Ok("it was closed\n")
        })
        .delete("/dialog", move || {
            answered.answer();
            async { "" }
        })
        .post("/quit", move || {
            window.close();
            async { "" }
        });
    let server = http::serve(tcp::listen(&handle, "127.0.0.1:0")?, router);
    let address = server.local_address().tcp().expect("it listens on TCP");
    println!("listening on http://{address}");

    sys::run_message_loop();
    Ok(())
}
