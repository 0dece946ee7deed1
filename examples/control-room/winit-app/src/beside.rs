//! Reports what the toolkit does not report about its window, using guests next to it. On X11: its
//! properties, including whether it is hidden. On Wayland: when its frames are shown. On Wayland
//! the screen also stays on while the window shows data from the network, if the compositor
//! supports that.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use entwined::Handle;
use entwined_window::{
    Error,
    wayland::{Inhibitor, Presentation},
    x11::{Properties, Value},
};
use winit::{event_loop::OwnedDisplayHandle, window::Window};

/// The guests of one window.
pub enum Beside {
    /// On X11: each property that was set since then, as text.
    X11(Rc<RefCell<BTreeMap<String, String>>>),
    /// On Wayland.
    Wayland {
        /// Boxed, because it is much larger.
        presentation: Box<Presentation>,
        /// Keeps the screen on as long as it lives.
        inhibitor: Inhibitor,
    },
    /// There are none; the reason was printed.
    Nothing,
}

impl Beside {
    /// Begins to follow this window. `hide` is called with whether it is hidden.
    pub fn begin(
        handle: &Handle,
        window: &Rc<Window>,
        display: &OwnedDisplayHandle,
        hide: impl Fn(bool) + 'static,
    ) -> Self {
        match Properties::of(handle, window) {
            Ok(properties) => return Self::X11(follow(handle, properties, hide)),
            Err(Error::OtherSystem(_)) => {}
            Err(error) => eprintln!("cannot follow the window's properties: {error}"),
        }
        let presentation = Presentation::new(handle, display.clone(), window.clone());
        let inhibitor = Inhibitor::new(handle, display.clone(), window.clone());
        match (presentation, inhibitor) {
            (Ok(presentation), Ok(inhibitor)) => Self::Wayland {
                presentation: Box::new(presentation),
                inhibitor,
            },
            (Err(error), _) | (_, Err(error)) => {
                eprintln!("cannot follow the window's frames: {error}");
                Self::Nothing
            }
        }
    }

    /// Must be called just before a frame is committed.
    pub fn before_present(&self) {
        if let Self::Wayland { presentation, .. } = self {
            // The window exists.
            let _ = presentation.ask();
        }
    }

    /// Returns what is known.
    pub fn facts(&self) -> Vec<(String, String)> {
        match self {
            Self::X11(properties) => properties.borrow().clone().into_iter().collect(),
            Self::Wayland {
                presentation,
                inhibitor,
            } => {
                let presented = presentation.presented();
                vec![
                    ("frames shown".to_owned(), presented.shown.to_string()),
                    (
                        "frames discarded".to_owned(),
                        presented.discarded.to_string(),
                    ),
                    (
                        "refresh".to_owned(),
                        presented
                            .refresh
                            .map_or("not told".to_owned(), |time| format!("{time:?}")),
                    ),
                    (
                        "screen stays on".to_owned(),
                        inhibitor.is_active().to_string(),
                    ),
                ]
            }
            Self::Nothing => Vec::new(),
        }
    }
}

fn follow(
    handle: &Handle,
    mut properties: Properties,
    hide: impl Fn(bool) + 'static,
) -> Rc<RefCell<BTreeMap<String, String>>> {
    let all = Rc::new(RefCell::new(BTreeMap::new()));
    let known = all.clone();
    handle.spawn(async move {
        // Until the display is gone.
        while let Ok(change) = properties.next().await {
            if change.name == "_NET_WM_STATE" {
                let hidden = |value: &Value| {
                    matches!(value, Value::Atoms(atoms)
                        if atoms.iter().any(|it| it == "_NET_WM_STATE_HIDDEN"))
                };
                hide(change.value.as_ref().is_some_and(hidden));
            }
            let text = change.value.map(|value| match value {
                Value::Text(text) => text,
                Value::Atoms(atoms) => atoms.join(", "),
                Value::Numbers(numbers) => format!("{numbers:?}"),
                other => format!("{other:?}"),
            });
            keep(&mut known.borrow_mut(), change.name, text);
        }
    });
    all
}

/// How many properties are shown, and how much of a name or a text. Any program of this display may
/// set properties of any window.
const MOST: usize = 64;
const MOST_TEXT: usize = 256;

fn keep(all: &mut BTreeMap<String, String>, name: String, text: Option<String>) {
    let short = |text: String| text.chars().take(MOST_TEXT).collect::<String>();
    let name = short(name);
    match text {
        Some(text) if all.len() < MOST || all.contains_key(&name) => {
            all.insert(name, short(text));
        }
        Some(_) => {}
        None => drop(all.remove(&name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_programs_set_takes_little_memory() {
        let mut all = BTreeMap::new();
        for number in 0..1_000 {
            keep(&mut all, number.to_string(), Some("é".repeat(64 * 1024)));
        }
        assert_eq!(all.len(), MOST);
        assert!(all.values().all(|text| text.len() <= 2 * MOST_TEXT));
        keep(&mut all, "0".into(), Some("b".into()));
        assert_eq!(all["0"], "b");
        keep(&mut all, "0".into(), None);
        keep(&mut all, "a".into(), Some("b".into()));
        assert_eq!(all.len(), MOST);
    }
}
