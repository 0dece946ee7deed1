//! The text of an endpoint, taken apart.

use std::{error::Error, fmt, str::FromStr};

/// The arguments of an endpoint, for a kind to take what it knows of them.
///
/// Arguments without a name are taken in the order in which the kind asks.
#[derive(Debug)]
pub struct Arguments<'a> {
    text: &'a str,
    positional: std::vec::IntoIter<Value>,
    named: Vec<(String, usize, Value)>,
    /// Names that were asked for.
    known: Vec<&'static str>,
}

/// A value, and where it stands in the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Value {
    /// Without its backslashes.
    pub text: String,
    /// The byte that it begins at.
    pub at: usize,
}

impl<'a> Arguments<'a> {
    /// Takes a text apart, into the kind and its arguments.
    pub(super) fn parse(text: &'a str) -> Result<(Value, Self), ParseError> {
        let mut fields = fields(text)?.into_iter();
        let kind = fields.next().unwrap_or_default();
        if kind.name.is_some() || kind.value.text.is_empty() {
            return Err(ParseError::new(
                text,
                0,
                "an endpoint begins with its kind, such as tcp: or unix:",
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
        // `stdio:` has no arguments, not an empty one.
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

    /// The argument of this name, or the next one without a name.
    pub fn place(&mut self, name: &'static str) -> Option<Value> {
        self.name(name).or_else(|| self.positional.next())
    }

    /// The next argument without a name, for kinds that take any number.
    pub fn rest(&mut self) -> Option<String> {
        self.positional.next().map(|value| value.text)
    }

    /// The argument of this name.
    pub fn name(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        let place = self.named.iter().position(|argument| argument.0 == name)?;
        Some(self.named.remove(place).2)
    }

    /// The argument of this name, or the next one without a name, of a type that can be read from
    /// text.
    ///
    /// # Errors
    /// When it is missing, or cannot be read; `what` says what it should be.
    pub fn required<T: FromStr>(
        &mut self,
        name: &'static str,
        what: &str,
    ) -> Result<T, ParseError> {
        match self.place(name) {
            Some(value) => self.read(&value, what),
            None => Err(self.error(
                self.text.len(),
                format!("here the argument {name:?} is missing: {what}"),
            )),
        }
    }

    /// The argument of this name, if there is one.
    ///
    /// # Errors
    /// When it cannot be read; `what` says what it should be.
    pub fn optional<T: FromStr>(
        &mut self,
        name: &'static str,
        what: &str,
    ) -> Result<Option<T>, ParseError> {
        self.name(name)
            .map(|value| self.read(&value, what))
            .transpose()
    }

    fn read<T: FromStr>(&self, value: &Value, what: &str) -> Result<T, ParseError> {
        value
            .text
            .parse()
            .map_err(|_| self.error(value.at, format!("{:?} is not {what}", value.text)))
    }

    /// An error that points at a byte of the text.
    pub fn error(&self, at: usize, what: impl Into<String>) -> ParseError {
        ParseError::new(self.text, at, what)
    }

    /// Fails if an argument is left that nobody asked for.
    pub(super) fn finish(mut self) -> Result<(), ParseError> {
        let known = if self.known.is_empty() {
            "this kind has no arguments".to_owned()
        } else {
            format!("this kind has {}", self.known.join(", "))
        };
        if let Some((name, at, _)) = self.named.first() {
            return Err(self.error(*at, format!("{name:?} is not known here; {known}")));
        }
        match self.positional.next() {
            Some(value) => {
                Err(self.error(value.at, format!("here is an argument too many; {known}")))
            }
            None => Ok(()),
        }
    }
}

#[derive(Default)]
struct Field {
    at: usize,
    name: Option<String>,
    value: Value,
}

/// Splits at the colons that are neither quoted nor inside of brackets, which is where IPv6
/// addresses have theirs.
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
                        "a backslash at the end quotes nothing",
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

/// The text of an endpoint says nothing that can be used, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The text.
    pub text: String,
    /// The byte of it that is wrong, or its length when something is missing at the end.
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

/// In three lines: what is wrong, the text, and a caret under the place.
impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self
            .text
            .get(..self.at)
            .unwrap_or(&self.text)
            .chars()
            .count();
        write!(
            f,
            "{}\n    {}\n    {:before$}^",
            self.what,
            self.text.escape_debug(),
            ""
        )
    }
}

impl Error for ParseError {}
