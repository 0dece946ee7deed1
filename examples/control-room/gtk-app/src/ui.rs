//! The window: counter, text, address, rate and search, updated with every frame.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use entwined::deferred::{Deferred, Resolver};
use gtk::prelude::*;
use gtk::{gdk, glib};
use site::plot::thousands;
use site::search::Search;
use site::{MAX_TEXT, Model, Pixels};

use crate::picture::{self, PictureError};
use crate::plot;
use crate::search::Panel;

/// The window, with the parts that other code may change. Cheap to clone; clones share the window.
#[derive(Clone)]
pub struct Ui {
    window: gtk::ApplicationWindow,
    address: gtk::LinkButton,
    wanted: Wanted,
}

/// The resolvers that wait for a picture of the next frame. One for each picture request, whose
/// number the server limits.
type Wanted = Rc<RefCell<Vec<Resolver<Arc<Pixels>, PictureError>>>>;

/// The widgets that show the model, and what they show now.
///
/// They follow it once per frame and not with each change: a counter that gets a hundred thousand
/// requests a second is laid out sixty times a second, and nobody could see the rest.
#[derive(Clone)]
struct Bound {
    model: Model,
    count: gtk::Label,
    text: gtk::Entry,
    rate: gtk::Label,
    files: gtk::Label,
    progress: gtk::ProgressBar,
    /// Blocked while the model changes the entry, so that the entry does not hand the change back.
    typed: Rc<glib::SignalHandlerId>,
}

/// Builds the window of `app` for `model` and `search`. [`Ui::present`] shows it.
///
/// While it is on the screen it ticks `model` and records each frame in it.
pub fn build(app: &gtk::Application, model: Model, search: Search) -> Ui {
    load_style();
    let plot = plot::build(model.clone());
    let address = gtk::LinkButton::builder()
        .uri("")
        .css_classes(["link", "address"])
        .build();
    let bound = Bound::new(model);

    let shared = column(14);
    shared.append(&counter_card(&bound));
    shared.append(&text_card(&bound));
    shared.append(&rate_card(&bound, &plot));
    shared.append(&files_card(&bound));
    address.set_halign(gtk::Align::Center);
    shared.append(&address);
    let panel = Panel::new(search);
    let content = gtk::Box::builder()
        .spacing(14)
        .homogeneous(true)
        .css_classes(["app"])
        .build();
    content.append(&shared);
    content.append(panel.widget());

    let window = gtk::ApplicationWindow::builder()
        .application(app)
        .title("Entwined")
        .default_width(860)
        .titlebar(&gtk::HeaderBar::new())
        .child(&content)
        .build();
    let wanted = Wanted::default();
    follow_frames(&window, &plot, bound, panel, wanted.clone());
    Ui {
        window,
        address,
        wanted,
    }
}

impl Ui {
    /// Shows the window.
    pub fn present(&self) {
        self.window.present();
    }

    /// Shows the web server's address as a link.
    pub fn set_address(&self, address: &str) {
        self.address.set_uri(address);
        self.address.set_label(address);
    }

    /// Returns the window's picture as of its next frame.
    pub fn picture(&self) -> Deferred<Arc<Pixels>, PictureError> {
        let (resolver, picture) = Deferred::new();
        self.wanted.borrow_mut().push(resolver);
        picture
    }
}

