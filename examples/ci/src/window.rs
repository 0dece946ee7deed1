//! The window of a master: a row for each build, and the end of the log of one. It is in the
//! master's own process and thread, so what it shows is the master itself.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    error::Error,
    rc::Rc,
    time::{Duration, Instant},
};

use entwined::{
    Handle,
    signal::{self, Signal},
};
use futures_util::future;
use gtk::{gio, pango, prelude::*};

use crate::{
    master::{self, Master, Settings},
    store::Build,
};

/// How often the window looks at most.
const SHOWN: Duration = Duration::from_millis(100);
/// How often it looks while a build runs that says nothing.
const TICK: Duration = Duration::from_secs(1);

/// What is read of a log, in bytes.
const MAX_READ: u64 = 64 * 1024;
/// What is shown of it, in lines and in characters of a line.
const MAX_LINES: usize = 500;
const MAX_COLUMNS: usize = 300;
/// A log that grows by more than this between two looks is too fast to read. Then the last lines
/// are enough, and GTK has less to lay out.
const FAST: u64 = 4 * 1024;
const LINES_IF_FAST: usize = 30;

/// A master in a program with a window. It ends with the window.
pub fn run(settings: Settings) -> Result<(), Box<dyn Error>> {
    let application = gtk::Application::new(
        Some("org.entwined.Builds"),
        gio::ApplicationFlags::NON_UNIQUE,
    );
    let handle = entwined_gtk4::attach(&application)?.keep();
    // The loop is GTK's, so what ends it is too.
    let quit = application.clone();
    signal::call_on(&handle, [Signal::INT, Signal::TERM], move || quit.quit())?.keep();
    application.set_accels_for_action("window.close", &["<Control>w"]);
    let (settings, failed) = (Rc::new(settings), Rc::new(RefCell::new(None)));
    application.connect_activate({
        let failed = failed.clone();
        move |application| {
            let window = Window::new(application, &handle);
            let (handle, settings) = (handle.clone(), settings.clone());
            let (quit, failed) = (application.downgrade(), failed.clone());
            handle.clone().spawn(async move {
                let begun = async {
                    let store = master::open(handle.clone(), settings.clone()).await?;
                    master::start(&handle, store, &settings)
                };
                match begun.await {
                    Ok(master) => window.follow(master).await,
                    Err(error) => {
                        failed.replace(Some(error));
                        quit.upgrade().inspect(|application| application.quit());
                    }
                }
            });
        }
    });
    application.run_with_args::<&str>(&[]);
    failed.take().map_or(Ok(()), Err)
}

struct Window {
    handle: Handle,
    master: RefCell<Option<Rc<Master>>>,
    workers: gtk::Label,
    trouble: gtk::Label,
    list: gtk::ListBox,
    rows: RefCell<BTreeMap<i64, Row>>,
    title: gtk::Label,
    log: gtk::TextView,
    follow: gtk::CheckButton,
    /// The build whose log is shown, how long that was, and whether all of its end is shown.
    shown: Cell<(i64, u64, bool)>,
}

impl Window {
    fn new(application: &gtk::Application, handle: &Handle) -> Rc<Window> {
        let text = |classes: &[&str]| {
            gtk::Label::builder()
                .xalign(0.0)
                .wrap(true)
                .css_classes(classes.to_vec())
                .build()
        };
        let (workers, trouble) = (text(&["dim-label"]), text(&["error"]));
        trouble.set_visible(false);
        let list = gtk::ListBox::builder().css_classes(["rich-list"]).build();
        list.set_placeholder(Some(&gtk::Label::new(Some("There is no build yet."))));
        let title = text(&["heading"]);
        title.set_hexpand(true);
        let follow = gtk::CheckButton::builder()
            .label("Follow")
            .active(true)
            .build();
        let head = gtk::Box::new(gtk::Orientation::Horizontal, 8);
        head.append(&title);
        head.append(&follow);
        let log = gtk::TextView::builder()
            .editable(false)
            .cursor_visible(false)
            .monospace(true)
            .left_margin(6)
            .right_margin(6)
            .build();
        let scrolled = |child: &gtk::Widget| {
            gtk::ScrolledWindow::builder()
                .vexpand(true)
                .has_frame(true)
                .child(child)
                .build()
        };
        let column = |children: &[&gtk::Widget]| {
            let column = gtk::Box::new(gtk::Orientation::Vertical, 8);
            children.iter().for_each(|child| column.append(*child));
            column
        };
        let builds = scrolled(list.upcast_ref());
        let top = column(&[workers.as_ref(), trouble.as_ref(), builds.as_ref()]);
        let log_scrolled = scrolled(log.upcast_ref());
        let at_end = follow.clone();
        log_scrolled.vadjustment().connect_changed(move |position| {
            if at_end.is_active() {
                position.set_value(position.upper() - position.page_size());
            }
        });
        let below = column(&[head.as_ref(), log_scrolled.as_ref()]);
        let panes = gtk::Paned::builder()
            .orientation(gtk::Orientation::Vertical)
            .start_child(&top)
            .end_child(&below)
            .position(300)
            .shrink_start_child(false)
            .shrink_end_child(false)
            .margin_start(12)
            .margin_end(12)
            .margin_top(12)
            .margin_bottom(12)
            .build();
        let window = gtk::ApplicationWindow::builder()
            .application(application)
            .title("Builds")
            .default_width(720)
            .default_height(620)
            .child(&panes)
            .build();
        let this = Rc::new(Window {
            handle: handle.clone(),
            master: RefCell::default(),
            workers,
            trouble,
            list,
            rows: RefCell::default(),
            title,
            log,
            follow,
            shown: Cell::new((0, 0, true)),
        });
        this.list.connect_row_selected({
            let this = Rc::downgrade(&this);
            move |_, _| {
                if let Some(this) = this.upgrade() {
                    this.handle
                        .clone()
                        .spawn(async move { this.update().await });
                }
            }
        });
        window.present();
        this
    }

