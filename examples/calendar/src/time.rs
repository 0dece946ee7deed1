//! When an event or a task is: dates, zones, repetitions (RFC 5545), and whether that is in a range
//! that a client asks for (RFC 4791, 9.9).
//!
//! Where the answer is not known (a rule that is wrong, a repetition too far in the future) it is
//! yes: clients look again at what they get, but cannot see what they do not get.

use std::time::{Duration, Instant};

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use rrule::{RRuleSet, Tz};

use crate::icalendar::{self, Component, Property};

/// How many repetitions are counted, from the first one on: eleven years of days.
const MAX_REPETITIONS: usize = 4_000;

/// How many rules an event may have: more than one SHOULD NOT be there (RFC 5545, 3.8.5.3).
const MAX_RULES: usize = 4;

/// How long the repetitions of all events are counted for one query. After that they are not sure.
const MAX_TIME: Duration = Duration::from_secs(1);

/// The clocks of the world are so far behind UTC, and so far ahead of it, at most.
const BEHIND: TimeDelta = TimeDelta::hours(12);
const AHEAD: TimeDelta = TimeDelta::hours(14);

/// Where a time is that has no zone of its own (RFC 4791, 5.2.2 and 9.8).
#[derive(Clone, Copy, Debug)]
pub enum Local {
    Zone(Tz),
    /// A zone without a known name.
    Unknown,
}

impl Local {
    pub const UTC: Local = Local::Zone(Tz::UTC);

    /// Reads a calendar with one zone in it.
    pub fn parse(text: &str) -> Option<Local> {
        let calendar = icalendar::parse(text.as_bytes())?;
        let mut parts = calendar.components.iter();
        let name = parts.find(|part| part.name == "VTIMEZONE")?.value("TZID")?;
        Some(named(name).map_or(Local::Unknown, Local::Zone))
    }
}

/// From the first instant to the second, which does not belong to it.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub start: DateTime<Utc>,
    pub end: DateTime<Utc>,
    local: Local,
    /// Repetitions are counted until then.
    until: Instant,
}

impl Range {
    /// The attributes of a `time-range`. One of them may be left out.
    pub fn parse(start: Option<&str>, end: Option<&str>) -> Option<Range> {
        let parse = |text: &str| {
            let time = NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%SZ").ok()?;
            Some(time.and_utc())
        };
        if start.is_none() && end.is_none() {
            return None;
        }
        let range = Range {
            start: start.map_or(Some(DateTime::<Utc>::MIN_UTC), parse)?,
            end: end.map_or(Some(DateTime::<Utc>::MAX_UTC), parse)?,
            local: Local::UTC,
            until: Instant::now() + MAX_TIME,
        };
        (range.start < range.end).then_some(range)
    }

    /// The same for a calendar whose times without a zone are in this one.
    pub fn in_zone(self, local: Local) -> Range {
        Range { local, ..self }
    }

