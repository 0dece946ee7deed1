//! iCalendar (RFC 5545), as far as a server must understand what it stores.

use std::borrow::Cow;

use crate::fault::Fault;

/// Components in components: an alarm in an event in a calendar.
const MAX_DEPTH: usize = 8;

/// What a calendar may keep.
pub const KINDS: [&str; 3] = ["VEVENT", "VTODO", "VJOURNAL"];

#[derive(Debug, Default)]
pub struct Component {
    /// In upper case, as all names here.
    pub name: String,
    pub properties: Vec<Property>,
    pub components: Vec<Component>,
}

#[derive(Debug)]
pub struct Property {
    pub name: String,
    pub parameters: Vec<(String, String)>,
    pub value: String,
}

impl Component {
    pub fn property(&self, name: &str) -> Option<&Property> {
        self.all(name).next()
    }

    pub fn all(&self, name: &str) -> impl Iterator<Item = &Property> {
        self.properties
            .iter()
            .filter(move |property| property.name == name)
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.property(name).map(|property| property.value.as_str())
    }
}

impl Property {
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut parameters = self.parameters.iter();
        parameters
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Reads a calendar. `None` if it is not one.
pub fn parse(content: &[u8]) -> Option<Component> {
    let mut open: Vec<Component> = Vec::new();
    let mut root = None;
    for line in unfold(content) {
        if line.is_empty() {
            continue;
        }
        let line = String::from_utf8(line).ok()?;
        let property = property(&line)?;
        let value = property.value.to_ascii_uppercase();
        match property.name.as_str() {
            "BEGIN" => {
                if open.len() == MAX_DEPTH || root.is_some() {
                    return None;
                }
                open.push(Component {
                    name: value,
                    ..Component::default()
                });
            }
            "END" => {
                let component = open.pop().filter(|component| component.name == value)?;
                match open.last_mut() {
                    Some(parent) => parent.components.push(component),
                    None => root = Some(component),
                }
            }
            _ => open.last_mut()?.properties.push(property),
        }
    }
    root.filter(|root| open.is_empty() && root.name == "VCALENDAR")
}

/// Lines that were folded are one. Simple programs fold in the middle of a character (RFC 5545,
/// 3.1).
fn unfold(content: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in content.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (line, lines.last_mut()) {
            ([b' ' | b'\t', rest @ ..], Some(last)) => last.extend_from_slice(rest),
            _ => lines.push(line.to_vec()),
        }
    }
    lines
}

/// A calendar as text, as it is if possible.
pub fn text(content: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(content) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(&unfold(content).join(&b"\r\n"[..]))
            .into_owned()
            .into(),
    }
}

/// `NAME;PARAMETER=VALUE;PARAMETER="VALUE":VALUE`
fn property(line: &str) -> Option<Property> {
    let end = line.find([':', ';'])?;
    let (name, mut rest) = line.split_at(end);
    let is_name = |name: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !name.is_empty() && name.chars().all(allowed)
    };
    if !is_name(name) {
        return None;
    }
    let mut parameters = Vec::new();
    while let Some(parameter) = rest.strip_prefix(';') {
        let (name, after) = parameter.split_once('=')?;
        if !is_name(name) {
            return None;
        }
        let mut quoted = false;
        let end = after.find(|c| {
            quoted ^= c == '"';
            !quoted && matches!(c, ':' | ';')
        })?;
        let value = after[..end].trim_matches('"').to_owned();
        parameters.push((name.to_ascii_uppercase(), value));
        rest = &after[end..];
    }
    Some(Property {
        name: name.to_ascii_uppercase(),
        parameters,
        value: rest.strip_prefix(':')?.to_owned(),
    })
}

/// What a calendar must know of a file in it.
pub struct Object {
    pub uid: String,
    /// `VEVENT`, for example.
    pub kind: String,
}

/// Checks that this may be in a calendar (RFC 4791, 4.1): a calendar with one event or task, or
/// with several that are exceptions of one.
pub fn check(content: &[u8]) -> Result<Object, Fault> {
    let calendar = parse(content).ok_or(Fault::forbidden("C:valid-calendar-data"))?;
    let invalid = || Fault::forbidden("C:valid-calendar-object-resource");
    if calendar.property("METHOD").is_some() {
        return Err(invalid());
    }
    let mut parts = calendar
        .components
        .iter()
        .filter(|component| component.name != "VTIMEZONE");
    let first = parts.next().ok_or_else(invalid)?;
    let uid = first.value("UID").filter(|uid| !uid.is_empty());
    let uid = uid.ok_or_else(invalid)?;
    if !parts.all(|part| part.name == first.name && part.value("UID") == Some(uid)) {
        return Err(invalid());
    }
    if !KINDS.contains(&first.name.as_str()) {
        return Err(Fault::forbidden("C:supported-calendar-component"));
    }
    Ok(Object {
        uid: uid.to_owned(),
        kind: first.name.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_unfolded_and_quotes_respected() {
        let text = "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nATTENDEE;CN=\"A: B; C\";X=1:mai\r\n \
                    lto:a@example.org\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
        let calendar = parse(text.as_bytes()).expect("it is one");
        let attendee = calendar.components[0].property("ATTENDEE").expect("there");
        assert_eq!(attendee.value, "mailto:a@example.org");
        assert_eq!(attendee.parameter("CN"), Some("A: B; C"));
        assert_eq!(attendee.parameter("X"), Some("1"));
    }

    #[test]
    fn a_fold_may_be_in_the_middle_of_a_character() {
        let content = b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:1\r\nSUMMARY:Caf\xc3\r\n \xa9\r\n\
                        END:VEVENT\r\nEND:VCALENDAR\r\n";
        let calendar = parse(content).expect("it is one");
        assert_eq!(calendar.components[0].value("SUMMARY"), Some("Caf\u{e9}"));
        check(content).expect("it may be stored");
        assert!(text(content).contains("SUMMARY:Caf\u{e9}\r\nEND:VEVENT"));
    }

    #[test]
    fn what_is_not_one_event_is_refused() {
        let event = |uid: &str| format!("BEGIN:VEVENT\r\nUID:{uid}\r\nEND:VEVENT\r\n");
        let calendar = |inner: &str| format!("BEGIN:VCALENDAR\r\n{inner}END:VCALENDAR\r\n");
        let fine = calendar(&(event("1") + &event("1")));
        assert_eq!(check(fine.as_bytes()).expect("it is fine").uid, "1");
        for wrong in [
            "hello".into(),
            calendar(""),
            calendar(&(event("1") + &event("2"))),
            calendar(&("METHOD:REQUEST\r\n".to_owned() + &event("1"))),
            calendar("BEGIN:VEVENT\r\nEND:VEVENT\r\n"),
            calendar("BEGIN:VFREEBUSY\r\nUID:1\r\nEND:VFREEBUSY\r\n"),
            calendar("BEGIN:VEVENT\r\nUID:1\r\nEND:VTODO\r\n"),
            event("1"),
            "BEGIN:A\r\n".repeat(50_000),
        ] {
            assert!(check(wrong.as_bytes()).is_err(), "{:.80}", wrong);
        }
    }
}
