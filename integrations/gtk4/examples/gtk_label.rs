//! A GTK window whose label is set by requests.
//!
//! ```text
//! cargo run -p entwined-gtk4 --example gtk_label        and in a terminal: curl -d hello ADDRESS
//! ```

use std::error::Error;

use entwined_gtk4::{
    entwined::transport::tcp,
    gtk4::{Application, ApplicationWindow, Label, prelude::*},
};
use entwined_http::{self as http, Router};

fn main() -> Result<(), Box<dyn Error>> {
    let application = Application::builder()
        .application_id("org.example.Label")
        .build();
    let network = entwined_gtk4::attach(&application)?;
    application.connect_activate(move |application| {
        let label = Label::new(Some("Nobody has said anything."));
        ApplicationWindow::builder()
            .application(application)
            .title("Label")
            .default_width(400)
            .default_height(120)
            .child(&label)
            .build()
            .present();
        // A handler runs in the window's thread, between frames, and may hold widgets.
        let router = Router::new().post("/", move |text: String| {
            let before = label.text();
            label.set_text(&text);
            format!("before: {before}\n")
        });
        let listener = tcp::listen(&network, "127.0.0.1:0").expect("a free port");
        let server = http::serve(listener, router);
        println!("listening on {}", server.local_address());
        server.keep();
    });
    application.run();
    Ok(())
}
