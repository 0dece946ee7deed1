//! Reports the frame clocks of GTK's windows to the reactor.

use std::{
    cell::{Cell, RefCell},
    ops::Range,
    rc::Rc,
    time::Duration,
};

use entwined::Handle;
use gtk4::{
    Window, gio,
    glib::{Object, SignalHandlerId, WeakRef},
    prelude::*,
};

pub(crate) struct Frames {
    network: Handle,
    following: Cell<bool>,
    /// What it has connected to others, which outlive it.
    handlers: RefCell<Vec<Handler>>,
}

/// A handler on an object, disconnected when it is dropped.
struct Handler {
    object: WeakRef<Object>,
    id: Option<SignalHandlerId>,
}

impl Handler {
    fn new(object: &impl IsA<Object>, id: SignalHandlerId) -> Self {
        Handler {
            object: object.upcast_ref().downgrade(),
            id: Some(id),
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        if let (Some(object), Some(id)) = (self.object.upgrade(), self.id.take()) {
            object.disconnect(id);
        }
    }
}

impl Frames {
    pub(crate) fn new(network: Handle) -> Rc<Self> {
        Rc::new(Frames {
            network,
            following: Cell::new(false),
            handlers: RefCell::default(),
        })
    }

    /// Follows all current and future windows. GTK must be initialized.
    pub(crate) fn follow(self: &Rc<Self>) {
        if self.following.replace(true) {
            return;
        }
        let windows = Window::toplevels();
        self.follow_windows(&windows, 0..windows.n_items());
        let frames = Rc::downgrade(self);
        let changed = windows.connect_items_changed(move |windows, position, _, added| {
            if let Some(frames) = frames.upgrade() {
                frames.follow_windows(windows, position..position + added);
            }
        });
        self.keep([Handler::new(&windows, changed)]);
    }

    fn follow_windows(self: &Rc<Self>, windows: &gio::ListModel, positions: Range<u32>) {
        for window in
            positions.filter_map(|position| windows.item(position)?.downcast::<Window>().ok())
        {
            if window.is_realized() {
                self.follow_clock(&window);
            }
            // A window gets another clock each time it is realized.
            let frames = Rc::downgrade(self);
            let realized = window.connect_realize(move |window| {
                if let Some(frames) = frames.upgrade() {
                    frames.follow_clock(window);
                }
            });
            self.keep([Handler::new(&window, realized)]);
        }
    }

    fn follow_clock(&self, window: &Window) {
        let Some(surface) = window.surface() else {
            return;
        };
        // Owned by GDK's clock, and dropped with it or with this.
        let clock = Rc::new(self.network.frame_clock());
        let source = surface.frame_clock();
        let begin = source.connect_before_paint({
            let clock = clock.clone();
            move |source| {
                let (interval, _) = source.refresh_info(source.frame_time());
                clock.begin(Duration::from_micros(interval.unsigned_abs()));
            }
        });
        let end = source.connect_after_paint(move |_| clock.end());
        self.keep([Handler::new(&source, begin), Handler::new(&source, end)]);
    }

    fn keep<const COUNT: usize>(&self, handlers: [Handler; COUNT]) {
        let mut kept = self.handlers.borrow_mut();
        // Of windows that are gone.
        kept.retain(|handler| handler.object.upgrade().is_some());
        kept.extend(handlers);
    }
}
