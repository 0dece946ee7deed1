//! Puts the output of a kernel and its events in order. They come by different pipes. When
//! something happens, the kernel writes an event to one, and then a mark to the other.

use std::collections::VecDeque;

use memchr::memmem;
use serde::Deserialize;

/// What a kernel says.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Event {
    /// It takes cells now.
    Ready,
    /// The value of the cell's last line.
    Value { text: String },
    /// A picture, as PNG in base64.
    Picture { png: String },
    /// Why the cell has failed.
    Error { text: String },
    /// The cell is done.
    Done,
}

#[derive(Debug, PartialEq)]
pub enum Item {
    Output(String),
    Event(Event),
}

/// More output than this is not held for an event: then the mark was not a mark.
const MAX_HELD: usize = 1024 * 1024;

/// Events that wait for their marks, and their bytes.
const MAX_EVENTS: usize = 1_000;
const MAX_BYTES: usize = 32 * 1024 * 1024;

pub struct Order {
    mark: Vec<u8>,
    output: Vec<u8>,
    events: VecDeque<Event>,
}

impl Order {
    pub fn new(mark: &str) -> Order {
        Order {
            mark: mark.as_bytes().to_vec(),
            output: Vec::new(),
            events: VecDeque::new(),
        }
    }

    pub fn output(&mut self, data: &[u8]) {
        self.output.extend_from_slice(data);
    }

    /// Fails if there are events without marks, which pile up.
    pub fn event(&mut self, event: Event) -> Result<(), &'static str> {
        let size = |event: &Event| match event {
            Event::Value { text } | Event::Error { text } | Event::Picture { png: text } => {
                text.len()
            }
            Event::Ready | Event::Done => 0,
        };
        self.events.push_back(event);
        let bytes: usize = self.events.iter().map(size).sum();
        match self.events.len() > MAX_EVENTS || bytes > MAX_BYTES {
            true => Err("its events come without marks"),
            false => Ok(()),
        }
    }

    /// The next thing that has happened, if it is here as a whole.
    pub fn next(&mut self) -> Option<Item> {
        let length = match memmem::find(&self.output, &self.mark) {
            Some(0) => match self.events.pop_front() {
                Some(event) => {
                    self.output.drain(..self.mark.len());
                    return Some(Item::Event(event));
                }
                None if self.output.len() > MAX_HELD => self.mark.len(),
                None => return None,
            },
            Some(at) => at,
            None => self.output.len() - self.held(),
        };
        if length == 0 {
            return None;
        }
        let rest = self.output.split_off(length);
        let text = std::mem::replace(&mut self.output, rest);
        Some(Item::Output(String::from_utf8_lossy(&text).into_owned()))
    }

    /// What is left at the end.
    pub fn rest(&mut self) -> String {
        let rest = std::mem::take(&mut self.output);
        String::from_utf8_lossy(&rest).replace(&*String::from_utf8_lossy(&self.mark), "")
    }

    /// How many bytes at the end may be the beginning of a mark, or are the beginning of a
    /// character.
    fn held(&self) -> usize {
        let output = &self.output[..];
        let mark = (1..self.mark.len())
            .rev()
            .find(|count| output.ends_with(&self.mark[..*count]));
        mark.unwrap_or_else(|| {
            let tail = &output[output.len().saturating_sub(3)..];
            let begin = tail.iter().rposition(|byte| *byte >= 0xc0);
            let begun = begin.map_or(&[][..], |begin| &tail[begin..]);
            match std::str::from_utf8(begun) {
                Err(error) if error.error_len().is_none() => begun.len(),
                _ => 0,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(order: &mut Order) -> Vec<Item> {
        std::iter::from_fn(|| order.next()).collect()
    }

    fn text(text: &str) -> Item {
        Item::Output(text.to_owned())
    }

    #[test]
    fn an_event_comes_after_the_output_before_it() {
        let mut order = Order::new("<mark>");
        order.event(Event::Done).expect("room");
        order.output(b"one");
        assert_eq!(all(&mut order), [text("one")]);
        order.output(b"two<ma");
        assert_eq!(all(&mut order), [text("two")]);
        order.output(b"rk>three");
        assert_eq!(all(&mut order), [Item::Event(Event::Done), text("three")]);
    }

    #[test]
    fn output_after_a_mark_waits_for_the_event() {
        let mut order = Order::new("<mark>");
        order.output(b"one<mark>two<mark>");
        assert_eq!(all(&mut order), [text("one")]);
        order.event(Event::Ready).expect("room");
        assert_eq!(all(&mut order), [Item::Event(Event::Ready), text("two")]);
        order.event(Event::Done).expect("room");
        assert_eq!(all(&mut order), [Item::Event(Event::Done)]);
        order.output(b"<mark>");
        order.output(&vec![b'x'; MAX_HELD]);
        assert_eq!(all(&mut order).len(), 2);
    }

    #[test]
    fn events_without_marks_do_not_pile_up() {
        let flood = |event: fn() -> Event| {
            let mut order = Order::new("<mark>");
            (0..10_000).any(|_| order.event(event()).is_err())
        };
        assert!(flood(|| Event::Ready));
        assert!(flood(|| Event::Value {
            text: "x".repeat(1024 * 1024)
        }));
    }

    #[test]
    fn characters_are_not_torn_apart() {
        let mut order = Order::new("<mark>");
        let (euro, mut seen) = ("€ä𝄞".as_bytes(), String::new());
        for byte in euro {
            order.output(&[*byte]);
            for item in all(&mut order) {
                let Item::Output(text) = item else { panic!() };
                seen += &text;
            }
        }
        assert_eq!(seen, "€ä𝄞");
        order.output(b"\xff\xfe\xe2");
        assert_eq!(all(&mut order), [text("\u{fffd}\u{fffd}")]);
        order.output(b"\x82\xac");
        assert_eq!(all(&mut order), [text("€")]);
        order.output(b"a\xe2<mark>");
        assert_eq!(all(&mut order), [text("a\u{fffd}")]);
    }
}
