//! A winit window whose title is set by requests.
//!
//! ```text
//! cargo run -p entwined-winit --example winit_label       and in a terminal: curl -d hello ADDRESS
//! ```

use std::{cell::RefCell, error::Error};

use entwined_http::{self as http, Router};
use entwined_winit::{Winit, entwined::transport::tcp, winit};
use winit::application::ApplicationHandler;
use winit::event::WindowEvent;
use winit::event_loop::{ActiveEventLoop, EventLoop};
use winit::window::{Window, WindowId};

#[derive(Default)]
struct App(Option<Window>);

impl ApplicationHandler for App {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        let window = event_loop.create_window(Window::default_attributes());
        self.0 = Some(window.expect("a window"));
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        if event == WindowEvent::CloseRequested {
            event_loop.exit();
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let network = Winit::<App>::new()?;
    // The application is lent to handlers, which run between its own callbacks.
    let app = network.app();
    let title = RefCell::new(String::new());
    let router = Router::new().post("/", move |text: String| {
        app.with(|App(window)| window.as_ref().expect("resumed").set_title(&text));
        format!("before: {}\n", title.replace(text))
    });
    let server = http::serve(tcp::listen(&network.handle(), "127.0.0.1:0")?, router);
    println!("listening on {}", server.local_address());
    Ok(network.run(EventLoop::new()?, &mut App::default())?)
}
