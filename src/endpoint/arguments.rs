//! Parsing the text of an endpoint.

use std::{error::Error, fmt, str::FromStr, time::Duration};

/// The arguments of an endpoint. A kind takes those that it knows.
///
/// Positional arguments are taken in the order in which the kind asks for them.
#[derive(Debug)]
pub struct Arguments<'a> {
    text: &'a str,
    positional: std::vec::IntoIter<Value>,
    named: Vec<(String, usize, Value)>,
    /// The names that the kind has asked for.
    known: Vec<&'static str>,
}

/// A value and its position in the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Value {
    /// The value, with backslash escapes removed.
    pub text: String,
    /// The byte offset where it starts.
    pub at: usize,
}

impl<'a> Arguments<'a> {
    /// Parses a text into the kind and its arguments.
    pub(super) fn parse(text: &'a str) -> Result<(Value, Self), ParseError> {
        let mut fields = fields(text)?.into_iter();
        let kind = fields.next().unwrap_or_default();
        if kind.name.is_some() || kind.value.text.is_empty() {
            return Err(ParseError::new(
                text,
                0,
                "an endpoint starts with its kind, such as tcp: or unix:",
            ));
        }
        let (mut positional, mut named) = (Vec::new(), Vec::<(String, usize, Value)>::new());
        for field in fields {
            match field.name {
                None => positional.push(field.value),
                Some(name) if named.iter().any(|other| other.0 == name) => {
                    return Err(ParseError::new(
                        text,
                        field.at,
                        format!("{name:?} is given twice"),
                    ));
                }
                Some(name) => named.push((name, field.at, field.value)),
            }
        }
        // `stdio:` has no arguments, rather than an empty one.
        if positional.len() == 1 && named.is_empty() && positional[0].text.is_empty() {
            positional.clear();
        }
        Ok((
            kind.value,
            Arguments {
                text,
                positional: positional.into_iter(),
                named,
                known: Vec::new(),
            },
        ))
    }

    /// Takes the argument of this name, or else the next positional one.
    pub fn place(&mut self, name: &'static str) -> Option<Value> {
        self.name(name).or_else(|| self.positional.next())
    }

    /// Takes the next positional argument, for kinds that take any number of them.
    pub fn rest(&mut self) -> Option<String> {
        self.positional.next().map(|value| value.text)
    }

    /// Takes the argument of this name.
    pub fn name(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        let place = self.named.iter().position(|argument| argument.0 == name)?;
        Some(self.named.remove(place).2)
    }

    /// Takes the argument of this name, or else the next positional one, and parses it.
    ///
    /// # Errors
    /// Fails if the argument is missing or cannot be parsed. `what` says what it should be.
    pub fn required<T: FromStr>(
        &mut self,
        name: &'static str,
        what: &str,
    ) -> Result<T, ParseError> {
        match self.place(name) {
            Some(value) => self.read(&value, what),
            None => Err(self.error(
                self.text.len(),
                format!("the argument {name:?} is missing: {what}"),
            )),
        }
    }

    /// Takes the argument of this name, if there is one, and parses it.
    ///
    /// # Errors
    /// Fails if it cannot be parsed. `what` says what it should be.
    pub fn optional<T: FromStr>(
        &mut self,
        name: &'static str,
        what: &str,
    ) -> Result<Option<T>, ParseError> {
        self.name(name)
            .map(|value| self.read(&value, what))
            .transpose()
    }

    /// The time limit of a client, for a kind that has one of its own: the argument stays there.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let (.., value) = self.named.iter().find(|argument| argument.0 == "timeout")?;
        seconds(&value.text)
    }

    fn read<T: FromStr>(&self, value: &Value, what: &str) -> Result<T, ParseError> {
        value
            .text
            .parse()
            .map_err(|_| self.error(value.at, format!("{:?} is not {what}", value.text)))
    }

    /// Creates an error that points at a byte of the text.
    pub fn error(&self, at: usize, what: impl Into<String>) -> ParseError {
        ParseError::new(self.text, at, what)
    }

    /// Fails if there is an argument that the kind did not take.
    pub(super) fn finish(mut self) -> Result<(), ParseError> {
        let known = if self.known.is_empty() {
            "this kind takes no arguments".to_owned()
        } else {
            format!("this kind takes {}", self.known.join(", "))
        };
        if let Some((name, at, _)) = self.named.first() {
            return Err(self.error(*at, format!("unknown argument {name:?}; {known}")));
        }
        match self.positional.next() {
            Some(value) => Err(self.error(value.at, format!("too many arguments; {known}"))),
            None => Ok(()),
        }
    }
}

/// Parses a number of seconds.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let seconds = text.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[derive(Default)]
struct Field {
    at: usize,
    name: Option<String>,
    value: Value,
}

/// Splits at the colons that are neither escaped nor inside brackets (IPv6 addresses contain
/// colons).
fn fields(text: &str) -> Result<Vec<Field>, ParseError> {
    let mut fields = vec![Field::default()];
    let mut brackets = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        let in_kind = fields.len() == 1;
        let field = fields.last_mut().expect("there is one from the beginning");
        match character {
            '\\' => match characters.next() {
                Some((_, quoted)) => field.value.text.push(quoted),
                None => {
                    return Err(ParseError::new(
                        text,
                        at,
                        "there is nothing after the backslash to escape",
                    ));
                }
            },
            ':' if brackets.is_none() => {
                let value = Value {
                    text: String::new(),
                    at: at + 1,
                };
                fields.push(Field {
                    at: at + 1,
                    name: None,
                    value,
                });
            }
            '=' if field.name.is_none() && brackets.is_none() && !in_kind => {
                field.name = Some(std::mem::take(&mut field.value.text));
                field.value.at = at + 1;
            }
            _ => {
                match character {
                    '[' if field.value.text.is_empty() => brackets = Some(at),
                    ']' => brackets = None,
                    _ => {}
                }
                field.value.text.push(character);
            }
        }
    }
    match brackets {
        Some(at) => Err(ParseError::new(text, at, "this bracket is not closed")),
        None => Ok(fields),
    }
}

/// The text of an endpoint is invalid. Says what is wrong and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The text.
    pub text: String,
    /// The byte offset of the mistake, or the length of the text if something is missing at the
    /// end.
    pub at: usize,
    /// What is wrong.
    pub what: String,
}

impl ParseError {
    pub(super) fn new(text: &str, at: usize, what: impl Into<String>) -> Self {
        ParseError {
            text: text.to_owned(),
            at,
            what: what.into(),
        }
    }
}

/// Shows three lines: what is wrong, the text, and a caret under the mistake.
impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self
            .text
            .get(..self.at)
            .unwrap_or(&self.text)
            .escape_debug()
            .count();
        write!(
            f,
            "{}\n    {}\n    {}^",
            self.what,
            self.text.escape_debug(),
            // Not as a width: a large one panics.
            " ".repeat(before)
        )
    }
}

impl Error for ParseError {}