impl Ui {
    /// Asks in a modal dialog, and returns when it is closed by a button, the time is up or the
    /// window is gone. The main loop keeps running inside.
    pub fn ask(&self, question: &str, limit: Duration) -> Option<bool> {
        if !self.window.is_visible() {
            return None;
        }
        let dialog = gtk::MessageDialog::builder()
            .transient_for(&self.window)
            .modal(true)
            .message_type(gtk::MessageType::Question)
            .buttons(gtk::ButtonsType::YesNo)
            .text("A request asks")
            .secondary_text(question)
            .build();
        let (inner, answer) = (glib::MainLoop::new(None, false), Rc::new(Cell::new(None)));
        dialog.connect_response({
            let (inner, answer) = (inner.clone(), answer.clone());
            move |_, response| {
                answer.set(match response {
                    gtk::ResponseType::Yes => Some(true),
                    gtk::ResponseType::No => Some(false),
                    _ => None,
                });
                inner.quit();
            }
        });
        let gone = self.window.connect_unmap({
            let inner = inner.clone();
            move |_| inner.quit()
        });
        let over = glib::timeout_add_local(limit, {
            let inner = inner.clone();
            move || {
                inner.quit();
                glib::ControlFlow::Continue
            }
        });
        dialog.present();
        inner.run();
        over.remove();
        self.window.disconnect(gone);
        dialog.destroy();
        answer.get()
    }
}

impl Bound {
    fn new(model: Model) -> Self {
        let count = gtk::Label::builder()
            .css_classes(["number"])
            .halign(gtk::Align::Start)
            .build();
        let text = gtk::Entry::builder()
            .css_classes(["text"])
            .placeholder_text("Type here…")
            .max_length(MAX_TEXT as i32)
            .hexpand(true)
            .build();
        let rate = gtk::Label::builder()
            .css_classes(["figure"])
            .hexpand(true)
            .halign(gtk::Align::End)
            .build();
        let files = gtk::Label::builder()
            .css_classes(["figure"])
            .hexpand(true)
            .halign(gtk::Align::End)
            .ellipsize(gtk::pango::EllipsizeMode::Middle)
            .build();
        let progress = gtk::ProgressBar::builder()
            .hexpand(true)
            .tooltip_text("Uploads in progress")
            .build();
        let typed = text.connect_changed({
            let model = model.clone();
            move |text| {
                model.set_text(&text.text());
            }
        });
        let typed = Rc::new(typed);
        let bound = Self {
            model,
            count,
            text,
            rate,
            files,
            progress,
            typed,
        };
        bound.follow();
        bound
    }

    /// Updates the widgets to show the model. It does not touch what is already up to date: setting
    /// a label to the text that it shows would lay out the window again.
    fn follow(&self) {
        set_label(&self.count, &thousands(self.model.count()));
        let rate = format!(
            "{}/s  ·  {} total  ·  {} frames/s",
            thousands(self.model.rps().into()),
            thousands(self.model.requests()),
            self.model.fps(),
        );
        set_label(&self.rate, &rate);
        self.follow_files();
        if !self.model.text_is(&self.text.text()) {
            self.show_text(&self.model.text());
        }
    }

    fn follow_files(&self) {
        let (uploads, (files, last)) = (self.model.uploads(), self.model.last_file());
        let (done, total) = uploads.iter().fold((0, 0), |(done, total), it| {
            (done + it.done, total + it.total)
        });
        let fraction = if total == 0 {
            0.0
        } else {
            (done as f64 / total as f64).min(1.0)
        };
        if self.progress.fraction() != fraction {
            self.progress.set_fraction(fraction);
        }
        let text = match (&uploads[..], last) {
            ([], None) => "none yet".to_owned(),
            ([], Some(last)) => format!("{}  ·  the last: {}", thousands(files as u64), last.name),
            ([one], _) => format!("{}  ·  {:.0} %", one.name, 100.0 * fraction),
            (several, _) => format!("{} uploading  ·  {:.0} %", several.len(), 100.0 * fraction),
        };
        set_label(&self.files, &text);
    }

    /// The signal is blocked because the entry reports clearing and filling as two changes, and the
    /// first would clear the model. The cursor stays where the user put it.
    fn show_text(&self, text: &str) {
        let cursor = self.text.position();
        self.text.block_signal(&self.typed);
        self.text.set_text(text);
        self.text.unblock_signal(&self.typed);
        self.text
            .set_position(cursor.min(text.chars().count() as i32));
    }
}