    /// Shows what the master does, however often it changes: ten times a second at most.
    async fn follow(self: Rc<Self>, master: Rc<Master>) {
        self.master.replace(Some(master.clone()));
        loop {
            // What changes from here on is seen, if not now, then the next time.
            let mut changes = master.changes.subscribe();
            self.update().await;
            let is_active = self.rows.borrow().values().any(|row| row.begun.is_some());
            let next = Box::pin(changes.next());
            if is_active || !self.shown.get().2 {
                future::select(next, Box::pin(self.handle.sleep(TICK))).await;
            } else {
                next.await;
            }
            self.handle.sleep(SHOWN).await;
        }
    }

    async fn update(self: &Rc<Self>) {
        let Some(master) = self.master.borrow().clone() else {
            return;
        };
        let mut names: Vec<_> = master.workers.borrow().iter().cloned().collect();
        names.sort_unstable();
        let workers = match names.is_empty() {
            true => "There is no worker.".to_owned(),
            false => format!("Workers: {}", names.join(", ")),
        };
        if self.workers.text() != workers {
            self.workers.set_text(&workers);
        }
        let updated = async {
            self.show(master.store.newest().await?);
            self.show_log(&master).await
        };
        let updated: Result<(), Box<dyn Error>> = updated.await;
        self.say(updated.err());
    }

    fn say(&self, trouble: Option<Box<dyn Error>>) {
        self.trouble.set_visible(trouble.is_some());
        if let Some(error) = trouble {
            self.trouble.set_text(&error.to_string());
        }
    }

    fn show(self: &Rc<Self>, builds: Vec<Build>) {
        let mut rows = self.rows.borrow_mut();
        rows.retain(|id, row| {
            let stays = builds.iter().any(|build| build.id == *id);
            if !stays {
                self.list.remove(&row.row);
            }
            stays
        });
        for (at, build) in builds.into_iter().enumerate() {
            let expected = rows
                .values()
                .rev()
                .find(|row| row.took.is_some() && row.is_like(&build));
            let expected = expected.and_then(|row| row.took);
            let row = rows.entry(build.id).or_insert_with(|| {
                let row = Row::new(self, &build);
                self.list.insert(&row.row, at as i32);
                row
            });
            row.show(build, expected);
        }
        if self.list.selected_row().is_none() {
            let running = rows.values().find(|row| row.begun.is_some());
            let shown = running.or_else(|| rows.values().last());
            let shown = shown.map(|row| row.row.clone());
            drop(rows);
            self.list.select_row(shown.as_ref());
        }
    }

    /// Shows the end of the log of the build that is selected.
    async fn show_log(&self, master: &Master) -> Result<(), Box<dyn Error>> {
        let Some(selected) = self.list.selected_row() else {
            return Ok(());
        };
        let id = self
            .rows
            .borrow()
            .iter()
            .find_map(|(id, row)| (row.row == selected).then_some(*id));
        let id = id.unwrap_or_default();
        let (before, length_before, _) = self.shown.get();
        if id == before && !self.follow.is_active() {
            return Ok(());
        }
        let (bytes, length) = master.files.read_end(id, MAX_READ).await?;
        let grown = length - length_before.min(length);
        if id == before && grown == 0 && self.shown.get().2 {
            return Ok(());
        }
        let is_fast = id == before && grown > FAST;
        let lines = if is_fast { LINES_IF_FAST } else { MAX_LINES };
        self.shown.set((id, length, !is_fast));
        self.title.set_text(&format!("Build {id}"));
        self.log.buffer().set_text(&last_lines(&bytes, lines));
        Ok(())
    }

    fn cancel(self: &Rc<Self>, id: i64) {
        let this = self.clone();
        self.handle.spawn(async move {
            let master = this.master.borrow().clone();
            if let Some(master) = master
                && let Err(error) = master.cancel(id).await
            {
                this.say(Some(error.into()));
            }
        });
    }
}

struct Row {
    row: gtk::ListBoxRow,
    bar: gtk::ProgressBar,
    text: gtk::Label,
    cancel: gtk::Button,
    build: Option<Build>,
    /// Since when it has run, as this window has seen it.
    begun: Option<Instant>,
    /// How long it took, if it has passed.
    took: Option<Duration>,
}