    /// The range as far as it is sure in which zone these times are: it is wider if that is not.
    fn around<'a>(self, times: impl IntoIterator<Item = &'a Property>) -> Range {
        let is_sure = |time: &Property| match (time.value.ends_with('Z'), self.local) {
            (true, _) => true,
            (false, _) if time.parameter("TZID").is_some() => zone(time).is_some(),
            (false, local) => matches!(local, Local::Zone(_)),
        };
        match times.into_iter().all(is_sure) {
            true => self,
            false => Range {
                start: add(self.start, -BEHIND),
                end: add(self.end, AHEAD),
                ..self
            },
        }
    }

    fn has(&self, instant: DateTime<Utc>) -> bool {
        self.start <= instant && instant < self.end
    }

    fn overlaps(&self, start: DateTime<Utc>, length: TimeDelta) -> bool {
        match length.is_zero() {
            true => self.has(start),
            false => start < self.end && add(start, length) > self.start,
        }
    }

    /// Whether a property, which is a time, is in the range.
    pub fn has_property(&self, property: &Property) -> bool {
        let range = self.around([property]);
        let instant = self.instant(property);
        instant.is_none_or(|instant| range.has(instant))
    }

    /// Whether a component of a calendar is in the range.
    pub fn has_component(&self, calendar: &Component, component: &Component) -> bool {
        const TIMES: [&str; 4] = ["DTSTART", "DTEND", "DUE", "RDATE"];
        let is_time = |property: &&Property| TIMES.contains(&property.name.as_str());
        let range = self.around(component.properties.iter().filter(is_time));
        match component.name.as_str() {
            "VEVENT" => range.has_event(calendar, component),
            "VTODO" => range.has_task(component),
            "VJOURNAL" => component.property("DTSTART").is_some_and(|start| {
                let length = if is_date(start) {
                    DAY
                } else {
                    TimeDelta::zero()
                };
                let start = self.instant(start);
                start.is_none_or(|start| range.overlaps(start, length))
            }),
            _ => true,
        }
    }

    fn has_event(&self, calendar: &Component, event: &Component) -> bool {
        let Some(property) = event.property("DTSTART") else {
            return true;
        };
        let Some(start) = self.instant(property) else {
            return true;
        };
        let Some(length) = self.length(event, start, property) else {
            return true;
        };
        // It moves all that come later, too.
        let moves_more = event
            .property("RECURRENCE-ID")
            .is_some_and(|moved| moved.parameter("RANGE").is_some());
        if moves_more && start < self.end {
            return true;
        }
        if event.property("RRULE").is_none() && event.property("RDATE").is_none() {
            return self.overlaps(start, length);
        }
        if start >= self.end {
            return false;
        }
        if Instant::now() >= self.until {
            return true;
        }
        // Repetitions that have a component of their own are elsewhere.
        let uid = event.value("UID");
        let moved: Vec<_> = calendar
            .components
            .iter()
            .filter(|other| other.name == event.name && other.value("UID") == uid)
            .filter_map(|other| self.instant(other.property("RECURRENCE-ID")?))
            .collect();
        let Some(set) = self.repetitions(event, property) else {
            return true;
        };
        let mut count = 0;
        for repetition in &set {
            let repetition = repetition.with_timezone(&Utc);
            count += 1;
            if repetition >= self.end {
                return false;
            }
            if self.overlaps(repetition, length) && !moved.contains(&repetition)
                || count == MAX_REPETITIONS
                || Instant::now() >= self.until
            {
                return true;
            }
        }
        false
    }

    /// The table of RFC 4791, 9.9, for tasks. One that repeats is in every range after its start.
    fn has_task(&self, task: &Component) -> bool {
        let time = |name| task.property(name).map(|time| self.instant(time));
        // A time that cannot be read could be any.
        let (Some(start), Some(due), Some(completed), Some(created)) = (
            flatten(time("DTSTART")),
            flatten(time("DUE")),
            flatten(time("COMPLETED")),
            flatten(time("CREATED")),
        ) else {
            return true;
        };
        if task.property("RRULE").is_some() {
            return start.or(due).is_none_or(|start| start < self.end);
        }
        let Some(duration) = flatten(task.value("DURATION").map(duration)) else {
            return true;
        };
        match (start, due, completed, created) {
            (Some(start), None, _, _) => match duration {
                Some(length) => {
                    let end = add(start, length);
                    self.start <= end && (self.end > start || self.end >= end)
                }
                None => self.has(start),
            },
            (Some(start), Some(due), _, _) => {
                (self.start < due || self.start <= start) && (self.end > start || self.end >= due)
            }
            (None, Some(due), _, _) => self.start < due && self.end >= due,
            (None, None, Some(completed), Some(created)) => {
                (self.start <= created || self.start <= completed)
                    && (self.end >= created || self.end >= completed)
            }
            (None, None, Some(completed), None) => self.start <= completed && self.end >= completed,
            (None, None, None, Some(created)) => self.end > created,
            (None, None, None, None) => true,
        }
    }

    /// How long an event is; zero for a moment. `None` if that cannot be read.
    fn length(
        &self,
        event: &Component,
        start: DateTime<Utc>,
        property: &Property,
    ) -> Option<TimeDelta> {
        if let Some(end) = event.property("DTEND") {
            return Some((self.instant(end)? - start).max(TimeDelta::zero()));
        }
        match event.value("DURATION") {
            Some(text) => duration(text),
            None if is_date(property) => Some(DAY),
            None => Some(TimeDelta::zero()),
        }
    }

    /// The instant that a property stands for. A date begins at midnight. In a zone that has no
    /// known name it is UTC.
    fn instant(&self, property: &Property) -> Option<DateTime<Utc>> {
        let local = match is_date(property) {
            true => NaiveDate::parse_from_str(&property.value, "%Y%m%d")
                .ok()?
                .and_time(NaiveTime::MIN),
            false => {
                let local = property.value.trim_end_matches('Z');
                NaiveDateTime::parse_from_str(local, "%Y%m%dT%H%M%S").ok()?
            }
        };
        let zone = self.zone(property);
        // An hour that a clock leaves out in spring is read as the hour after it.
        let time = zone.from_local_datetime(&local).earliest();
        let time = time.or_else(|| {
            let later = local.checked_add_signed(TimeDelta::hours(1))?;
            zone.from_local_datetime(&later).earliest()
        });
        Some(time?.with_timezone(&Utc))
    }

    fn zone(&self, property: &Property) -> Tz {
        if property.value.ends_with('Z') {
            return Tz::UTC;
        }
        match (property.parameter("TZID"), self.local) {
            (None, Local::Zone(zone)) => zone,
            _ => zone(property).unwrap_or(Tz::UTC),
        }
    }

    /// The repetitions of an event, in order. `None` if its rule is wrong.
    fn repetitions(&self, event: &Component, start: &Property) -> Option<RRuleSet> {
        let zone = self.zone(start);
        let begin = self.instant(start)?.with_timezone(&zone);
        // A rule that has none in 100,000 days, say, has none.
        let mut set = RRuleSet::new(begin).limit();
        if event.all("RRULE").count() > MAX_RULES {
            return None;
        }
        for property in event.all("RRULE") {
            let rule = with_whole_end(&property.value, zone)?;
            set = set.set_from_string(&format!("RRULE:{rule}")).ok()?;
        }
        for (name, is_more) in [("RDATE", true), ("EXDATE", false)] {
            for property in event.all(name) {
                for value in property.value.split(',') {
                    let single = Property {
                        name: property.name.clone(),
                        parameters: property.parameters.clone(),
                        // A period begins with its start.
                        value: value.split('/').next()?.to_owned(),
                    };
                    let time = self.instant(&single)?.with_timezone(&zone);
                    set = if is_more {
                        set.rdate(time)
                    } else {
                        set.exdate(time)
                    };
                }
            }
        }
        Some(set)
    }
}

