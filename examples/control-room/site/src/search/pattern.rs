//! The pattern to search for: a text in which some characters may be wrong.

use std::{error, fmt, str::FromStr};

/// The longest pattern, in characters.
pub const MAX_PATTERN: usize = 64;

/// The most typing errors that a pattern may have.
pub const MAX_ERRORS: usize = 3;

/// Characters required for each error; otherwise everything would match.
const CHARACTERS_FOR_AN_ERROR: usize = 3;

/// If no number is given, one error is allowed for this many characters.
const CHARACTERS_FOR_A_FREE_ERROR: usize = 6;

/// A text to find anywhere in a line, ignoring case, with a few typing errors: an extra character,
/// a missing one, or a wrong one.
///
/// `text~2` allows two errors; without a number, one is allowed for every six characters.
///
/// ```
/// use site::search::Pattern;
///
/// let pattern: Pattern = "lanturn~1".parse().unwrap();
/// assert!(pattern.find("The lantern was cleaned.").is_some());
/// assert!(pattern.find("The lamp was cleaned.").is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    characters: Vec<char>,
    errors: usize,
}

/// Why a text is not a [`Pattern`]. The message is for the user, and says how to correct it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternError {
    /// There is nothing to search for.
    Empty,
    /// More than [`MAX_PATTERN`] characters.
    TooLong {
        /// The number of characters given.
        characters: usize,
    },
    /// The text after the tilde is not a number up to [`MAX_ERRORS`].
    Errors {
        /// The text given.
        given: String,
    },
    /// The pattern is too short for this many errors.
    TooVague {
        /// The number of characters that it would need.
        needed: usize,
    },
}

impl Pattern {
    /// Returns the pattern as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns where in `line` the first close enough match ends: the index of the byte after it.
    /// The cost is the product of both lengths, some nanoseconds each.
    ///
    /// Sellers' algorithm: a column of the edit distances between each prefix of the pattern and
    /// the text that ends here.
    pub fn find(&self, line: &str) -> Option<usize> {
        let mut column = [0_u8; MAX_PATTERN + 1];
        let column = &mut column[..=self.characters.len()];
        for (distance, place) in column.iter_mut().zip(0..) {
            *distance = place;
        }
        for (index, found) in line.char_indices() {
            let character = lower(found);
            let mut diagonal = 0;
            let mut above = 0;
            for (distance, wanted) in column[1..].iter_mut().zip(&self.characters) {
                let changed = diagonal + u8::from(*wanted != character);
                diagonal = *distance;
                *distance = changed.min(diagonal + 1).min(above + 1);
                above = *distance;
            }
            if usize::from(above) <= self.errors {
                return Some(index + found.len_utf8());
            }
        }
        None
    }

    /// Returns the number of characters.
    pub(super) fn len(&self) -> usize {
        self.characters.len()
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(given: &str) -> Result<Self, PatternError> {
        let given = given.trim();
        let (text, errors) = match given.rsplit_once('~') {
            Some((text, errors)) => (text.trim_end(), Some(number(errors)?)),
            None => (given, None),
        };
        let characters: Vec<char> = text.chars().map(lower).collect();
        match characters.len() {
            0 => return Err(PatternError::Empty),
            characters @ MAX_PATTERN.. if characters > MAX_PATTERN => {
                return Err(PatternError::TooLong { characters });
            }
            _ => {}
        }
        let errors =
            errors.unwrap_or((characters.len() / CHARACTERS_FOR_A_FREE_ERROR).min(MAX_ERRORS));
        let needed = errors * CHARACTERS_FOR_AN_ERROR;
        if characters.len() < needed {
            return Err(PatternError::TooVague { needed });
        }
        Ok(Pattern {
            text: given.to_owned(),
            characters,
            errors,
        })
    }
}

fn number(given: &str) -> Result<usize, PatternError> {
    let number = given.parse().ok().filter(|number| *number <= MAX_ERRORS);
    number.ok_or_else(|| PatternError::Errors {
        given: given.to_owned(),
    })
}

/// Maps one character to one, which `char::to_lowercase` does not guarantee.
fn lower(character: char) -> char {
    let mut lower = character.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(only), None) => only,
        _ => character,
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Type something to search for, such as: lantern"),
            Self::TooLong { characters } => {
                write!(f, "At most {MAX_PATTERN} characters, not {characters}")
            }
            Self::Errors { given } => {
                write!(
                    f,
                    "After ~ goes the number of typing errors, 0 to {MAX_ERRORS}, \
                     not ‘{given}’; such as: lanturn~1"
                )
            }
            Self::TooVague { needed } => {
                write!(
                    f,
                    "This many typing errors need at least {needed} characters, \
                     or everything would match"
                )
            }
        }
    }
}

impl error::Error for PatternError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pattern: &str, line: &str) -> Option<usize> {
        pattern.parse::<Pattern>().unwrap().find(line)
    }

    #[test]
    fn without_errors_it_is_there_or_not() {
        assert_eq!(find("fog", "Thick FOG at dawn"), Some(9));
        assert_eq!(find("fog", "Frost and gale"), None);
        assert_eq!(find("fog", ""), None);
        assert_eq!(find("é", "Café"), Some("Café".len()));
    }

    #[test]
    fn an_error_is_a_character_too_many_too_few_or_another() {
        for typed in [
            "lantern~1",
            "lanntern~1",
            "lanern~1",
            "lanturn~1",
            "lanturn",
        ] {
            assert!(find(typed, "the lantern burns").is_some(), "{typed}");
        }
        assert_eq!(find("lanturn~0", "the lantern burns"), None);
        assert_eq!(find("lonturn~1", "the lantern burns"), None);
        assert!(find("lonturn~2", "the lantern burns").is_some());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let parse = |typed: &str| typed.parse::<Pattern>().unwrap_err();
        for empty in ["", "  ", "~1", " ~0"] {
            assert_eq!(parse(empty), PatternError::Empty, "{empty:?}");
        }
        for errors in ["4", "x", "", "-1", "1 2"] {
            assert_eq!(
                parse(&format!("lantern~{errors}")),
                PatternError::Errors {
                    given: errors.to_owned()
                }
            );
        }
        assert_eq!(parse("abcde~2"), PatternError::TooVague { needed: 6 });
        assert_eq!(
            parse(&"a".repeat(65)),
            PatternError::TooLong { characters: 65 }
        );
        assert!("ä".repeat(64).parse::<Pattern>().is_ok());
        assert!(parse("lantern~x").to_string().contains("‘x’"));
    }
}
