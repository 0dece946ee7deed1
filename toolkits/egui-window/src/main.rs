//! An egui window with a server and a download in its own thread.
//!
//!     curl -X PUT -d hello http://ADDRESS/label
//!     curl -X POST -d http://example.org/file http://ADDRESS/download
//!     curl -X POST http://ADDRESS/quit
//!
//! eframe is a winit application, and `Winit::run` is its loop: one thread, one sleep for both.

use std::{cell::RefCell, error::Error, rc::Rc};

use eframe::{
    CreationContext, EframeWinitApplication, NativeOptions, UserEvent,
    egui::{CentralPanel, Context, ProgressBar, Ui, ViewportBuilder, ViewportCommand},
};
use entwined_http::{self as http, Router, client::Client};
use entwined_winit::{
    Winit,
    entwined::{
        Handle,
        transport::{ListenError, tcp},
    },
    winit::event_loop::EventLoop,
};

/// What the window shows.
#[derive(Default)]
struct Shown {
    text: String,
    received: usize,
    size: Option<usize>,
}

/// The window, as requests know it.
#[derive(Clone)]
struct Window {
    shown: Rc<RefCell<Shown>>,
    egui: Context,
}

impl Window {
    /// egui draws only when something has happened, so it must hear of it.
    fn change(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.shown.borrow_mut());
        self.egui.request_repaint();
    }
}

struct App(Rc<RefCell<Shown>>);

impl eframe::App for App {
    fn ui(&mut self, ui: &mut Ui, _: &mut eframe::Frame) {
        let shown = self.0.borrow();
        let share = shown
            .size
            .map_or(0.0, |size| shown.received as f32 / size as f32);
        CentralPanel::default().show_inside(ui, |ui| {
            ui.vertical_centered(|ui| {
                ui.heading(&shown.text);
                ui.add(ProgressBar::new(share).show_percentage());
                ui.label(format!("{} bytes", shown.received));
            });
        });
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let event_loop = EventLoop::<UserEvent>::with_user_event().build()?;
    let network = Winit::<EframeWinitApplication>::new()?;
    let handle = network.handle();
    let create = move |created: &CreationContext| {
        let window = Window {
            shown: Rc::default(),
            egui: created.egui_ctx.clone(),
        };
        let app = Box::new(App(window.shown.clone()));
        serve(&handle, window)?;
        Ok(app as Box<dyn eframe::App>)
    };
    let options = NativeOptions {
        viewport: ViewportBuilder::default().with_inner_size([480.0, 120.0]),
        ..NativeOptions::default()
    };
    let title = "Entwined in egui";
    let mut app = eframe::create_native(title, options, Box::new(create), &event_loop);
    network.run(event_loop, &mut app)?;
    Ok(())
}

fn serve(network: &Handle, window: Window) -> Result<(), ListenError> {
    let client = Client::new(network);
    let (label, bar) = (window.clone(), window.clone());
    let router = Router::new()
        .put("/label", move |text: String| {
            label.change(|shown| shown.text = text);
            "shown\n"
        })
        .post("/download", move |url: String| {
            download(client.clone(), url, bar.clone())
        })
        .post("/quit", move || {
            window.egui.send_viewport_cmd(ViewportCommand::Close);
            "bye\n"
        });
    let server = http::serve(tcp::listen(network, "127.0.0.1:0")?, router);
    println!("listening on http://{}", server.local_address());
    server.keep();
    Ok(())
}

/// Fetches `url`, and shows in the window how much of it has come.
async fn download(client: Client, url: String, window: Window) -> Result<String, Box<dyn Error>> {
    let mut response = client.get(&url).send().await?.error_for_status()?;
    let size = response.header("content-length");
    let size = size.and_then(|size| size.parse().ok());
    let mut received = 0;
    while let Some(piece) = response.chunk().await? {
        received += piece.len();
        window.change(|shown| (shown.received, shown.size) = (received, size));
    }
    Ok(format!("{received} bytes\n"))
}
