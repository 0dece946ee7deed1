//! The window, beside the pages: it shows the same notebooks, in the program's own process and
//! thread. What happens in a page is seen here, and the other way round.

use std::{
    borrow::Cow,
    cell::{Cell, OnceCell, RefCell},
    collections::{BTreeMap, BTreeSet},
    error::Error,
    rc::Rc,
    time::Duration,
};

use entwined::{
    Handle,
    broadcast::Received,
    deferred::Canceller,
    signal::{self, Signal},
};
use futures_util::{FutureExt as _, future};
use gtk::{gdk, gio, glib, prelude::*};

use crate::{
    Options,
    document::Output,
    notebook::{CellOf, Notebook, State, Wish},
    picture::picture,
    site::{New, Shelf},
};

/// How often the window looks at most.
const SHOWN: Duration = Duration::from_millis(100);

/// What is shown of a text, from its end, in bytes, in lines, and in characters of a line.
const MAX_TEXT: usize = 64 * 1024;
const MAX_LINES: usize = 500;
const MAX_COLUMNS: usize = 300;
/// A text that grows by more than this between two looks is too fast to read. Then the last lines
/// are enough, and GTK has less to lay out.
const FAST: usize = 4 * 1024;
const LINES_IF_FAST: usize = 20;
/// The last outputs of a cell that are shown.
const MAX_OUTPUTS: usize = 20;

const STYLE: &str = "textview.error text { color: @error_color; }";

/// The program with a window. It ends with the window.
pub fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let application = gtk::Application::new(
        Some("org.entwined.Notebook"),
        gio::ApplicationFlags::NON_UNIQUE,
    );
    let handle = entwined_gtk4::attach(&application)?.keep();
    // The loop is GTK's, so what ends it is too.
    let quit = application.clone();
    signal::call_on(&handle, [Signal::INT, Signal::TERM], move || quit.quit())?.keep();
    application.set_accels_for_action("window.close", &["<Control>w"]);
    let shelf = crate::serve(&handle, options)?;
    let window = OnceCell::new();
    application.connect_startup(|_| {
        let style = gtk::CssProvider::new();
        style.load_from_data(STYLE);
        if let Some(display) = gdk::Display::default() {
            let priority = gtk::STYLE_PROVIDER_PRIORITY_APPLICATION;
            gtk::style_context_add_provider_for_display(&display, &style, priority);
        }
    });
    application.connect_activate(move |application| {
        window.get_or_init(|| Window::new(application, &handle, &shelf));
    });
    match application.run_with_args::<&str>(&[]) {
        glib::ExitCode::SUCCESS => Ok(()),
        _ => Err("the application ended with an error".into()),
    }
}

struct Window {
    handle: Handle,
    shelf: Shelf,
    names: gtk::StringList,
    chosen: gtk::DropDown,
    listing: Cell<bool>,
    trouble: gtk::Label,
    kernel: gtk::Label,
    column: gtk::Box,
    /// The notebook that is open, and its name.
    notebook: RefCell<Option<(String, Rc<Notebook>)>>,
    cells: RefCell<Vec<CellView>>,
    following: RefCell<Option<Canceller>>,
}

