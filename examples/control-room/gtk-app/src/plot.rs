//! The requests per second over the last minute, as a small plot that moves with every frame.

use std::cell::RefCell;
use std::time::Instant;

use gtk::cairo;
use gtk::prelude::*;
use site::{Model, plot};

/// Indigo, readable on a light and on a dark background.
const TINT: (f64, f64, f64) = (0.376, 0.388, 0.882);
const HEIGHT: i32 = 96;
const LINE: f64 = 2.0;

/// Creates a plot of `model`'s history. It draws when it is asked to; [`crate::ui`] asks once per
/// frame.
pub fn build(model: Model) -> gtk::DrawingArea {
    let area = gtk::DrawingArea::builder()
        .content_height(HEIGHT)
        .hexpand(true)
        .accessible_role(gtk::AccessibleRole::Img)
        .tooltip_text("Requests per second over the last minute")
        .build();
    // Reused from frame to frame, so a frame allocates nothing here.
    let history = RefCell::new(Vec::new());
    area.set_draw_func(move |_, cairo, width, height| {
        let mut history = history.borrow_mut();
        model.history(&mut history);
        let size = (f64::from(width), f64::from(height) - LINE);
        // A failed drawing operation leaves the context in an error state, which GTK reports
        // itself.
        let _ = draw(cairo, &history, model.phase(Instant::now()), size);
    });
    area
}

fn draw(
    cairo: &cairo::Context,
    history: &[u32],
    phase: f64,
    (width, height): (f64, f64),
) -> Result<(), cairo::Error> {
    let (red, green, blue) = TINT;
    let top = plot::scale(history.iter().copied().max().unwrap_or(0));
    cairo.translate(0.0, LINE / 2.0);

    cairo.set_source_rgba(0.5, 0.5, 0.55, 0.25);
    cairo.set_line_width(1.0);
    for third in 0..=3 {
        let y = (height * f64::from(third) / 3.0).round() + 0.5;
        cairo.move_to(0.0, y);
        cairo.line_to(width, y);
    }
    cairo.stroke()?;

    for (x, y) in plot::points(history, top, phase, (width, height)) {
        cairo.line_to(x, y);
    }
    cairo.set_source_rgb(red, green, blue);
    cairo.set_line_width(LINE);
    cairo.set_line_join(cairo::LineJoin::Round);
    cairo.stroke_preserve()?;
    cairo.line_to(width * 1.1, height);
    cairo.line_to(-width, height);
    cairo.set_source_rgba(red, green, blue, 0.15);
    cairo.fill()
}
