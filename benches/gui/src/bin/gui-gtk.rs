//! A GTK window with a web server.

use std::{cell::Cell, error::Error, rc::Rc, sync::Arc, time::Duration};

use entwined::transport::tcp;
use entwined_http::{self as http, Config, Request, Router};
use gtk4::{
    Application, ApplicationWindow, DrawingArea, Label, Orientation, gio, glib, prelude::*,
};
use gui::{Frames, Options, Told, Who};

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse()?;
    gtk4::init()?;
    let application = Application::builder()
        .flags(gio::ApplicationFlags::NON_UNIQUE)
        .build();
    let (frames, label) = (Rc::new(Frames::default()), Label::new(Some("no requests")));
    let count = Cell::new(0_u64);
    let set = {
        let label = label.clone();
        move || {
            count.set(count.get() + 1);
            label.set_text(&format!("{} requests", count.get()));
        }
    };
    // Kept as long as the window exists.
    let mut serving = None;
    match options.who {
        Who::Idle => println!("http listening on nothing"),
        Who::Ours => {
            let network = entwined_gtk4::attach(&application)?.keep();
            let router = Router::new()
                .get("/hello", move || {
                    set();
                    "hello, world"
                })
                .put("/upload", |mut request: Request| async move {
                    while let Some(_piece) = request.chunk().await? {}
                    Ok::<_, http::Error>(())
                });
            let config = Config {
                max_body_size: 200 * 1024 * 1024,
                ..Config::default()
            };
            let server = http::serve_with(tcp::listen(&network, options.http)?, router, config);
            println!("http listening on {}", server.local_address());
            gui::begin_load(&network, options.load);
            serving = Some(server);
        }
        Who::Tokio | Who::TokioPosts => {
            let (say, said) = async_channel::unbounded::<Told>();
            let say = Arc::new(move |told| say.try_send(told).expect("it is open"));
            gui::serve_on_tokio(options.http, options.who == Who::Tokio, say);
            // Below the redraw, as ours is: at the default priority frames are lost.
            glib::MainContext::default().spawn_local_with_priority(
                glib::Priority::from(121),
                async move {
                    while let Ok(told) = said.recv().await {
                        set();
                        let _ = told.send(());
                    }
                },
            );
        }
    }
    application.connect_activate({
        let frames = frames.clone();
        move |application| {
            open_window(application, &label, &frames, options.cost);
            let application = application.clone();
            glib::timeout_add_local_once(Duration::from_secs(options.seconds), move || {
                application.quit()
            });
        }
    });
    application.run_with_args::<&str>(&[]);
    drop(serving);
    frames.report(options.hertz);
    Ok(())
}

/// Opens a window that is redrawn in each frame, which takes the given processor time.
fn open_window(application: &Application, label: &Label, frames: &Rc<Frames>, cost: Duration) {
    let area = DrawingArea::builder().vexpand(true).build();
    let content = gtk4::Box::new(Orientation::Vertical, 0);
    content.append(label);
    content.append(&area);
    let window = ApplicationWindow::builder()
        .application(application)
        .default_width(400)
        .default_height(300)
        .child(&content)
        .build();
    let number = frames.clone();
    area.set_draw_func(move |_, cairo, width, height| {
        let at = (number.number() % 60) as f64 / 60.0;
        cairo.rectangle(at * f64::from(width), 0.0, 20.0, f64::from(height));
        let _ = cairo.fill();
    });
    area.add_tick_callback(move |area, _| {
        gui::spend(cost);
        area.queue_draw();
        glib::ControlFlow::Continue
    });
    let frames = frames.clone();
    window.connect_realize(move |window| {
        let frames = frames.clone();
        let clock = window.surface().expect("it is realized").frame_clock();
        clock.connect_after_paint(move |_| frames.drawn());
    });
    window.present();
}