/// Draws the plot with every frame, and records when each frame was painted. It records the real
/// time after the painting, because the frame clock's own time is a prediction that ignores stalls.
fn follow_frames(
    window: &gtk::ApplicationWindow,
    plot: &gtk::DrawingArea,
    bound: Bound,
    panel: Panel,
    wanted: Wanted,
) {
    let model = bound.model.clone();
    plot.add_tick_callback(move |plot, _clock| {
        bound.model.tick(Instant::now());
        bound.follow();
        panel.follow();
        plot.queue_draw();
        glib::ControlFlow::Continue
    });
    window.connect_realize({
        let model = model.clone();
        move |window| {
            let Some(clock) = window.frame_clock() else {
                return;
            };
            let (model, wanted, window) = (model.clone(), wanted.clone(), window.downgrade());
            clock.connect_after_paint(move |_| {
                model.frame(Instant::now());
                if let Some(window) = window.upgrade().filter(|_| !wanted.borrow().is_empty()) {
                    hand_out(&wanted, picture::pixels(window.upcast_ref()).map(Arc::new));
                }
            });
        }
    });
    window.connect_unmap(move |_| model.pause_frames());
}

/// Gives the same picture to everything that waits.
fn hand_out(wanted: &Wanted, picture: Result<Arc<Pixels>, PictureError>) {
    let waiting = wanted.take();
    for resolver in waiting {
        resolver.settle(picture.clone());
    }
}

fn counter_card(bound: &Bound) -> gtk::Box {
    let button = gtk::Button::builder()
        .label("_Count")
        .use_underline(true)
        .css_classes(["count"])
        .halign(gtk::Align::End)
        .valign(gtk::Align::Center)
        .build();
    let model = bound.model.clone();
    button.connect_clicked(move |_| {
        model.add();
    });
    let number = column(0);
    number.set_hexpand(true);
    number.append(&caption("Counter"));
    number.append(&bound.count);
    let card = gtk::Box::new(gtk::Orientation::Horizontal, 12);
    card.add_css_class("card");
    card.append(&number);
    card.append(&button);
    card
}

fn text_card(bound: &Bound) -> gtk::Box {
    let label = caption("_Text");
    label.set_use_underline(true);
    label.set_mnemonic_widget(Some(&bound.text));
    let card = column(8);
    card.add_css_class("card");
    card.append(&label);
    card.append(&bound.text);
    card
}

fn rate_card(bound: &Bound, plot: &gtk::DrawingArea) -> gtk::Box {
    let head = gtk::Box::new(gtk::Orientation::Horizontal, 12);
    head.append(&caption("Requests"));
    head.append(&bound.rate);
    let card = column(10);
    card.add_css_class("card");
    card.append(&head);
    card.append(plot);
    card
}

fn files_card(bound: &Bound) -> gtk::Box {
    let head = gtk::Box::new(gtk::Orientation::Horizontal, 12);
    head.append(&caption("Files"));
    head.append(&bound.files);
    let card = column(10);
    card.add_css_class("card");
    card.append(&head);
    card.append(&bound.progress);
    card
}

pub(crate) fn column(spacing: i32) -> gtk::Box {
    gtk::Box::new(gtk::Orientation::Vertical, spacing)
}

pub(crate) fn caption(text: &str) -> gtk::Label {
    gtk::Label::builder()
        .label(text)
        .css_classes(["caption"])
        .halign(gtk::Align::Start)
        .build()
}

pub(crate) fn set_label(label: &gtk::Label, text: &str) {
    if label.text() != text {
        label.set_text(text);
    }
}

fn load_style() {
    let Some(display) = gdk::Display::default() else {
        return;
    };
    let style = gtk::CssProvider::new();
    style.load_from_data(include_str!("style.css"));
    gtk::style_context_add_provider_for_display(
        &display,
        &style,
        gtk::STYLE_PROVIDER_PRIORITY_APPLICATION,
    );
}
