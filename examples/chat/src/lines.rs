//! People with telnet: each line is said to the partner.

use std::rc::Rc;

use entwined::{
    framing::Lines,
    protocol::{Connection, FrameReceiver, Framed, Lost},
    transport::Address,
};

use crate::hall::{Action, Event, Hall, Place};

const MAX_LINE: usize = 1_024;

pub fn protocol(hall: &Rc<Hall>) -> impl Fn(&Address) -> Option<Framed<Lines, Line>> + use<> {
    let hall = hall.clone();
    move |_peer| {
        let line = Line {
            hall: hall.clone(),
            place: None,
        };
        Some(Framed::new(Lines::new(MAX_LINE), line))
    }
}

pub struct Line {
    hall: Rc<Hall>,
    place: Option<Place>,
}

impl FrameReceiver<Lines> for Line {
    fn connection_made(&mut self, connection: &Connection) {
        connection.write(b"* /next finds somebody else\r\n");
        let to = connection.clone();
        self.place = Some(self.hall.enter(move |event| {
            let line = match event {
                Event::Waiting => "* waiting for a stranger".into(),
                Event::Paired => "* here is a stranger".into(),
                Event::Said { text } => format!("stranger: {}", printable(&text)),
                Event::Typing => "* the stranger is typing".into(),
                Event::Gone => "* the stranger has gone".into(),
            };
            to.write_all(&[line.as_bytes(), b"\r\n"]);
        }));
    }

    fn frame_received(&mut self, _: &Connection, _: &mut Lines, line: &[u8]) {
        let Some(place) = &self.place else { return };
        place.act(match line {
            b"/next" => Action::Next,
            line => Action::Say {
                text: String::from_utf8_lossy(line).into_owned(),
            },
        });
    }

    fn connection_lost(&mut self, why: &Lost) {
        tracing::debug!(%why, "a line has gone");
        self.place = None;
    }
}

/// Terminals obey control characters, so strangers must not send them.
fn printable(text: &str) -> String {
    text.replace(char::is_control, " ")
}