const DAY: TimeDelta = TimeDelta::days(1);

/// `None` for a time that is there and cannot be read.
fn flatten<T>(time: Option<Option<T>>) -> Option<Option<T>> {
    match time {
        Some(None) => None,
        Some(known) => Some(known),
        None => Some(None),
    }
}

fn add(start: DateTime<Utc>, length: TimeDelta) -> DateTime<Utc> {
    let beyond = match length < TimeDelta::zero() {
        true => DateTime::<Utc>::MIN_UTC,
        false => DateTime::<Utc>::MAX_UTC,
    };
    start.checked_add_signed(length).unwrap_or(beyond)
}

fn is_date(property: &Property) -> bool {
    property.value.len() == 8
}

/// The zone that a property names, if that is known.
fn zone(property: &Property) -> Option<Tz> {
    named(property.parameter("TZID")?)
}

fn named(name: &str) -> Option<Tz> {
    // Some programs write a path before it.
    let last_two = name.rsplitn(3, '/').take(2).collect::<Vec<_>>();
    let short = last_two.into_iter().rev().collect::<Vec<_>>().join("/");
    let zone = name.parse().or_else(|_| short.parse()).ok()?;
    Some(Tz::Tz(zone))
}

/// `P1DT2H`, `-PT15M`, `P2W`.
fn duration(text: &str) -> Option<TimeDelta> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut seconds = 0_i64;
    let mut number = None;
    for c in rest.strip_prefix('P')?.chars() {
        let unit = match c {
            'T' if number.is_none() => continue,
            'W' => 604_800,
            'D' => 86_400,
            'H' => 3_600,
            'M' => 60,
            'S' => 1,
            _ => {
                let digit = i64::from(c.to_digit(10)?);
                number = Some(
                    number
                        .unwrap_or(0_i64)
                        .checked_mul(10)?
                        .checked_add(digit)?,
                );
                continue;
            }
        };
        seconds = seconds.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    let length = TimeDelta::try_seconds(seconds).filter(|_| number.is_none())?;
    Some(if negative { -length } else { length })
}

