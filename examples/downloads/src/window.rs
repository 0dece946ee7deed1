//! The window: a line to type a URL into, and a row for each download.

use std::{cell::RefCell, collections::BTreeMap, path::Path, rc::Rc};

use gtk::{gdk, gio, glib, pango, prelude::*};

use crate::{
    download::{Download, Downloads, State},
    name,
};

/// The most links that are taken at a time: a page chooses what is dragged out of it.
const MAX_LINKS: usize = 100;

pub struct Window {
    window: gtk::ApplicationWindow,
    downloads: Rc<Downloads>,
    list: gtk::ListBox,
    trouble: gtk::Label,
    rows: RefCell<BTreeMap<u32, Row>>,
}

struct Row {
    row: gtk::ListBoxRow,
    name: gtk::Label,
    bar: gtk::ProgressBar,
    text: gtk::Label,
    pause: gtk::Button,
    remove: gtk::Button,
}

impl Window {
    pub fn new(application: &gtk::Application, downloads: &Rc<Downloads>) -> Rc<Window> {
        let url = gtk::Entry::builder()
            .placeholder_text("A URL, or drag one into this window")
            .input_purpose(gtk::InputPurpose::Url)
            .hexpand(true)
            .build();
        let add = gtk::Button::with_label("Download");
        let line = gtk::Box::new(gtk::Orientation::Horizontal, 6);
        line.append(&url);
        line.append(&add);
        let trouble = gtk::Label::builder()
            .xalign(0.0)
            .wrap(true)
            .visible(false)
            .css_classes(["error"])
            .build();
        let list = gtk::ListBox::builder()
            .selection_mode(gtk::SelectionMode::None)
            .css_classes(["rich-list"])
            .build();
        let nothing = gtk::Label::builder()
            .label("Nothing is downloaded yet.")
            .margin_top(48)
            .css_classes(["dim-label"])
            .build();
        list.set_placeholder(Some(&nothing));
        let scrolled = gtk::ScrolledWindow::builder()
            .hscrollbar_policy(gtk::PolicyType::Never)
            .vexpand(true)
            .has_frame(true)
            .child(&list)
            .build();
        let content = gtk::Box::builder()
            .orientation(gtk::Orientation::Vertical)
            .spacing(8)
            .margin_start(12)
            .margin_end(12)
            .margin_top(12)
            .margin_bottom(12)
            .build();
        content.append(&line);
        content.append(&trouble);
        content.append(&scrolled);
        let window = gtk::ApplicationWindow::builder()
            .application(application)
            .title("Downloads")
            .default_width(640)
            .default_height(420)
            .child(&content)
            .build();
        let this = Rc::new(Window {
            window,
            downloads: downloads.clone(),
            list,
            trouble,
            rows: RefCell::default(),
        });
        let typed = {
            let (this, url) = (Rc::downgrade(&this), url.clone());
            move || {
                if let Some(this) = this.upgrade()
                    && this.add(&url.text())
                {
                    url.set_text("");
                }
            }
        };
        add.connect_clicked({
            let typed = typed.clone();
            move |_| typed()
        });
        url.connect_activate(move |_| typed());
        this.take_drops();
        this.window.present();
        this
    }

    /// URLs that are dragged into the window, as links or as text.
    fn take_drops(self: &Rc<Self>) {
        let target = gtk::DropTarget::new(glib::Type::STRING, gdk::DragAction::COPY);
        let this = Rc::downgrade(self);
        target.connect_drop(move |_, value, _, _| {
            let (Some(this), Ok(text)) = (this.upgrade(), value.get::<String>()) else {
                return false;
            };
            // A list of links has one on each line, and may have remarks (RFC 2483).
            let urls = text.lines().map(str::trim);
            let urls = urls.filter(|line| !line.is_empty() && !line.starts_with('#'));
            urls.take(MAX_LINKS)
                .fold(false, |any, url| this.add(url) | any)
        });
        self.window.add_controller(target);
    }

    fn add(&self, url: &str) -> bool {
        let added = self.downloads.add(url);
        self.trouble.set_visible(added.is_err());
        if let Err(why) = &added {
            self.trouble.set_text(why);
        }
        added.is_ok()
    }

    /// Shows what has changed.
    pub fn show(&self, download: &Rc<Download>) {
        let mut rows = self.rows.borrow_mut();
        if self.downloads.is_removed(download) {
            if let Some(row) = rows.remove(&download.id) {
                self.list.remove(&row.row);
            }
            return;
        }
        let row = rows.entry(download.id).or_insert_with(|| {
            let row = Row::new(&self.downloads, download);
            self.list.append(&row.row);
            row
        });
        row.show(download);
    }
}

