//! A loop of the program's own, which pumps winit's events.

use std::time::{Duration, Instant};

use entwined_winit::Winit;
use winit::{
    application::ApplicationHandler,
    dpi::PhysicalSize,
    event::WindowEvent,
    event_loop::{ActiveEventLoop, EventLoop},
    window::{Window, WindowId},
};

#[derive(Default)]
struct App {
    window: Option<Window>,
    width: u32,
}

impl ApplicationHandler for App {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        let window = event_loop.create_window(Window::default_attributes());
        self.window = Some(window.expect("a window"));
    }

    fn window_event(&mut self, _: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        if let WindowEvent::Resized(size) = event {
            self.width = size.width;
        }
    }
}

/// A request with a reply reads whatever the display has sent, and then no fd announces it.
fn main() {
    let mut event_loop =
        EventLoop::new().expect("a display; set DISPLAY, for example to that of an Xvfb");
    let (network, mut app) = (Winit::<App>::new().expect("a reactor"), App::default());
    network.start().expect("a run");
    let wait = Duration::from_millis(500);
    let mut pump = |app: &mut App| {
        network
            .pump(&mut event_loop, Some(wait), app)
            .expect("it can wait")
    };
    while app.window.is_none() {
        pump(&mut app);
    }
    let mut all = Vec::new();
    for width in 500..505 {
        // Until nothing has happened for some time.
        let mut start = Instant::now();
        while start.elapsed() < wait {
            start = Instant::now();
            pump(&mut app);
        }
        let window = app.window.as_ref().expect("resumed by now");
        let _ = window.request_inner_size(PhysicalSize::new(width, 100));
        // The reply comes after the event.
        if window.inner_position().is_err() {
            println!("not tested: on Wayland winit reads all events itself");
            return;
        }
        let asked = Instant::now();
        while app.width != width {
            pump(&mut app);
        }
        all.push(asked.elapsed());
    }
    all.sort();
    assert!(all[2] < wait / 2, "noticed after {all:?}");
}
