//! A GTK 3 window whose label is set over HTTP, in the window's own thread.
//!
//!     curl -X PUT -d hello http://ADDRESS/label
//!     curl -X POST http://ADDRESS/quit
//!
//! gtk 0.18 brings glib 0.18, and `entwined-glib` a newer one. There is only one GLib below, and
//! `attach_default` has no type of either. The same works in tao, wry and Tauri.

use entwined_glib::entwined::transport::tcp;
use entwined_http::{self as http, Router};
use gtk::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    gtk::init()?;
    let label = gtk::Label::new(Some("Waiting for a request"));
    let column = gtk::Box::new(gtk::Orientation::Vertical, 12);
    column.set_border_width(24);
    column.add(&label);
    let window = gtk::Window::new(gtk::WindowType::Toplevel);
    window.set_title("Entwined in GTK 3");
    window.set_default_size(360, 120);
    window.add(&column);
    window.connect_delete_event(|_, _| {
        gtk::main_quit();
        gtk::glib::Propagation::Stop
    });
    window.show_all();

    let network = entwined_glib::attach_default()?;
    let router = Router::new()
        .put("/label", move |text: String| {
            label.set_text(&text);
            "shown\n"
        })
        .post("/quit", || {
            // The answer is sent first.
            gtk::glib::idle_add_local_once(gtk::main_quit);
            "bye\n"
        });
    let server = http::serve(tcp::listen(&network, "127.0.0.1:0")?, router);
    println!("listening on http://{}", server.local_address());
    gtk::main();
    Ok(())
}
