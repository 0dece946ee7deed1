//! The filter of a `calendar-query` (RFC 4791, 9.7).

use crate::{
    fault::Fault,
    icalendar::{Component, Property},
    time::{Local, Range},
    xml::{CALDAV, Element},
};

/// What must hold for components of one kind.
#[derive(Debug)]
pub struct Filter {
    name: String,
    /// None of them may be there.
    absent: bool,
    range: Option<Range>,
    properties: Vec<PropertyFilter>,
    components: Vec<Filter>,
}

#[derive(Debug)]
struct PropertyFilter {
    name: String,
    absent: bool,
    range: Option<Range>,
    text: Option<Text>,
    parameters: Vec<ParameterFilter>,
}

#[derive(Debug)]
struct ParameterFilter {
    name: String,
    absent: bool,
    text: Option<Text>,
}

#[derive(Debug)]
struct Text {
    part: String,
    ignores_case: bool,
    negated: bool,
}

impl Filter {
    /// Reads a `filter`.
    pub fn parse(filter: &Element) -> Result<Filter, Fault> {
        let root = filter.child(CALDAV, "comp-filter").ok_or_else(invalid)?;
        let filter = component(root)?;
        if filter.name != "VCALENDAR" {
            return Err(invalid());
        }
        Ok(filter)
    }

    /// `local` is the zone of times that have none of their own.
    pub fn matches(&self, calendar: &Component, local: Local) -> bool {
        self.holds(calendar, calendar, local)
    }

    /// Whether it holds for one component, whose name is right.
    fn holds(&self, calendar: &Component, component: &Component, local: Local) -> bool {
        self.range
            .is_none_or(|range| range.in_zone(local).has_component(calendar, component))
            && self
                .properties
                .iter()
                .all(|filter| filter.matches(component, local))
            && self.components.iter().all(|filter| {
                let mut inner = component
                    .components
                    .iter()
                    .filter(|inner| inner.name == filter.name);
                match filter.absent {
                    true => inner.next().is_none(),
                    false => inner.any(|inner| filter.holds(calendar, inner, local)),
                }
            })
    }
}

impl PropertyFilter {
    fn matches(&self, component: &Component, local: Local) -> bool {
        let mut properties = component.all(&self.name);
        match self.absent {
            true => properties.next().is_none(),
            false => properties.any(|property| self.holds(property, local)),
        }
    }

    fn holds(&self, property: &Property, local: Local) -> bool {
        self.range
            .is_none_or(|range| range.in_zone(local).has_property(property))
            && self
                .text
                .as_ref()
                .is_none_or(|text| text.matches(&unescape(&property.value)))
            && self.parameters.iter().all(|filter| {
                match (property.parameter(&filter.name), filter.absent) {
                    (value, true) => value.is_none(),
                    (None, false) => false,
                    (Some(value), false) => {
                        filter.text.as_ref().is_none_or(|text| text.matches(value))
                    }
                }
            })
    }
}

impl Text {
    fn matches(&self, value: &str) -> bool {
        let found = match self.ignores_case {
            true => value
                .to_ascii_lowercase()
                .contains(&self.part.to_ascii_lowercase()),
            false => value.contains(&self.part),
        };
        found != self.negated
    }
}

/// The text of a value (RFC 5545, 3.3.11).
fn unescape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n' | 'N') => text.push('\n'),
                other => text.extend(other),
            },
            other => text.push(other),
        }
    }
    text
}

fn invalid() -> Fault {
    Fault::forbidden("C:valid-filter")
}

fn name(element: &Element) -> Result<String, Fault> {
    let name = element.attribute("name").ok_or_else(invalid)?;
    Ok(name.to_ascii_uppercase())
}

fn is_absent(element: &Element) -> bool {
    element.child(CALDAV, "is-not-defined").is_some()
}

fn range(element: &Element) -> Result<Option<Range>, Fault> {
    let Some(range) = element.child(CALDAV, "time-range") else {
        return Ok(None);
    };
    let range = Range::parse(range.attribute("start"), range.attribute("end"));
    range.map(Some).ok_or_else(invalid)
}

fn component(element: &Element) -> Result<Filter, Fault> {
    let properties = element.all(CALDAV, "prop-filter").map(|element| {
        let parameters = element.all(CALDAV, "param-filter").map(|element| {
            Ok(ParameterFilter {
                name: name(element)?,
                absent: is_absent(element),
                text: text(element)?,
            })
        });
        Ok(PropertyFilter {
            name: name(element)?,
            absent: is_absent(element),
            range: range(element)?,
            text: text(element)?,
            parameters: parameters.collect::<Result<_, Fault>>()?,
        })
    });
    Ok(Filter {
        name: name(element)?,
        absent: is_absent(element),
        range: range(element)?,
        properties: properties.collect::<Result<_, Fault>>()?,
        components: element
            .all(CALDAV, "comp-filter")
            .map(component)
            .collect::<Result<_, _>>()?,
    })
}

fn text(element: &Element) -> Result<Option<Text>, Fault> {
    let Some(text) = element.child(CALDAV, "text-match") else {
        return Ok(None);
    };
    let ignores_case = match text.attribute("collation") {
        None | Some("i;ascii-casemap" | "default") => true,
        Some("i;octet") => false,
        Some(_) => return Err(Fault::forbidden("C:supported-collation")),
    };
    Ok(Some(Text {
        part: text.text(),
        ignores_case,
        negated: text.attribute("negate-condition") == Some("yes"),
    }))
}