impl Row {
    fn new(window: &Rc<Window>, build: &Build) -> Row {
        // No text of GTK has a NUL.
        let plain = |text: &str| text.replace('\0', "\u{fffd}");
        let (all, repository) = (plain(&build.script), build.repository.as_deref().map(plain));
        let script = all.lines().next().unwrap_or_default();
        let name = match &repository {
            Some(repository) => format!("{}  {script}  ({repository})", build.id),
            None => format!("{}  {script}", build.id),
        };
        let name = gtk::Label::builder()
            .label(&name)
            .xalign(0.0)
            .hexpand(true)
            .ellipsize(pango::EllipsizeMode::End)
            .tooltip_text(&all)
            .build();
        let text = gtk::Label::builder()
            .xalign(0.0)
            .ellipsize(pango::EllipsizeMode::End)
            .build();
        let bar = gtk::ProgressBar::builder().pulse_step(0.05).build();
        let cancel = gtk::Button::builder()
            .label("Cancel")
            .tooltip_text(format!("Cancel build {}", build.id))
            .valign(gtk::Align::Center)
            .build();
        cancel.connect_clicked({
            let (window, id) = (Rc::downgrade(window), build.id);
            move |_| {
                window.upgrade().inspect(|window| window.cancel(id));
            }
        });
        let left = gtk::Box::new(gtk::Orientation::Vertical, 4);
        left.append(&name);
        left.append(&bar);
        left.append(&text);
        let both = gtk::Box::new(gtk::Orientation::Horizontal, 8);
        both.append(&left);
        both.append(&cancel);
        Row {
            row: gtk::ListBoxRow::builder().child(&both).build(),
            bar,
            text,
            cancel,
            build: None,
            begun: None,
            took: None,
        }
    }

    fn is_like(&self, other: &Build) -> bool {
        let is_like =
            |build: &Build| build.repository == other.repository && build.script == other.script;
        self.build.as_ref().is_some_and(is_like)
    }

    /// Shows a build. How long one like it took says how far this one may be.
    fn show(&mut self, build: Build, expected: Option<Duration>) {
        let is_running = build.state == "running";
        if self.build.as_ref() == Some(&build) && !is_running {
            return;
        }
        match (self.begun, is_running) {
            (None, true) => self.begun = Some(Instant::now()),
            (Some(begun), false) => {
                self.begun = None;
                self.took = (build.state == "passed").then(|| begun.elapsed());
            }
            _ => {}
        }
        let text = match (&self.begun, &build.worker) {
            (Some(begun), Some(worker)) => {
                let time = begun.elapsed();
                match expected.map(|expected| time.as_secs_f64() / expected.as_secs_f64()) {
                    Some(part) if part < 1.0 => self.bar.set_fraction(part),
                    _ => self.bar.pulse(),
                }
                format!("running on {worker}, {} s", time.as_secs())
            }
            _ => {
                self.bar.set_fraction(f64::from(build.has_ended()));
                match (build.code, self.took) {
                    (Some(code), _) if code != 0 => format!("{}: exit status {code}", build.state),
                    (_, Some(took)) => format!("passed in {:.1} s", took.as_secs_f64()),
                    _ => build.state.clone(),
                }
            }
        };
        if self.text.text() != text {
            self.text.set_text(&text);
        }
        let before = self.build.replace(build);
        let build = self.build.as_ref().expect("just set");
        if before.is_none_or(|before| before.state != build.state) {
            let class = match &*build.state {
                "passed" => "success",
                "failed" => "error",
                "running" => "warning",
                _ => "dim-label",
            };
            self.text.set_css_classes(&[class, "caption", "numeric"]);
            self.bar.set_visible(is_running);
            self.cancel.set_visible(!build.has_ended());
        }
    }
}

/// The last lines of a log, without what no text may have.
fn last_lines(bytes: &[u8], count: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let from = text
        .trim_end()
        .rmatch_indices('\n')
        .nth(count.saturating_sub(1));
    let text = &text[from.map_or(0, |(at, _)| at + 1)..];
    let mut shown = String::with_capacity(text.len());
    for line in text.lines() {
        // What a carriage return would overwrite on a terminal.
        let line = line.rsplit('\r').next().unwrap_or_default();
        let clean = |c: char| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        };
        shown.extend(line.chars().take(MAX_COLUMNS).map(clean));
        shown.push('\n');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_log_are_shown() {
        assert_eq!(last_lines(b"", 2), "");
        assert_eq!(last_lines(b"1\n2\n3\n", 2), "2\n3\n");
        assert_eq!(last_lines(b"1\n2\n3", 5), "1\n2\n3\n");
        assert_eq!(
            last_lines(b" 1 %\r 99 %\n\0\xff", 5),
            " 99 %\n\u{fffd}\u{fffd}\n"
        );
        let long = "x".repeat(1_000);
        assert_eq!(last_lines(long.as_bytes(), 5).len(), MAX_COLUMNS + 1);
    }
}
