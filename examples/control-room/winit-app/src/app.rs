//! The app as winit sees it: events in, frames out. It knows nothing about the network.

use std::rc::Rc;
use std::time::{Duration, Instant};

use site::canvas::{Canvas, Scene, Target};
use site::{Model, Pixels};
use winit::application::ApplicationHandler;
use winit::event::{ElementState, KeyEvent, MouseButton, WindowEvent};
use winit::event_loop::{ActiveEventLoop, ControlFlow, OwnedDisplayHandle};
use winit::keyboard::{Key, ModifiersState, NamedKey};
use winit::window::{CursorIcon, Theme, Window, WindowId};

use crate::beside::Beside;
use crate::browser::Browser;
use crate::editor::{Edit, Editor};
use crate::pace::Pace;
use crate::screen::{Screen, ScreenError};

/// Called when the window has opened.
type Opened = Box<dyn FnOnce(&Rc<Window>, &OwnedDisplayHandle) -> Beside>;

/// Half a blink of the cursor.
const BLINK: Duration = Duration::from_millis(530);

/// The window for a model.
///
/// It handles any user event type and ignores the events. A program that does more than draw can
/// wrap it: forward each call, and after [`about_to_wait`](ApplicationHandler::about_to_wait) set
/// an earlier control flow if it has something earlier to wake for.
pub struct App {
    model: Model,
    address: String,
    screen: Option<Screen>,
    opened: Option<Opened>,
    beside: Option<Beside>,
    error: Option<ScreenError>,
    pace: Pace,
    end: Option<Instant>,
    editor: Editor,
    browser: Browser,
    focus: Target,
    focused: bool,
    modifiers: ModifiersState,
    hover: Option<Target>,
    pressed: bool,
    hidden: bool,
    dark: bool,
    edited: Instant,
}

impl App {
    /// Creates an app without a window; the window opens when the event loop says so.
    pub fn new(model: Model) -> Self {
        let now = Instant::now();
        Self {
            model,
            address: String::new(),
            screen: None,
            opened: None,
            beside: None,
            error: None,
            pace: Pace::new(now),
            end: None,
            editor: Editor::default(),
            browser: Browser::default(),
            focus: Target::Count,
            focused: false,
            modifiers: ModifiersState::empty(),
            hover: None,
            pressed: false,
            hidden: false,
            dark: false,
            edited: now,
        }
    }

    /// Calls `opened` with the window when it opens; `opened` returns the guests next to it.
    pub fn on_open(
        &mut self,
        opened: impl FnOnce(&Rc<Window>, &OwnedDisplayHandle) -> Beside + 'static,
    ) {
        self.opened = Some(Box::new(opened));
    }

    /// Shows where the web server is.
    pub fn set_address(&mut self, address: &str) {
        address.clone_into(&mut self.address);
    }

    /// Makes the event loop exit after `time` from now.
    pub fn end_after(&mut self, time: Duration) {
        self.end = Some(Instant::now() + time);
    }

    /// Returns why the event loop ended, if the user did not end it.
    pub fn take_error(&mut self) -> Option<ScreenError> {
        self.error.take()
    }

    /// Returns the window's current contents; `None` while there is no window.
    pub fn picture(&mut self) -> Option<Pixels> {
        let mut screen = self.screen.take()?;
        let picture = screen.picture(&self.scene(Instant::now()));
        self.screen = Some(screen);
        Some(picture)
    }

    /// When the app wants to be woken next, apart from events; `None` if it does not.
    pub fn next_wake(&self) -> Option<Instant> {
        let frame = (self.screen.is_some() && !self.hidden).then(|| self.pace.next());
        [frame, self.end].into_iter().flatten().min()
    }

