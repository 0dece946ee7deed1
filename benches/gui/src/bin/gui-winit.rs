//! A winit window with a web server.

use std::{
    error::Error,
    num::NonZero,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use entwined::transport::tcp;
use entwined_http::{self as http, Router};
use entwined_winit::Winit;
use gui::{Frames, Options, Told, Who};
use softbuffer::{Context, Surface};
use winit::{
    application::ApplicationHandler,
    dpi::PhysicalSize,
    event::{StartCause, WindowEvent},
    event_loop::{ActiveEventLoop, ControlFlow, EventLoop},
    window::{Window, WindowId},
};

struct App {
    options: Options,
    frames: Frames,
    surface: Option<Surface<Rc<Window>, Rc<Window>>>,
    interval: Duration,
    next: Instant,
    end: Instant,
    count: u64,
    text: String,
}

impl App {
    fn new(options: Options) -> Self {
        let now = Instant::now();
        let end = now + Duration::from_secs(options.seconds);
        App {
            options,
            frames: Frames::default(),
            surface: None,
            interval: Duration::from_secs_f64(1.0 / options.hertz),
            next: now,
            end,
            count: 0,
            text: String::new(),
        }
    }

    fn request(&mut self) {
        self.count += 1;
        self.text = format!("{} requests", self.count);
    }

    fn draw(&mut self) {
        gui::spend(self.options.cost);
        let Some(surface) = &mut self.surface else {
            return;
        };
        let PhysicalSize { width, height } = surface.window().inner_size();
        let (Some(wide), Some(high)) = (NonZero::new(width), NonZero::new(height)) else {
            return;
        };
        surface.resize(wide, high).expect("a surface");
        let mut pixels = surface.buffer_mut().expect("pixels");
        pixels.fill(0xff_ff_ff);
        let at = (self.frames.number() % 60) as u32 * width / 60;
        for row in pixels.chunks_exact_mut(width as usize) {
            row[at as usize..(at + 20).min(width) as usize].fill(0);
        }
        // Stands in for text without a font: a bar for each byte.
        for (place, byte) in self.text.bytes().enumerate().take(width as usize / 4) {
            pixels[place * 4 + usize::from(byte) % 8 * width as usize] = 0;
        }
        pixels.present().expect("a display");
        self.frames.drawn();
    }
}

impl ApplicationHandler<Told> for App {
    fn new_events(&mut self, _: &ActiveEventLoop, _: StartCause) {
        let now = Instant::now();
        if now >= self.next {
            // Back on the beat after a late frame, and never two frames at once.
            while self.next <= now {
                self.next += self.interval;
            }
            if let Some(surface) = &self.surface {
                surface.window().request_redraw();
            }
        }
    }

    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        let attributes = Window::default_attributes().with_inner_size(PhysicalSize::new(400, 300));
        let window = Rc::new(event_loop.create_window(attributes).expect("a window"));
        let context = Context::new(window.clone()).expect("a display");
        self.surface = Some(Surface::new(&context, window).expect("a surface"));
    }

    fn user_event(&mut self, _: &ActiveEventLoop, told: Told) {
        self.request();
        let _ = told.send(());
    }

    fn window_event(&mut self, _: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        if event == WindowEvent::RedrawRequested {
            self.draw();
        }
    }

    fn about_to_wait(&mut self, event_loop: &ActiveEventLoop) {
        event_loop.set_control_flow(ControlFlow::WaitUntil(self.next));
        if Instant::now() >= self.end {
            event_loop.exit();
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse()?;
    let event_loop = EventLoop::<Told>::with_user_event().build()?;
    let mut app = App::new(options);
    match options.who {
        Who::Ours => {
            let network = Winit::<App>::new()?;
            let handle = network.handle();
            let lent = network.app();
            let router = Router::new().get("/hello", move || {
                lent.with(App::request);
                "hello, world"
            });
            let server = http::serve(tcp::listen(&handle, options.http)?, router);
            println!("http listening on {}", server.local_address());
            gui::begin_load(&handle, options.load);
            network.run(event_loop, &mut app)?;
        }
        Who::Idle => {
            println!("http listening on nothing");
            event_loop.run_app(&mut app)?;
        }
        Who::Tokio | Who::TokioPosts => {
            let proxy = std::sync::Mutex::new(event_loop.create_proxy());
            let say = move |told| drop(proxy.lock().expect("nobody panics").send_event(told));
            gui::serve_on_tokio(options.http, options.who == Who::Tokio, Arc::new(say));
            event_loop.run_app(&mut app)?;
        }
    }
    app.frames.report(app.options.hertz);
    Ok(())
}
