//! The conformance suite in a GTK 4 program: on the default main context and the main thread, with
//! modal dialogs and real frames. Needs a display.

use std::{cell::RefCell, process::ExitCode};

use gtk4::{
    DrawingArea, Label, Window,
    glib::{ControlFlow, MainContext},
    prelude::*,
};

#[path = "../../glib/tests/host/mod.rs"]
mod host;

use host::{GlibHost, Kind};

struct Gtk;

impl Kind for Gtk {
    const NAME: &'static str = "gtk4";

    fn context() -> MainContext {
        MainContext::default()
    }

    type Dialog = Modal;

    fn open_dialog() -> Modal {
        let parent = Window::new();
        parent.present();
        let label = Label::new(Some(
            "A dialog: the callback that opened it waits, the network goes on.",
        ));
        let dialog = Window::builder()
            .modal(true)
            .transient_for(&parent)
            .child(&label)
            .build();
        dialog.present();
        Modal { parent, dialog }
    }

    /// Uses the frame clock of a window that is redrawn in each frame.
    fn draw_frames(_: &GlibHost<Self>, draw: Box<dyn FnMut() -> bool>) {
        let area = DrawingArea::new();
        let window = Window::builder()
            .child(&area)
            .default_width(300)
            .default_height(200)
            .build();
        area.set_draw_func(|_, picture, _, _| {
            picture.set_source_rgb(0.2, 0.4, 0.8);
            picture.paint().expect("it is painted");
        });
        let (draw, open) = (RefCell::new(draw), window.clone());
        area.add_tick_callback(move |area, _| {
            area.queue_draw();
            if (draw.borrow_mut())() {
                return ControlFlow::Continue;
            }
            open.destroy();
            ControlFlow::Break
        });
        window.present();
    }
}

struct Modal {
    parent: Window,
    dialog: Window,
}

impl Drop for Modal {
    fn drop(&mut self) {
        self.dialog.destroy();
        self.parent.destroy();
    }
}

fn main() -> ExitCode {
    if let Err(error) = gtk4::init() {
        eprintln!("the conformance suite on GTK needs a display: {error}");
        return ExitCode::FAILURE;
    }
    match entwined_conformance::run_all::<GlibHost<Gtk>>() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