    fn scene(&self, now: Instant) -> Scene<'_> {
        let blink = now.saturating_duration_since(self.edited).as_millis() / BLINK.as_millis();
        let editing = self.focused && self.focus == Target::Text;
        Scene {
            model: &self.model,
            address: &self.address,
            focus: self.focused.then_some(self.focus),
            hover: self.hover,
            pressed: self.pressed,
            cursor: editing.then(|| self.editor.cursor(&self.model)),
            cursor_shown: blink.is_multiple_of(2),
            dark: self.dark,
            now,
        }
    }

    fn draw(&mut self, event_loop: &ActiveEventLoop) {
        let Some(mut screen) = self.screen.take() else {
            return;
        };
        let now = Instant::now();
        self.model.tick(now);
        let before = || {
            if let Some(beside) = &self.beside {
                beside.before_present();
            }
        };
        match screen.show(&self.scene(now), before) {
            // Use the time after the painting, which is when the user can see the frame.
            Ok(()) => self.model.frame(Instant::now()),
            Err(error) => self.fail(event_loop, error),
        }
        self.screen = Some(screen);
    }

    fn fail(&mut self, event_loop: &ActiveEventLoop, error: ScreenError) {
        self.error = Some(error);
        event_loop.exit();
    }

    /// Returns what is known about the window beyond what winit reports.
    pub fn facts(&self) -> Vec<(String, String)> {
        self.beside.as_ref().map(Beside::facts).unwrap_or_default()
    }

    /// Draws no frames while the window is hidden.
    pub fn hide(&mut self, hidden: bool) {
        self.hidden = hidden;
        if hidden {
            self.model.pause_frames();
        }
    }

    fn point(&mut self, at: (f64, f64)) {
        let Some(screen) = &self.screen else { return };
        let target = Canvas::target(screen.size(), screen.window().scale_factor(), at);
        if target != self.hover {
            self.hover = target;
            screen.window().set_cursor(match target {
                Some(Target::Text) => CursorIcon::Text,
                Some(_) => CursorIcon::Pointer,
                None => CursorIcon::Default,
            });
        }
    }

    /// A button counts when it is released over it, so that a press can be taken back.
    fn click(&mut self, state: ElementState) {
        match (state, self.hover) {
            (ElementState::Pressed, Some(Target::Count)) => {
                self.focus = Target::Count;
                self.pressed = true;
            }
            (ElementState::Pressed, Some(Target::Text)) => {
                self.focus = Target::Text;
                self.edit(Edit::End);
            }
            (ElementState::Pressed, Some(Target::Address)) => {
                if let Err(error) = self.browser.open(&self.address) {
                    eprintln!(
                        "winit-app: could not open {} in a browser: {error}",
                        self.address
                    );
                }
            }
            (ElementState::Pressed, None) => {}
            (ElementState::Released, target) => {
                if std::mem::take(&mut self.pressed) && target == Some(Target::Count) {
                    self.count();
                }
            }
        }
    }

    /// Tab and Escape move the focus, Enter counts, Space counts outside the text entry, and all
    /// other characters go to the text.
    fn press(&mut self, key: &KeyEvent) {
        let Key::Named(named) = &key.logical_key else {
            return self.write(key);
        };
        let writing = self.focus == Target::Text;
        match named {
            NamedKey::Tab if writing => self.focus = Target::Count,
            NamedKey::Tab => self.focus_text(),
            NamedKey::Escape => self.focus = Target::Count,
            NamedKey::Enter => self.count(),
            NamedKey::Space if !writing => self.count(),
            NamedKey::Backspace if writing => self.edit(Edit::Backspace),
            NamedKey::Delete if writing => self.edit(Edit::Delete),
            NamedKey::ArrowLeft if writing => self.edit(Edit::Left),
            NamedKey::ArrowRight if writing => self.edit(Edit::Right),
            NamedKey::Home if writing => self.edit(Edit::Home),
            NamedKey::End if writing => self.edit(Edit::End),
            _ => self.write(key),
        }
    }

    fn write(&mut self, key: &KeyEvent) {
        let command =
            self.modifiers.control_key() || self.modifiers.alt_key() || self.modifiers.super_key();
        let Some(text) = key.text.as_ref().filter(|_| !command) else {
            return;
        };
        if text.chars().all(char::is_control) {
            return;
        }
        if self.focus != Target::Text {
            self.focus_text();
        }
        self.edited = Instant::now();
        self.editor.insert(&self.model, text);
    }

    fn count(&self) {
        self.model.add();
    }

    fn focus_text(&mut self) {
        self.focus = Target::Text;
        self.edit(Edit::End);
    }

    fn edit(&mut self, edit: Edit) {
        self.edited = Instant::now();
        self.editor.edit(&self.model, edit);
    }
}

impl<T: 'static> ApplicationHandler<T> for App {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        if self.screen.is_some() {
            return;
        }
        match Screen::open(event_loop) {
            Ok(screen) => {
                self.dark = screen.window().theme() == Some(Theme::Dark);
                self.focused = screen.window().has_focus();
                if let Some(opened) = self.opened.take() {
                    self.beside = Some(opened(screen.window(), &event_loop.owned_display_handle()));
                }
                self.screen = Some(screen);
            }
            Err(error) => self.fail(event_loop, error),
        }
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        match event {
            WindowEvent::RedrawRequested => self.draw(event_loop),
            WindowEvent::CloseRequested => event_loop.exit(),
            WindowEvent::Occluded(hidden) => self.hide(hidden),
            WindowEvent::ThemeChanged(theme) => self.dark = theme == Theme::Dark,
            WindowEvent::Focused(focused) => self.focused = focused,
            WindowEvent::ModifiersChanged(modifiers) => self.modifiers = modifiers.state(),
            WindowEvent::CursorMoved { position, .. } => self.point(position.into()),
            WindowEvent::CursorLeft { .. } => self.hover = None,
            WindowEvent::MouseInput {
                state,
                button: MouseButton::Left,
                ..
            } => self.click(state),
            WindowEvent::KeyboardInput { event, .. } if event.state.is_pressed() => {
                self.press(&event)
            }
            _ => {}
        }
    }

    fn about_to_wait(&mut self, event_loop: &ActiveEventLoop) {
        let now = Instant::now();
        if self.end.is_some_and(|end| end <= now) {
            return event_loop.exit();
        }
        if let Some(screen) = &self.screen
            && !self.hidden
            && self.pace.due(now)
        {
            screen.window().request_redraw();
        }
        event_loop.set_control_flow(match self.next_wake() {
            Some(wake) => ControlFlow::WaitUntil(wake),
            None => ControlFlow::Wait,
        });
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}