impl Window {
    fn new(application: &gtk::Application, handle: &Handle, shelf: &Shelf) -> Rc<Window> {
        let names = gtk::StringList::new(&[]);
        let chosen = gtk::DropDown::builder()
            .model(&names)
            .tooltip_text("Notebook")
            .hexpand(true)
            .build();
        let name = gtk::Entry::builder()
            .placeholder_text("A new notebook")
            .build();
        let kinds: Vec<_> = shelf.kinds().collect();
        let python = kinds.iter().position(|kind| *kind == "python");
        let kind = gtk::DropDown::from_strings(&kinds);
        kind.set_selected(python.unwrap_or_default() as u32);
        kind.set_tooltip_text(Some("Kernel"));
        let create = gtk::Button::with_label("Create");
        let line = || gtk::Box::new(gtk::Orientation::Horizontal, 6);
        let above = line();
        above.append(&chosen);
        above.append(&name);
        above.append(&kind);
        above.append(&create);
        let kernel = gtk::Label::builder()
            .label("No notebook is open.")
            .xalign(0.0)
            .hexpand(true)
            .build();
        let below = line();
        below.append(&kernel);
        let trouble = gtk::Label::builder()
            .xalign(0.0)
            .wrap(true)
            .visible(false)
            .css_classes(["error"])
            .build();
        let column = gtk::Box::new(gtk::Orientation::Vertical, 12);
        let viewport = gtk::Viewport::builder()
            // Outputs are as high as they wish.
            .vscroll_policy(gtk::ScrollablePolicy::Natural)
            .child(&column)
            .build();
        let scrolled = gtk::ScrolledWindow::builder()
            .vexpand(true)
            .child(&viewport)
            .build();
        let content = gtk::Box::builder()
            .orientation(gtk::Orientation::Vertical)
            .spacing(8)
            .margin_start(12)
            .margin_end(12)
            .margin_top(12)
            .margin_bottom(12)
            .build();
        content.append(&above);
        content.append(&below);
        content.append(&trouble);
        content.append(&scrolled);
        let window = gtk::ApplicationWindow::builder()
            .application(application)
            .title("Notebook")
            .default_width(720)
            .default_height(680)
            .child(&content)
            .build();
        let this = Rc::new(Window {
            handle: handle.clone(),
            shelf: shelf.clone(),
            names,
            chosen,
            listing: Cell::new(false),
            trouble,
            kernel,
            column,
            notebook: RefCell::default(),
            cells: RefCell::default(),
            following: RefCell::default(),
        });
        for (label, wish) in [
            ("Add a cell", Wish::Add { after: None }),
            ("Interrupt", Wish::Interrupt),
            ("Restart", Wish::Restart),
        ] {
            let button = gtk::Button::with_label(label);
            let this = Rc::downgrade(&this);
            button.connect_clicked(move |_| {
                this.upgrade().inspect(|this| this.act(wish.clone()));
            });
            below.append(&button);
        }
        let made = {
            let (this, name, kinds) = (Rc::downgrade(&this), name.clone(), kind.clone());
            move || {
                let kind = kinds.selected_item().and_downcast::<gtk::StringObject>();
                if let (Some(this), Some(kind)) = (this.upgrade(), kind) {
                    let new = New {
                        name: name.text().trim().into(),
                        kernel: kind.string().into(),
                    };
                    name.set_text("");
                    this.clone().spawn(async move { this.create(new).await });
                }
            }
        };
        create.connect_clicked({
            let made = made.clone();
            move |_| made()
        });
        name.connect_activate(move |_| made());
        this.chosen.connect_selected_notify({
            let this = Rc::downgrade(&this);
            move |_| {
                if let Some(this) = this.upgrade().filter(|this| !this.listing.get()) {
                    this.clone().spawn(async move { this.open().await });
                }
            }
        });
        let listed = this.clone();
        this.spawn(async move {
            let mut made = listed.shelf.made();
            listed.list(None).await?;
            while made.next().await.is_some() {
                listed.list(None).await?;
            }
            Ok(())
        });
        window.present();
        this
    }

    /// Runs something that may fail, and says why if it does.
    fn spawn(self: &Rc<Self>, work: impl Future<Output = Result<(), Box<dyn Error>>> + 'static) {
        let this = self.clone();
        self.handle.spawn(async move {
            let result = work.await;
            this.trouble.set_visible(result.is_err());
            if let Err(error) = result {
                this.trouble.set_text(&error.to_string());
            }
        });
    }

    /// Lists the notebooks, and chooses one: that of this name, or the same as before, or the
    /// first.
    async fn list(self: &Rc<Self>, name: Option<String>) -> Result<(), Box<dyn Error>> {
        let names = self.shelf.names().await?;
        let before = || self.notebook.borrow().as_ref().map(|open| open.0.clone());
        let name = name.or_else(before);
        let at = names.iter().position(|other| Some(other) == name.as_ref());
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        // While it is filled, what it has chosen is not what somebody has chosen.
        self.listing.set(true);
        self.names.splice(0, self.names.n_items(), &names);
        self.chosen.set_selected(at.unwrap_or_default() as u32);
        self.listing.set(false);
        self.open().await
    }

