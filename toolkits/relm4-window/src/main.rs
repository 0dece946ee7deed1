//! A Relm4 component that gets messages from an HTTP server in its own thread.
//!
//!     curl -X PUT -d hello http://ADDRESS/label
//!     curl -X POST http://ADDRESS/quit
//!
//! Relm4 runs a `gtk4::Application`, so `entwined_gtk4::attach` is all that it takes. The component
//! owns the server: when the component goes, the server does.

use entwined_gtk4::entwined::{Handle, transport::tcp};
use entwined_http::{self as http, Router, Server};
use relm4::{
    ComponentParts, ComponentSender, RelmApp, RelmWidgetExt, SimpleComponent, gtk, gtk::prelude::*,
};

struct Model {
    text: String,
    requests: u32,
    _server: Server,
}

#[derive(Debug)]
enum Message {
    Text(String),
    Quit,
}

#[relm4::component]
impl SimpleComponent for Model {
    type Init = Handle;
    type Input = Message;
    type Output = ();

    view! {
        gtk::Window {
            set_title: Some("Entwined in Relm4"),
            set_default_width: 360,
            gtk::Box {
                set_orientation: gtk::Orientation::Vertical,
                set_spacing: 12,
                set_margin_all: 24,
                gtk::Label {
                    #[watch]
                    set_label: &model.text,
                },
                gtk::Label {
                    #[watch]
                    set_label: &format!("{} requests", model.requests),
                },
            }
        }
    }

    fn init(
        network: Handle,
        root: Self::Root,
        sender: ComponentSender<Self>,
    ) -> ComponentParts<Self> {
        let (text, quit) = (sender.input_sender().clone(), sender.input_sender().clone());
        let router = Router::new()
            .put("/label", move |body: String| {
                text.emit(Message::Text(body));
                "shown\n"
            })
            .post("/quit", move || {
                quit.emit(Message::Quit);
                "bye\n"
            });
        let listener = tcp::listen(&network, "127.0.0.1:0").expect("a free port");
        let server = http::serve(listener, router);
        println!("listening on http://{}", server.local_address());
        let model = Model {
            text: "Waiting for a request".to_owned(),
            requests: 0,
            _server: server,
        };
        let widgets = view_output!();
        ComponentParts { model, widgets }
    }

    fn update(&mut self, message: Message, _: ComponentSender<Self>) {
        match message {
            Message::Text(text) => {
                self.text = text;
                self.requests += 1;
            }
            Message::Quit => relm4::main_application().quit(),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let application = gtk::Application::builder()
        .application_id("org.example.EntwinedRelm4")
        .build();
    let network = entwined_gtk4::attach(&application)?;
    // The program's arguments are not Relm4's.
    RelmApp::from_app(application)
        .with_args(Vec::new())
        .run::<Model>(network.handle());
    Ok(())
}