/// A rule whose end is an instant. An end that is a date includes that day.
fn with_whole_end(rule: &str, zone: Tz) -> Option<String> {
    let parts = rule.split(';').map(|part| {
        let Some(until) = part.strip_prefix("UNTIL=") else {
            return Some(part.to_owned());
        };
        let date = NaiveDate::parse_from_str(until.get(..8)?, "%Y%m%d").ok()?;
        let end = match until.len() {
            8 => {
                let next = date
                    .checked_add_days(Days::new(1))?
                    .and_time(NaiveTime::MIN);
                zone.from_local_datetime(&next)
                    .earliest()?
                    .with_timezone(&Utc)
                    - TimeDelta::seconds(1)
            }
            _ if until.ends_with('Z') => return Some(part.to_owned()),
            _ => {
                let local = NaiveDateTime::parse_from_str(until, "%Y%m%dT%H%M%S").ok()?;
                zone.from_local_datetime(&local)
                    .earliest()?
                    .with_timezone(&Utc)
            }
        };
        Some(format!("UNTIL={}", end.format("%Y%m%dT%H%M%SZ")))
    });
    Some(parts.collect::<Option<Vec<_>>>()?.join(";"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in(event: &str, start: &str, end: &str) -> bool {
        let text = format!("BEGIN:VCALENDAR\n{event}\nEND:VCALENDAR\n");
        let calendar = icalendar::parse(text.as_bytes()).expect("a calendar");
        let range = Range::parse(Some(start), Some(end)).expect("a range");
        let mut parts = calendar.components.iter();
        parts.any(|part| range.has_component(&calendar, part))
    }

    fn event(lines: &str) -> String {
        format!("BEGIN:VEVENT\nUID:1\n{lines}\nEND:VEVENT")
    }

    #[test]
    fn an_event_is_where_it_overlaps() {
        let hour = event("DTSTART:20261129T100000Z\nDTEND:20261129T110000Z");
        assert!(is_in(&hour, "20261129T103000Z", "20261129T120000Z"));
        assert!(is_in(&hour, "20261129T090000Z", "20261129T100001Z"));
        assert!(!is_in(&hour, "20261129T110000Z", "20261129T120000Z"));
        assert!(!is_in(&hour, "20261129T090000Z", "20261129T100000Z"));
        let moment = event("DTSTART:20261129T100000Z");
        assert!(is_in(&moment, "20261129T100000Z", "20261129T100001Z"));
        assert!(!is_in(&moment, "20261129T090000Z", "20261129T100000Z"));
        let day = event("DTSTART;VALUE=DATE:20261129");
        assert!(is_in(&day, "20261129T230000Z", "20261130T000000Z"));
        assert!(!is_in(&day, "20261130T000000Z", "20261130T010000Z"));
        let long = event("DTSTART:20261129T230000Z\nDURATION:P1DT2H");
        assert!(is_in(&long, "20261201T003000Z", "20261201T010000Z"));
        assert!(!is_in(&long, "20261201T010000Z", "20261201T020000Z"));
    }

    #[test]
    fn a_zone_has_summer_and_winter() {
        let rome = event("DTSTART;TZID=Europe/Rome:20261129T100000\nDURATION:PT1H");
        assert!(is_in(&rome, "20261129T090000Z", "20261129T093000Z"));
        assert!(!is_in(&rome, "20261129T100000Z", "20261129T103000Z"));
        let summer = event("DTSTART;TZID=/x.org/1/Europe/Rome:20260629T100000\nDURATION:PT1H");
        assert!(is_in(&summer, "20260629T080000Z", "20260629T083000Z"));
        assert!(!is_in(&summer, "20260629T090000Z", "20260629T093000Z"));
    }

    #[test]
    fn repetitions_are_where_they_are() {
        let weekly = "DTSTART;TZID=Europe/Rome:20260105T100000\nDURATION:PT1H\n\
                      RRULE:FREQ=WEEKLY;UNTIL=20260331\nEXDATE;TZID=Europe/Rome:20260112T100000";
        let moved = "RECURRENCE-ID;TZID=Europe/Rome:20260119T100000\nDURATION:PT1H\n\
                     DTSTART;TZID=Europe/Rome:20260120T100000";
        let both = event(weekly) + "\n" + &event(moved);
        assert!(is_in(&both, "20260105T090000Z", "20260105T091000Z"));
        // Taken out, moved, where it was moved to, after the clocks changed, after the end.
        assert!(!is_in(&both, "20260112T000000Z", "20260113T000000Z"));
        assert!(!is_in(&both, "20260119T000000Z", "20260120T000000Z"));
        assert!(is_in(&both, "20260120T090000Z", "20260120T091000Z"));
        assert!(is_in(&both, "20260330T080000Z", "20260330T081000Z"));
        assert!(!is_in(&both, "20260330T090000Z", "20260330T091000Z"));
        assert!(!is_in(&both, "20260401T000000Z", "20270101T000000Z"));
        let days = event("DTSTART;VALUE=DATE:20260101\nRRULE:FREQ=MONTHLY;COUNT=3");
        assert!(is_in(&days, "20260301T100000Z", "20260301T110000Z"));
        assert!(!is_in(&days, "20260401T000000Z", "20260501T000000Z"));
    }

    #[test]
    fn a_repetition_without_bounds_ends_soon() {
        let often = event("DTSTART:19000101T000000Z\nRRULE:FREQ=SECONDLY");
        let never = event("DTSTART:20260101T000000Z\nRRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30");
        let wrong = event("DTSTART:20260101T000000Z\nRRULE:FREQ=NEVER");
        assert!(is_in(&often, "20260101T000000Z", "20260102T000000Z"));
        assert!(!is_in(&never, "20260101T000001Z", "20360101T000000Z"));
        assert!(is_in(&wrong, "20260101T000000Z", "20260102T000000Z"));
    }

    #[test]
    fn tasks_follow_the_table() {
        let task = |lines: &str| format!("BEGIN:VTODO\nUID:1\n{lines}\nEND:VTODO");
        let due = task("DUE:20261129T100000Z");
        assert!(is_in(&due, "20261129T090000Z", "20261129T100000Z"));
        assert!(!is_in(&due, "20261129T100000Z", "20261129T110000Z"));
        let whenever = task("SUMMARY:x");
        assert!(is_in(&whenever, "20261129T090000Z", "20261129T100000Z"));
        let done = task("CREATED:20261101T000000Z\nCOMPLETED:20261103T000000Z");
        assert!(is_in(&done, "20261102T000000Z", "20261104T000000Z"));
        assert!(!is_in(&done, "20261104T000000Z", "20261105T000000Z"));
    }

    /// Whoever invites somebody writes the rules.
    #[test]
    fn rules_made_to_take_long_do_not() {
        let rule = "RRULE:FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30";
        let start = "DTSTART:20260101T000000Z";
        let rules = event(&format!("{start}\n{}", format!("{rule}\n").repeat(1_000)));
        let parts = event(&format!("{start}\n{rule}")) + "\n";
        let begun = Instant::now();
        is_in(&rules, "20300101T000000Z", "20300102T000000Z");
        is_in(&parts.repeat(1_000), "20300101T000000Z", "20300102T000000Z");
        assert!(begun.elapsed() < 5 * MAX_TIME, "{:?}", begun.elapsed());
    }

    #[test]
    fn a_zone_without_a_known_name_could_be_any() {
        let mine = event("DTSTART;TZID=My Office:20260629T100000\nDURATION:PT1H");
        // New York, Tokyo, and where no clock is.
        assert!(is_in(&mine, "20260629T140000Z", "20260629T143000Z"));
        assert!(is_in(&mine, "20260629T010000Z", "20260629T013000Z"));
        assert!(!is_in(&mine, "20260630T000000Z", "20260630T010000Z"));
        let weekly = "DTSTART;TZID=My Office:20260105T100000\nRRULE:FREQ=WEEKLY\nDURATION:PT1H";
        assert!(is_in(
            &event(weekly),
            "20260112T150000Z",
            "20260112T153000Z"
        ));
        let due = "BEGIN:VTODO\nUID:1\nDUE;TZID=My Office:20260629T100000\nEND:VTODO";
        assert!(is_in(due, "20260629T120000Z", "20260629T150000Z"));
        // A range without a start, or without an end.
        let is_in = |start, end| {
            let text = format!("BEGIN:VCALENDAR\n{mine}\nEND:VCALENDAR\n");
            let calendar = icalendar::parse(text.as_bytes()).expect("a calendar");
            let range = Range::parse(start, end).expect("a range");
            range.has_component(&calendar, &calendar.components[0])
        };
        assert!(is_in(None, Some("20270101T000000Z")));
        assert!(!is_in(None, Some("20260101T000000Z")));
        assert!(is_in(Some("20260101T000000Z"), None));
        assert!(!is_in(Some("20270101T000000Z"), None));
    }

    #[test]
    fn times_without_a_zone_are_in_that_of_the_calendar() {
        let is_in = |event: &str, local: Local, start: &str, end: &str| {
            let text = format!("BEGIN:VCALENDAR\n{event}\nEND:VCALENDAR\n");
            let calendar = icalendar::parse(text.as_bytes()).expect("a calendar");
            let range = Range::parse(Some(start), Some(end)).expect("a range");
            range
                .in_zone(local)
                .has_component(&calendar, &calendar.components[0])
        };
        let zone = |name: &str| {
            let zone = format!("BEGIN:VTIMEZONE\nTZID:{name}\nEND:VTIMEZONE");
            Local::parse(&format!("BEGIN:VCALENDAR\n{zone}\nEND:VCALENDAR\n")).expect("a zone")
        };
        let day = event("DTSTART;VALUE=DATE:20261129");
        let evening = ("20261130T030000Z", "20261130T040000Z");
        assert!(is_in(
            &day,
            zone("America/Los_Angeles"),
            evening.0,
            evening.1
        ));
        assert!(is_in(&day, zone("My Office"), evening.0, evening.1));
        assert!(!is_in(&day, zone("Europe/Rome"), evening.0, evening.1));
        let noon = event("DTSTART:20261129T120000\nDURATION:PT1H\nRRULE:FREQ=DAILY");
        let noon_there = ("20261201T200000Z", "20261201T203000Z");
        assert!(is_in(
            &noon,
            zone("America/Los_Angeles"),
            noon_there.0,
            noon_there.1
        ));
        assert!(!is_in(&noon, Local::UTC, noon_there.0, noon_there.1));
    }

    #[test]
    fn what_cannot_be_known_is_in_the_range() {
        let moved = "DTSTART:20260120T100000Z\nDURATION:PT1H\n\
                     RECURRENCE-ID;RANGE=THISANDFUTURE:20260119T100000Z";
        assert!(is_in(&event(moved), "20260127T100000Z", "20260127T110000Z"));
        let task = "BEGIN:VTODO\nUID:1\nDTSTART:20261129T100000Z\nDURATION:long\nEND:VTODO";
        assert!(is_in(task, "20261129T100001Z", "20261129T110000Z"));
    }
}