    async fn create(self: &Rc<Self>, new: New) -> Result<(), Box<dyn Error>> {
        self.shelf.create(&new).await?;
        self.list(Some(new.name)).await
    }

    /// Opens the notebook that is chosen.
    async fn open(self: &Rc<Self>) -> Result<(), Box<dyn Error>> {
        let chosen = self.chosen.selected_item();
        let Some(chosen) = chosen.and_downcast::<gtk::StringObject>() else {
            return Ok(());
        };
        let name = String::from(chosen.string());
        let notebook = self.shelf.open(&name).await?;
        let open = (name, notebook.clone());
        let before = self.notebook.replace(Some(open));
        if before.is_some_and(|(_, before)| Rc::ptr_eq(&before, &notebook)) {
            return Ok(());
        }
        for cell in self.cells.borrow_mut().drain(..) {
            self.column.remove(&cell.whole);
        }
        let following = self.handle.spawn(self.clone().follow(notebook));
        let before = self.following.replace(Some(following.canceller()));
        before.inspect(|before| before.cancel());
        Ok(())
    }

    fn act(&self, wish: Wish) {
        let open = self.notebook.borrow().clone();
        open.inspect(|(_, notebook)| notebook.act(wish));
    }

    /// Shows what happens in a notebook, however much it is: ten times a second at most.
    async fn follow(self: Rc<Self>, notebook: Rc<Notebook>) {
        let mut news = notebook.news.subscribe();
        let mut changed: BTreeSet<u64> = notebook.cells().iter().map(|cell| cell.id).collect();
        loop {
            let unfinished = self.show(&notebook, &changed);
            self.handle.sleep(SHOWN).await;
            // What was shown in part is shown as a whole if it has come to rest.
            changed = unfinished;
            let wait = match changed.is_empty() {
                true => future::Either::Left(future::pending()),
                false => future::Either::Right(future::ready(())),
            };
            let first = match future::select(Box::pin(news.next()), wait).await {
                future::Either::Left((None, _)) => return,
                future::Either::Left((first, _)) => first,
                future::Either::Right(_) => None,
            };
            let mut next = first;
            while let Some(received) = next {
                match received {
                    Received::Message { message, .. } => changed.extend(message.cell),
                    Received::Missed(_) => {
                        changed.extend(notebook.cells().iter().map(|cell| cell.id));
                    }
                }
                next = news.next().now_or_never().flatten();
            }
        }
    }

    /// Shows these cells as they are now. Returns those that are not shown as a whole.
    fn show(self: &Rc<Self>, notebook: &Rc<Notebook>, changed: &BTreeSet<u64>) -> BTreeSet<u64> {
        let state = match notebook.kernel_state() {
            "none" => "No kernel",
            "starts" => "The kernel starts",
            "busy" => "The kernel is busy",
            _ => "The kernel is idle",
        };
        if self.kernel.text() != state {
            self.kernel.set_text(state);
        }
        let mut views = self.cells.borrow_mut();
        let cells = notebook.cells();
        views.retain(|view| {
            let stays = cells.iter().any(|cell| cell.id == view.id);
            if !stays {
                self.column.remove(&view.whole);
            }
            stays
        });
        let mut unfinished = BTreeSet::new();
        for (at, cell) in cells.iter().enumerate() {
            if views.get(at).is_none_or(|view| view.id != cell.id) {
                let view = CellView::new(self, cell.id);
                let before = at.checked_sub(1).map(|before| &views[before].whole);
                self.column.insert_child_after(&view.whole, before);
                views.insert(at, view);
            }
            if changed.contains(&cell.id) && !views[at].show(&self.handle, cell) {
                unfinished.insert(cell.id);
            }
        }
        unfinished
    }
}