impl Row {
    fn new(downloads: &Rc<Downloads>, download: &Rc<Download>) -> Row {
        let name = gtk::Label::builder()
            .xalign(0.0)
            .hexpand(true)
            .ellipsize(pango::EllipsizeMode::Middle)
            .tooltip_text(name::without_password(&download.url))
            .build();
        let bar = gtk::ProgressBar::new();
        let text = gtk::Label::builder()
            .xalign(0.0)
            .ellipsize(pango::EllipsizeMode::End)
            .css_classes(["dim-label", "caption", "numeric"])
            .build();
        let (pause, remove) = (gtk::Button::new(), gtk::Button::new());
        for button in [&pause, &remove] {
            button.set_valign(gtk::Align::Center);
        }
        let left = gtk::Box::new(gtk::Orientation::Vertical, 4);
        left.append(&name);
        left.append(&bar);
        left.append(&text);
        let both = gtk::Box::new(gtk::Orientation::Horizontal, 8);
        both.append(&left);
        both.append(&pause);
        both.append(&remove);
        let row = gtk::ListBoxRow::builder()
            .activatable(false)
            .child(&both)
            .build();
        let act = |act: fn(&Rc<Downloads>, &Rc<Download>)| {
            let (downloads, download) = (downloads.clone(), download.clone());
            move |_: &gtk::Button| act(&downloads, &download)
        };
        pause.connect_clicked(act(|downloads, download| match download.state() {
            State::Done(file) => open(&file),
            state if state.is_stopped() => downloads.resume(download),
            _ => downloads.pause(download),
        }));
        remove.connect_clicked(act(|downloads, download| downloads.remove(download)));
        Row {
            row,
            name,
            bar,
            text,
            pause,
            remove,
        }
    }

    fn show(&self, download: &Download) {
        let state = download.state();
        self.name.set_text(&download.name());
        match (download.total(), &state) {
            (_, State::Done(_)) => self.bar.set_fraction(1.0),
            (Some(total), _) if total > 0 => {
                self.bar
                    .set_fraction(download.received() as f64 / total as f64);
            }
            (_, State::Running) => self.bar.pulse(),
            _ => self.bar.set_fraction(0.0),
        }
        self.text.set_text(&describe(download, &state));
        let (icon, tip) = match &state {
            State::Done(_) => ("document-open-symbolic", "Open"),
            State::Paused => ("media-playback-start-symbolic", "Resume"),
            State::Failed(_) => ("view-refresh-symbolic", "Try again"),
            State::Running | State::Waiting(_) => ("media-playback-pause-symbolic", "Pause"),
        };
        label(&self.pause, icon, tip);
        match state.is_active() {
            true => label(&self.remove, "process-stop-symbolic", "Cancel"),
            false => label(&self.remove, "edit-delete-symbolic", "Remove from the list"),
        }
    }
}

/// An icon, and its name.
fn label(button: &gtk::Button, icon: &str, tip: &str) {
    if button.tooltip_text().as_deref() != Some(tip) {
        button.set_icon_name(icon);
        button.set_tooltip_text(Some(tip));
    }
}

fn describe(download: &Download, state: &State) -> String {
    let received = size(download.received() as f64);
    let so_far = match download.total() {
        Some(total) => format!("{received} of {}", size(total as f64)),
        None => received.clone(),
    };
    match state {
        State::Running => {
            let speed = download.speed();
            let left = download.total().filter(|_| speed > 0.0);
            let left = left.map(|total| total.saturating_sub(download.received()) as f64 / speed);
            match left {
                Some(left) => format!("{so_far}, {}/s, {} left", size(speed), time(left)),
                None if speed > 0.0 => format!("{so_far}, {}/s", size(speed)),
                None => so_far,
            }
        }
        State::Waiting(why) if download.received() == 0 => format!("Waiting: {why}"),
        State::Waiting(why) => format!("{so_far}. Waiting: {why}"),
        State::Paused => format!("{so_far}, paused"),
        State::Done(_) => received,
        State::Failed(why) if download.received() == 0 => why.clone(),
        State::Failed(why) => format!("{so_far}. {why}"),
    }
}

/// Bytes, as people read them.
fn size(bytes: f64) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 100.0);
    format!("{value:.digits$} {}", units[unit])
}

fn time(seconds: f64) -> String {
    match seconds.ceil() as u64 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

fn open(file: &Path) {
    let uri = gio::File::for_path(file).uri();
    let opened = gio::AppInfo::launch_default_for_uri(&uri, gio::AppLaunchContext::NONE);
    if let Err(error) = opened {
        tracing::warn!(%error, "the file cannot be opened");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(size(999.0), "999 bytes");
        assert_eq!(size(1_500.0), "1.5 kB");
        assert_eq!(size(123_456_789.0), "123 MB");
        assert_eq!((time(0.2), time(119.0)), ("1 s".into(), "119 s".into()));
        assert_eq!(
            (time(600.0), time(7_200.0)),
            ("10 min".into(), "2 h".into())
        );
    }
}
