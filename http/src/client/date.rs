//! Dates as servers write them into cookies (RFC 6265, 5.1.1).

use std::time::{Duration, SystemTime};

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];

/// Reads a date in any order and with any delimiters, as browsers do. What is before 1970 is 1970.
/// `None` if it is not a date.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(is_delimiter) {
        if let (None, Some(found)) = (time, clock(token)) {
            time = Some(found);
        } else if let (None, Some(found)) = (day, number(token, 1..=2)) {
            day = Some(found);
        } else if let (None, Some(found)) = (month, month_of(token)) {
            month = Some(found);
        } else if let (None, Some(found)) = (year, number(token, 2..=4)) {
            year = Some(found);
        }
    }
    let (month, year) = (month?, full(year?));
    let days = days(year, month, day?)?;
    let (hour, minute, second) = time?;
    let fine = year >= 1601 && hour <= 23 && minute <= 59 && second <= 59;
    let seconds = i64::from(days) * 86_400 + i64::from(hour * 3_600 + minute * 60 + second);
    let since = Duration::from_secs(seconds.try_into().unwrap_or(0));
    fine.then(|| SystemTime::UNIX_EPOCH + since)
}

fn is_delimiter(character: char) -> bool {
    matches!(character, '\t' | ' '..='/' | ';'..='@' | '['..='`' | '{'..='~')
}

/// The number that a token begins with, if it has so many digits.
fn number(token: &str, digits: std::ops::RangeInclusive<usize>) -> Option<i32> {
    let end = token.find(|character: char| !character.is_ascii_digit());
    let text = &token[..end.unwrap_or(token.len())];
    digits.contains(&text.len()).then(|| text.parse().ok())?
}

/// `08:49:37`
fn clock(token: &str) -> Option<(i32, i32, i32)> {
    let (hour, rest) = token.split_once(':')?;
    let (minute, second) = rest.split_once(':')?;
    let whole = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let part = |text| number(text, 1..=2);
    let fine = whole(hour) && whole(minute);
    fine.then(|| Some((part(hour)?, part(minute)?, part(second)?)))?
}

/// The month, from 0.
fn month_of(token: &str) -> Option<i32> {
    let begin = token.get(..3)?.to_ascii_lowercase();
    let place = MONTHS.iter().position(|month| *month == begin)?;
    i32::try_from(place).ok()
}

fn full(year: i32) -> i32 {
    match year {
        0..=69 => year + 2000,
        70..=99 => year + 1900,
        year => year,
    }
}

/// The days from 1970 on; `None` if the month has no such day.
fn days(year: i32, month: i32, day: i32) -> Option<i32> {
    let leap = |year: i32| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = |place: usize| lengths[place] + i32::from(place == 1 && leap(year));
    let place = usize::try_from(month).ok()?;
    let in_year: i32 = (0..place).map(length).sum();
    // The leap days before this year.
    let leaps = |year: i32| year / 4 - year / 100 + year / 400;
    let before = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    (1..=length(place))
        .contains(&day)
        .then_some(before + in_year + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the cookies of servers, the tests of curl and of RFC 6265's own suite.
    #[test]
    fn dates_are_read_as_browsers_do() {
        for (text, expected) in [
            (
                "Sun, 06 Nov 1994 08:49:37 GMT",
                "Sun, 06 Nov 1994 08:49:37 GMT",
            ),
            (
                "Sunday, 06-Nov-94 08:49:37 GMT",
                "Sun, 06 Nov 1994 08:49:37 GMT",
            ),
            ("Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 GMT"),
            (
                "Fri Feb 2 11:56:27 GMT 2035",
                "Fri, 02 Feb 2035 11:56:27 GMT",
            ),
            (
                "Thu, 1 Jan 1970 00:00:00 GMT",
                "Thu, 01 Jan 1970 00:00:00 GMT",
            ),
            (
                "Thu, 01 Jan 1970 00:00:00 UTC",
                "Thu, 01 Jan 1970 00:00:00 GMT",
            ),
            (
                "Thu, 01-Jan-1970 00:00:01 +0000",
                "Thu, 01 Jan 1970 00:00:01 GMT",
            ),
            ("Mon, 10-Dec-07 20:35:03", "Mon, 10 Dec 2007 20:35:03 GMT"),
            ("2024 FEBRUARY 29 1:2:3", "Thu, 29 Feb 2024 01:02:03 GMT"),
            ("01 jan 1601 00:00:00", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("31 Dec 9999 23:59:59", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            let date = parse(text).map(httpdate::fmt_http_date);
            assert_eq!(date.as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "0",
            "-1",
            "Thu, 01 Jan 1970",
            "00 Jan 1970 00:00:00",
            "29 Feb 2023 00:00:00",
            "01 Jan 1600 00:00:00",
            "01 Jan 2030 24:00:00",
            "01 Jan 2030 00:60:00",
            "01 Jan 20300 00:00:00",
            "32 Jan 2030 00:00:00",
            "01 Foo 2030 00:00:00",
            "01 Jan 2030 123:00:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