struct CellView {
    id: u64,
    whole: gtk::Box,
    count: gtk::Label,
    source: gtk::TextBuffer,
    /// The handler that hears when somebody writes.
    edited: glib::SignalHandlerId,
    run: gtk::Button,
    below: gtk::Box,
    outputs: BTreeMap<usize, OutputView>,
}

impl CellView {
    fn new(window: &Rc<Window>, id: u64) -> CellView {
        let count = gtk::Label::builder()
            .width_chars(4)
            .yalign(0.0)
            .css_classes(["dim-label", "numeric"])
            .build();
        let source = gtk::TextView::builder()
            .monospace(true)
            .accepts_tab(false)
            .hexpand(true)
            .left_margin(6)
            .right_margin(6)
            .top_margin(4)
            .bottom_margin(4)
            .build();
        let frame = gtk::Frame::builder().child(&source).build();
        let run = gtk::Button::with_label("Run");
        let remove = gtk::Button::with_label("Remove");
        for button in [&run, &remove] {
            button.set_valign(gtk::Align::Start);
        }
        let above = gtk::Box::new(gtk::Orientation::Horizontal, 6);
        above.append(&count);
        above.append(&frame);
        above.append(&run);
        above.append(&remove);
        let below = gtk::Box::new(gtk::Orientation::Vertical, 6);
        let whole = gtk::Box::new(gtk::Orientation::Vertical, 6);
        whole.append(&above);
        whole.append(&below);

        let buffer = source.buffer();
        let act = {
            let (window, buffer) = (Rc::downgrade(window), buffer.clone());
            move |wish: fn(u64, String) -> Wish| {
                let text = buffer.text(&buffer.start_iter(), &buffer.end_iter(), true);
                window
                    .upgrade()
                    .inspect(|window| window.act(wish(id, text.into())));
            }
        };
        let edited = buffer.connect_changed({
            let act = act.clone();
            move |_| act(|id, source| Wish::Edit { id, source })
        });
        let keys = gtk::EventControllerKey::new();
        keys.set_propagation_phase(gtk::PropagationPhase::Capture);
        keys.connect_key_pressed({
            let act = act.clone();
            move |_, key, _, held| {
                let modifiers = gdk::ModifierType::SHIFT_MASK | gdk::ModifierType::CONTROL_MASK;
                if key != gdk::Key::Return || !held.intersects(modifiers) {
                    return glib::Propagation::Proceed;
                }
                act(|id, source| Wish::Run { id, source });
                glib::Propagation::Stop
            }
        });
        source.add_controller(keys);
        remove.connect_clicked({
            let act = act.clone();
            move |_| act(|id, _| Wish::Remove { id })
        });
        run.connect_clicked(move |_| act(|id, source| Wish::Run { id, source }));
        CellView {
            id,
            whole,
            count,
            source: buffer,
            edited,
            run,
            below,
            outputs: BTreeMap::new(),
        }
    }

    /// Shows a cell. Returns whether all of it is shown that can be.
    fn show(&mut self, handle: &Handle, cell: &CellOf) -> bool {
        let content = &cell.content;
        let (start, end) = (self.source.start_iter(), self.source.end_iter());
        // No text of GTK has a NUL.
        let source = match content.source.contains('\0') {
            true => Cow::Owned(content.source.replace('\0', "\u{fffd}")),
            false => Cow::Borrowed(&*content.source),
        };
        if self.source.text(&start, &end, true) != *source {
            // Somebody else has written it.
            self.source.block_signal(&self.edited);
            self.source.set_text(&source);
            self.source.unblock_signal(&self.edited);
        }
        let count = content
            .count
            .map_or(String::new(), |count| format!("[{count}]"));
        if self.count.text() != count {
            self.count.set_text(&count);
        }
        self.run.set_sensitive(cell.state == State::Idle);
        let from = content.outputs.len().saturating_sub(MAX_OUTPUTS);
        let shown = from..content.outputs.len();
        self.outputs.retain(|at, view| {
            let stays = shown.contains(at) && view.is_of(&content.outputs[*at]);
            if !stays {
                self.below.remove(&view.widget);
            }
            stays
        });
        let mut is_whole = true;
        for at in shown {
            let output = &content.outputs[at];
            let view = self.outputs.entry(at).or_insert_with(|| {
                let view = OutputView::new(handle, output);
                self.below.append(&view.widget);
                view
            });
            is_whole &= view.show(output, cell.state == State::Running);
        }
        is_whole
    }
}

