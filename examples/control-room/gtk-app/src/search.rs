//! The search panel: a field, the progress, and the hits.

use std::cell::Cell;

use gtk::{glib, pango, prelude::*};
use site::search::{Hit, MAX_PATTERN, Phase, Search};

use crate::ui::{caption, column, set_label};

/// The list grows over several frames, so that no single frame has to create all the rows.
const NEW_ROWS_A_FRAME: usize = 4;
const LIST_HEIGHT: i32 = 250;

/// The search panel. Like the rest of the window it follows its model once per frame.
pub struct Panel {
    search: Search,
    card: gtk::Box,
    field: gtk::Entry,
    start: gtk::Button,
    cancel: gtk::Button,
    progress: gtk::ProgressBar,
    summary: gtk::Label,
    error: gtk::Label,
    list: gtk::ListBox,
    /// The version of the state that is shown, and how many of its hits.
    shown: Cell<Option<u64>>,
    rows: Cell<usize>,
}

impl Panel {
    /// Creates a panel for `search`.
    pub fn new(search: Search) -> Self {
        let field = gtk::Entry::builder()
            .css_classes(["text"])
            .placeholder_text("lantern, or with two typing errors: lontern~2")
            .max_length(MAX_PATTERN as i32 + 2)
            .hexpand(true)
            .build();
        let start = button("_Search", "count");
        let cancel = button("C_ancel", "cancel");
        let progress = gtk::ProgressBar::builder().hexpand(true).build();
        let summary = gtk::Label::builder()
            .css_classes(["figure"])
            .halign(gtk::Align::Start)
            .ellipsize(pango::EllipsizeMode::End)
            .build();
        let error = gtk::Label::builder()
            .css_classes(["error"])
            .halign(gtk::Align::Start)
            .xalign(0.0)
            .wrap(true)
            .visible(false)
            .accessible_role(gtk::AccessibleRole::Alert)
            .build();
        let list = gtk::ListBox::builder()
            .css_classes(["hits"])
            .selection_mode(gtk::SelectionMode::None)
            .build();
        let placeholder = gtk::Label::builder()
            .label("The first hits appear here")
            .css_classes(["excerpt"])
            .build();
        placeholder.set_margin_top(24);
        list.set_placeholder(Some(&placeholder));
        let card = column(10);
        card.add_css_class("card");
        let panel = Self {
            search,
            card,
            field,
            start,
            cancel,
            progress,
            summary,
            error,
            list,
            shown: Cell::default(),
            rows: Cell::default(),
        };
        panel.arrange();
        panel.connect();
        panel
    }

    /// Returns the widget to put into the window.
    pub fn widget(&self) -> &gtk::Box {
        &self.card
    }

    /// Updates the widgets to show the search.
    pub fn follow(&self) {
        let version = Some(self.search.version());
        if self.shown.replace(version) != version {
            self.show();
        }
        let state = self.search.state();
        let new = state
            .first()
            .iter()
            .skip(self.rows.get())
            .take(NEW_ROWS_A_FRAME);
        for hit in new {
            self.list.append(&row(hit));
            self.rows.set(self.rows.get() + 1);
        }
    }

    fn show(&self) {
        let state = self.search.state();
        self.start.set_sensitive(!state.is_running());
        self.cancel.set_sensitive(state.is_running());
        if state.phase() == Phase::Waiting || state.first().len() < self.rows.get() {
            while let Some(row) = self.list.row_at_index(0) {
                self.list.remove(&row);
            }
            self.rows.set(0);
        }
        self.progress.set_fraction(state.fraction());
        set_label(&self.summary, &state.summary());
        set_label(&self.error, state.error().unwrap_or_default());
        self.error.set_visible(state.error().is_some());
        self.summary.set_visible(state.error().is_none());
    }

    fn arrange(&self) {
        let label = caption("S_earch in 200,000 entries");
        label.set_use_underline(true);
        label.set_mnemonic_widget(Some(&self.field));
        let buttons = gtk::Box::new(gtk::Orientation::Horizontal, 8);
        buttons.append(&self.start);
        buttons.append(&self.cancel);
        let list = gtk::ScrolledWindow::builder()
            .css_classes(["hits"])
            .hscrollbar_policy(gtk::PolicyType::Never)
            .min_content_height(LIST_HEIGHT)
            .vexpand(true)
            .child(&self.list)
            .build();
        self.card.append(&label);
        self.card.append(&self.field);
        self.card.append(&buttons);
        self.card.append(&self.progress);
        self.card.append(&self.summary);
        self.card.append(&self.error);
        self.card.append(&list);
    }

    fn connect(&self) {
        let start = {
            let (search, field) = (self.search.clone(), self.field.downgrade());
            move || {
                if let Some(field) = field.upgrade() {
                    search.start(&field.text());
                }
            }
        };
        self.field.connect_activate({
            let start = start.clone();
            move |_| start()
        });
        self.start.connect_clicked(move |_| start());
        let search = self.search.clone();
        self.cancel.connect_clicked(move |_| search.cancel());
        let keys = gtk::EventControllerKey::new();
        let search = self.search.clone();
        keys.connect_key_pressed(move |_, key, _, _| {
            if key != gtk::gdk::Key::Escape {
                return glib::Propagation::Proceed;
            }
            search.cancel();
            glib::Propagation::Stop
        });
        self.card.add_controller(keys);
    }
}

fn button(label: &str, class: &str) -> gtk::Button {
    gtk::Button::builder()
        .label(label)
        .use_underline(true)
        .css_classes([class])
        .build()
}

fn row(hit: &Hit) -> gtk::Box {
    let line = |text: &str, class: &str| {
        gtk::Label::builder()
            .label(text)
            .css_classes([class])
            .halign(gtk::Align::Start)
            .xalign(0.0)
            .ellipsize(pango::EllipsizeMode::End)
            .build()
    };
    let row = column(1);
    row.append(&line(&hit.heading, "heading"));
    row.append(&line(&hit.text, "excerpt"));
    row
}
