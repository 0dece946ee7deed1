//! Editing the model's text with a cursor.

use site::{MAX_TEXT, Model};

/// The cursor position. The text itself belongs to the model, and may change at any time.
#[derive(Debug, Default)]
pub(crate) struct Editor {
    cursor: usize,
}

/// What a key does to the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    Backspace,
    Delete,
    Left,
    Right,
    Home,
    End,
}

impl Editor {
    /// Returns the index of the character before which the cursor is.
    pub(crate) fn cursor(&self, model: &Model) -> usize {
        self.cursor.min(model.text().chars().count())
    }

    /// Inserts as much of `text` as there is room for.
    pub(crate) fn insert(&mut self, model: &Model, text: &str) {
        let mut all: Vec<char> = model.text().chars().collect();
        let cursor = self.cursor.min(all.len());
        let room = MAX_TEXT.saturating_sub(all.len());
        let new: Vec<char> = text
            .chars()
            .filter(|c| !c.is_control())
            .take(room)
            .collect();
        self.cursor = cursor + new.len();
        all.splice(cursor..cursor, new);
        model.set_text(&String::from_iter(all));
    }

    pub(crate) fn edit(&mut self, model: &Model, edit: Edit) {
        let mut all: Vec<char> = model.text().chars().collect();
        let cursor = self.cursor.min(all.len());
        self.cursor = match edit {
            Edit::Backspace | Edit::Left => cursor.saturating_sub(1),
            Edit::Right => (cursor + 1).min(all.len()),
            Edit::Delete => cursor,
            Edit::Home => 0,
            Edit::End => all.len(),
        };
        let gone = match edit {
            Edit::Backspace => self.cursor..cursor,
            Edit::Delete => cursor..(cursor + 1).min(all.len()),
            _ => return,
        };
        all.drain(gone);
        model.set_text(&String::from_iter(all));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use site::Host;

    #[test]
    fn typing_moving_and_deleting() {
        let model = Model::new(Host::Winit);
        let mut editor = Editor::default();
        editor.insert(&model, "grün");
        editor.edit(&model, Edit::Left);
        editor.edit(&model, Edit::Backspace);
        editor.insert(&model, "ee");
        assert_eq!(model.text(), "green");
        editor.edit(&model, Edit::Home);
        editor.edit(&model, Edit::Delete);
        assert_eq!((model.text().as_str(), editor.cursor(&model)), ("reen", 0));
        editor.edit(&model, Edit::Backspace);
        editor.edit(&model, Edit::End);
        editor.edit(&model, Edit::Right);
        editor.edit(&model, Edit::Delete);
        assert_eq!((model.text().as_str(), editor.cursor(&model)), ("reen", 4));
    }

    #[test]
    fn the_cursor_stays_in_a_text_that_became_shorter() {
        let model = Model::new(Host::Winit);
        let mut editor = Editor::default();
        editor.insert(&model, "a long text");
        model.set_text("ab");
        assert_eq!(editor.cursor(&model), 2);
        editor.insert(&model, "c\n");
        assert_eq!(model.text(), "abc");
    }

    #[test]
    fn a_full_text_takes_no_more() {
        let model = Model::new(Host::Winit);
        let mut editor = Editor::default();
        editor.insert(&model, &"x".repeat(MAX_TEXT + 1));
        editor.edit(&model, Edit::Home);
        editor.insert(&model, "y");
        assert_eq!(model.text(), "x".repeat(MAX_TEXT));
        assert_eq!(editor.cursor(&model), 0);
    }
}