struct OutputView {
    widget: gtk::Widget,
    /// Nothing if it is a picture.
    text: Option<(gtk::ScrolledWindow, gtk::TextBuffer)>,
    is_error: bool,
    length: Cell<usize>,
    is_whole: Cell<bool>,
}

impl OutputView {
    fn new(handle: &Handle, output: &Output) -> OutputView {
        let is_error = matches!(output, Output::Error { .. });
        let (widget, text) = match output {
            Output::Picture { png } => (picture(handle, png).upcast(), None),
            _ => {
                let text = gtk::TextView::builder()
                    .editable(false)
                    .cursor_visible(false)
                    .monospace(true)
                    .wrap_mode(gtk::WrapMode::Char)
                    .left_margin(6)
                    .build();
                if is_error {
                    text.add_css_class("error");
                }
                let scrolled = gtk::ScrolledWindow::builder()
                    .propagate_natural_height(true)
                    .max_content_height(320)
                    .margin_start(40)
                    .child(&text)
                    .build();
                // The end is what is new.
                scrolled.vadjustment().connect_changed(|position| {
                    position.set_value(position.upper() - position.page_size());
                });
                (scrolled.clone().upcast(), Some((scrolled, text.buffer())))
            }
        };
        OutputView {
            widget,
            text,
            is_error,
            length: Cell::new(0),
            is_whole: Cell::new(false),
        }
    }

    /// Whether it can show this: the same as before, or more of it.
    fn is_of(&self, output: &Output) -> bool {
        let is_picture = matches!(output, Output::Picture { .. });
        self.text.is_none() == is_picture
            && self.is_error == matches!(output, Output::Error { .. })
            && match is_picture {
                true => self.length.get() == output.len(),
                false => self.length.get() <= output.len(),
            }
    }

    fn show(&self, output: &Output, is_running: bool) -> bool {
        let grown = output.len() - self.length.replace(output.len());
        if grown == 0 && self.is_whole.get() {
            return true;
        }
        let is_fast = is_running && grown > FAST;
        self.is_whole.set(!is_fast);
        if let (
            Some((scrolled, buffer)),
            Output::Text { text } | Output::Value { text } | Output::Error { text },
        ) = (&self.text, output)
        {
            let lines = if is_fast { LINES_IF_FAST } else { MAX_LINES };
            let text = last_lines(text, lines);
            // A few lines need no bar, which would take their place.
            let vertical = match text.lines().nth(10) {
                None => gtk::PolicyType::Never,
                Some(_) => gtk::PolicyType::Automatic,
            };
            scrolled.set_policy(gtk::PolicyType::Never, vertical);
            buffer.set_text(&text);
        }
        !is_fast
    }
}

/// The last lines of a text, without what no text may have.
fn last_lines(text: &str, count: usize) -> String {
    let end = &text.as_bytes()[text.len().saturating_sub(MAX_TEXT)..];
    let text = String::from_utf8_lossy(end);
    let text = text.trim_end_matches('\n');
    let from = text.rmatch_indices('\n').nth(count.saturating_sub(1));
    let text = &text[from.map_or(0, |(at, _)| at + 1)..];
    let mut shown = String::with_capacity(text.len());
    for line in text.lines() {
        if !shown.is_empty() {
            shown.push('\n');
        }
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
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_text_are_shown() {
        assert_eq!(last_lines("", 2), "");
        assert_eq!(last_lines("1\n2\n3\n", 2), "2\n3");
        assert_eq!(last_lines("1\n2\n3", 5), "1\n2\n3");
        assert_eq!(last_lines(" 1 %\r 99 %\n\0", 5), " 99 %\n\u{fffd}");
        let long = "ä".repeat(MAX_TEXT);
        assert_eq!(last_lines(&long, 5).chars().count(), MAX_COLUMNS);
    }
}
