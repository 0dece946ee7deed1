//! Finds the paths that a Rust file names: a small reader for `use` declarations and paths.

/// A `use` declaration, or a path in the code, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    pub path: Vec<String>,
    /// The name that a `use` declaration introduces in its module.
    pub name: Option<String>,
    /// Whether it is a re-export (`pub use`), which introduces a name but uses nothing.
    pub exported: bool,
}

/// Reads a file, without its comments, literals and unit tests.
pub fn mentions(text: &str) -> Vec<Mention> {
    let tokens = tokens(text);
    let tokens = without_tests(&tokens);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "use" && (at == 0 || starts_item(&tokens[at - 1])) {
            let exported = at > 0 && (tokens[at - 1] == "pub" || tokens[at - 1] == ")");
            at = tree(&tokens, at + 1, &[], exported, &mut found);
        } else if is_root(&tokens[at]) && tokens.get(at + 1).is_some_and(|next| next == "::") {
            let mut path = vec![tokens[at].clone()];
            at += 1;
            while tokens.get(at).is_some_and(|token| token == "::")
                && tokens.get(at + 1).is_some_and(|token| is_name(token))
            {
                path.push(tokens[at + 1].clone());
                at += 2;
            }
            found.push(Mention {
                path,
                name: None,
                exported: false,
            });
        } else {
            at += 1;
        }
    }
    found
}

fn starts_item(before: &str) -> bool {
    matches!(before, ";" | "}" | "{" | "]" | "pub" | ")")
}

fn is_root(token: &str) -> bool {
    matches!(token, "crate" | "super")
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Reads a tree of a `use` declaration from `at`; returns the index after it.
fn tree(
    tokens: &[String],
    mut at: usize,
    prefix: &[String],
    exported: bool,
    found: &mut Vec<Mention>,
) -> usize {
    let mut path = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "::" => at += 1,
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = tree(tokens, at, &path, exported, found);
                    match tokens.get(at).map(String::as_str) {
                        Some(",") => at += 1,
                        Some("}") | None => {}
                        // The compiler says what is wrong with it.
                        Some(_) => return at,
                    }
                }
                return at + 1;
            }
            "as" => {
                let name = tokens.get(at + 1).cloned();
                found.push(Mention {
                    path,
                    name,
                    exported,
                });
                return at + 2;
            }
            "self" if !path.is_empty() => at += 1,
            "*" => at += 1,
            token if is_name(token) => {
                path.push(token.to_owned());
                at += 1;
            }
            _ => break,
        }
    }
    let name = path.last().cloned();
    if path.len() > 1 || prefix.is_empty() {
        found.push(Mention {
            path,
            name,
            exported,
        });
    }
    at
}

/// Returns the tokens without `#[cfg(test)]` items.
fn without_tests(tokens: &[String]) -> Vec<String> {
    const TESTS: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].iter().take(TESTS.len()).eq(TESTS.iter()) {
            at += TESTS.len();
            let mut depth = 0;
            while at < tokens.len() {
                match tokens[at].as_str() {
                    "{" => depth += 1,
                    "}" if depth == 1 => break,
                    "}" => depth -= 1,
                    ";" if depth == 0 => break,
                    _ => {}
                }
                at += 1;
            }
            at += 1;
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Returns names, `::` and single characters, without comments and literals.
fn tokens(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    let next = |at: usize| characters.get(at + 1).copied();
    while at < characters.len() {
        let character = characters[at];
        match character {
            '/' if next(at) == Some('/') => at = skip_line(&characters, at),
            '/' if next(at) == Some('*') => at = skip_block(&characters, at),
            '"' => at = skip_string(&characters, at),
            'r' if raw_hashes(&characters, at + 1).is_some() => at = skip_raw(&characters, at + 1),
            'b' | 'c' if next(at) == Some('"') => at = skip_string(&characters, at + 1),
            'b' if next(at) == Some('r') && raw_hashes(&characters, at + 2).is_some() => {
                at = skip_raw(&characters, at + 2);
            }
            '\'' => at = skip_quote(&characters, at),
            ':' if next(at) == Some(':') => {
                tokens.push("::".to_owned());
                at += 2;
            }
            _ if character.is_alphanumeric() || character == '_' => {
                let end = characters[at..]
                    .iter()
                    .position(|it| !(it.is_alphanumeric() || *it == '_'))
                    .map_or(characters.len(), |length| at + length);
                tokens.push(characters[at..end].iter().collect());
                at = end;
            }
            _ => {
                if !character.is_whitespace() {
                    tokens.push(character.to_string());
                }
                at += 1;
            }
        }
    }
    tokens
}

fn skip_line(characters: &[char], at: usize) -> usize {
    let rest = &characters[at..];
    at + rest.iter().position(|it| *it == '\n').unwrap_or(rest.len())
}

fn skip_block(characters: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < characters.len() {
        match (characters[at], characters.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) if depth == 1 => return at + 2,
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

fn skip_string(characters: &[char], mut at: usize) -> usize {
    at += 1;
    while at < characters.len() && characters[at] != '"' {
        at += if characters[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Returns the number of `#` before a raw string's quote; `None` if it is not a raw string.
fn raw_hashes(characters: &[char], at: usize) -> Option<usize> {
    let hashes = characters
        .get(at..)?
        .iter()
        .take_while(|it| **it == '#')
        .count();
    (characters.get(at + hashes) == Some(&'"')).then_some(hashes)
}

fn skip_raw(characters: &[char], at: usize) -> usize {
    let hashes = raw_hashes(characters, at).unwrap_or(0);
    let mut end = at + hashes + 1;
    while end < characters.len() {
        let closes = characters[end] == '"'
            && characters[end + 1..]
                .iter()
                .take(hashes)
                .filter(|it| **it == '#')
                .count()
                == hashes;
        end += 1;
        if closes {
            return end + hashes;
        }
    }
    end
}

/// Skips a character literal, or the quote of a lifetime.
fn skip_quote(characters: &[char], at: usize) -> usize {
    match (characters.get(at + 1), characters.get(at + 2)) {
        (Some('\\'), _) => {
            let rest = &characters[at + 3..];
            at + 3
                + rest
                    .iter()
                    .position(|it| *it == '\'')
                    .map_or(rest.len(), |end| end + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_that_is_not_closed_ends() {
        assert_eq!(mentions("use crate::{a, b::{c, d};\nfn f() {}").len(), 3);
        assert_eq!(mentions("use crate::{a").len(), 1);
    }

    #[test]
    fn uses_and_paths_are_found_and_comments_strings_and_tests_are_not() {
        let text = r##"
            // use crate::no;
            use crate::{a::{self, B}, c as d};
            pub use self::e::F;
            fn f<'a>(x: &'a str) -> super::g::H { crate::i::j(x, "crate::no", r#"crate::no"#, '"') }
            #[cfg(test)]
            mod tests { use crate::no; }
        "##;
        let found: Vec<_> = mentions(text)
            .into_iter()
            .map(|mention| (mention.path.join("::"), mention.name, mention.exported))
            .collect();
        let named =
            |path: &str, name: &str, exported| (path.to_owned(), Some(name.to_owned()), exported);
        assert_eq!(
            found,
            [
                named("crate::a", "a", false),
                named("crate::a::B", "B", false),
                named("crate::c", "d", false),
                named("self::e::F", "F", true),
                ("super::g::H".to_owned(), None, false),
                ("crate::i::j".to_owned(), None, false),
            ]
        );
    }
}
