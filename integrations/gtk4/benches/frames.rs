//! Measures how even a window's frames are while the network is fully busy, and how much work the
//! network gets done meanwhile.
//!
//! A window is redrawn in each frame while 64 tasks are always ready, each with some 6 microseconds
//! of work (about as much as one request takes). Prints one line for each way of sharing the
//! thread. Needs a display. An argument (a number) sets the seconds for each line.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use entwined::{Handle, reactor::Pacing};
use entwined_glib::{Attachment, Config};
use gtk4::{
    Application, ApplicationWindow, Label, gio,
    glib::{self, MainContext, Priority},
    prelude::*,
};

const TASKS: usize = 64;
const WORK: Duration = Duration::from_micros(6);

fn main() {
    let seconds = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(10);
    let seconds = Duration::from_secs(seconds);
    println!(
        "{:<28} {:>7} {:>7} {:>7} {:>7} {:>9}",
        "", "frames", "p50 ms", "p99 ms", "max ms", "polls/s"
    );
    measure("idle", seconds, |_| None);
    measure("frame clock", seconds, |application| {
        let attachment = entwined_gtk4::attach(application).expect("a reactor");
        Some((attachment.keep(), None))
    });
    for (priority, milliseconds) in [(121, 1), (121, 2), (121, 4), (0, 2)] {
        let name = format!("priority {priority}, {milliseconds} ms");
        measure(&name, seconds, |_| {
            let config = Config::new().priority(Priority::from(priority));
            let attachment = config.attach(&MainContext::default()).expect("a reactor");
            attachment
                .handle()
                .set_pacing(Pacing::fixed(Duration::from_millis(milliseconds)));
            Some((attachment.handle(), Some(attachment)))
        });
    }
}

fn measure(
    name: &str,
    duration: Duration,
    attach: impl FnOnce(&Application) -> Option<(Handle, Option<Attachment>)>,
) {
    let application = Application::builder()
        .flags(gio::ApplicationFlags::NON_UNIQUE)
        .build();
    let attached = attach(&application);
    let polls = Rc::new(Cell::new(0_u64));
    let paints: Rc<RefCell<Vec<Instant>>> = Rc::default();
    application.connect_activate({
        let paints = paints.clone();
        move |application| {
            let label = Label::new(Some("frames"));
            let window = ApplicationWindow::builder()
                .application(application)
                .default_width(400)
                .default_height(300)
                .build();
            window.set_child(Some(&label));
            let frame = Cell::new(0_u64);
            window.add_tick_callback(move |_, _| {
                frame.set(frame.get() + 1);
                label.set_text(&format!("frame {}", frame.get()));
                label.queue_draw();
                glib::ControlFlow::Continue
            });
            let paints = paints.clone();
            window.connect_realize(move |window| {
                let paints = paints.clone();
                let clock = window.surface().expect("it is realized").frame_clock();
                clock.connect_after_paint(move |_| paints.borrow_mut().push(Instant::now()));
            });
            window.present();
            let application = application.clone();
            glib::timeout_add_local_once(duration, move || {
                // A window left open would keep drawing next to the next one.
                window.destroy();
                application.quit();
            });
        }
    });
    if let Some((handle, _)) = &attached {
        for _ in 0..TASKS {
            let polls = polls.clone();
            handle.spawn(std::future::poll_fn::<(), _>(move |cx| {
                let start = Instant::now();
                while start.elapsed() < WORK {}
                polls.set(polls.get() + 1);
                cx.waker().wake_by_ref();
                std::task::Poll::Pending
            }));
        }
    }
    application.run_with_args::<&str>(&[]);
    // Skips the first half second, in which the window is created.
    let paints = paints.borrow();
    let settled = paints
        .first()
        .map(|first| *first + Duration::from_millis(500));
    let mut gaps: Vec<f64> = paints
        .windows(2)
        .filter(|pair| settled.is_some_and(|settled| pair[0] > settled))
        .map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3)
        .collect();
    gaps.sort_by(f64::total_cmp);
    let at = |share: f64| {
        gaps.get((gaps.len() as f64 * share) as usize)
            .copied()
            .unwrap_or(f64::NAN)
    };
    println!(
        "{name:<28} {:>7} {:>7.2} {:>7.2} {:>7.2} {:>9.0}",
        gaps.len(),
        at(0.5),
        at(0.99),
        gaps.last().copied().unwrap_or(f64::NAN),
        polls.get() as f64 / duration.as_secs_f64(),
    );
}
