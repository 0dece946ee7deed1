//! What a file is called: what a server or a URL says is a wish, and must not lead elsewhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use percent_encoding::percent_decode_str;

/// The most bytes of a name, so that a number fits behind it.
const MAX: usize = 200;

/// The name in a `Content-Disposition` (RFC 6266). `filename*` wins if it is well formed.
pub fn in_disposition(text: &str) -> Option<String> {
    let (mut plain, mut extended) = (None, None);
    for parameter in parts(text).into_iter().skip(1) {
        let Some((name, value)) = parameter.split_once('=') else {
            continue;
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "filename*" => extended = extended.or_else(|| decoded(value.trim())),
            "filename" => plain = Some(unquoted(value.trim())),
            _ => {}
        }
    }
    extended.or(plain)
}

/// What is between semicolons, other than those in quotes.
fn parts(text: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let ends = |character: char| {
        let is_escaped = std::mem::replace(&mut escaped, false);
        match character {
            '\\' if quoted && !is_escaped => escaped = true,
            '"' if !is_escaped => quoted = !quoted,
            _ => {}
        }
        character == ';' && !quoted
    };
    text.split(ends).collect()
}

/// `UTF-8'en'%e2%82%ac` (RFC 8187)
fn decoded(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_language, text) = rest.split_once('\'')?;
    let text = percent_decode_str(text).decode_utf8().ok()?;
    charset
        .eq_ignore_ascii_case("utf-8")
        .then(|| text.into_owned())
}

/// A backslash is only taken away before a quote or another one: some servers send paths of Windows
/// as they are.
fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else {
        return value.to_owned();
    };
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    inner.replace("\\\"", "\"").replace("\\\\", "\\")
}

/// The name at the end of a URL.
pub fn in_url(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let last = path
        .split_once('/')
        .and_then(|(_, path)| path.rsplit('/').next());
    percent_decode_str(last.unwrap_or_default())
        .decode_utf8_lossy()
        .into_owned()
}

/// A URL without the name and the password that may be in it, for people to read.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// A name that is one, in the folder that it is put into.
pub fn clean(wish: &str) -> String {
    let wish = wish.rsplit(['/', '\\']).next().unwrap_or_default();
    let fine = |c: &char| !c.is_control() && !turns(*c) && !"<>:\"|?*".contains(*c);
    let mut name: String = wish.chars().filter(fine).collect();
    while name.len() > MAX {
        name.pop();
    }
    match name.trim().trim_start_matches('.') {
        "" => "download".into(),
        name => name.to_owned(),
    }
}

/// Whether a character changes the direction of what follows it: `a\u{202e}gpj.exe` looks like a
/// picture.
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Gives a file that is complete its name, or one with a number if that is taken. Never replaces
/// anything.
pub fn settle(part: &Path, folder: &Path, name: &str) -> io::Result<PathBuf> {
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
        _ => (name, String::new()),
    };
    let numbered = (2..).map(|number| format!("{stem} ({number}){extension}"));
    for name in [name.to_owned()].into_iter().chain(numbered) {
        let path = folder.join(name);
        // Reserves the name.
        match fs::File::create_new(&path) {
            Ok(_) => {
                return match fs::rename(part, &path) {
                    Ok(()) => Ok(path),
                    Err(error) => {
                        // Nothing came of it.
                        let _ = fs::remove_file(&path);
                        Err(error)
                    }
                };
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    unreachable!("the numbers do not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_folder() {
        for (wish, name) in [
            ("a.txt", "a.txt"),
            ("../../etc/passwd", "passwd"),
            ("..", "download"),
            ("", "download"),
            (".bashrc", "bashrc"),
            ("a\\b\0c\n.txt", "bc.txt"),
            ("ü€.txt", "ü€.txt"),
            ("a\u{202e}gpj.exe", "agpj.exe"),
        ] {
            assert_eq!(clean(wish), name);
        }
        assert!(clean(&"é".repeat(500)).len() <= MAX);
    }

    #[test]
    fn names_come_from_where_they_are() {
        assert_eq!(in_url("http://a/b/c%20d.iso?x=/y#z"), "c d.iso");
        assert_eq!(in_url("http://a"), "");
        let name = |text| in_disposition(text).expect("it has one");
        assert_eq!(name("attachment; filename=\"a b.txt\""), "a b.txt");
        assert_eq!(
            name("attachment; filename=x; filename*=UTF-8''%e2%82%ac"),
            "€"
        );
        assert_eq!(name("attachment; x; filename=\"a;b; c.txt\""), "a;b; c.txt");
        assert_eq!(name("attachment; filename=\"a \\\"b\\\" c\""), "a \"b\" c");
        for malformed in ["UTF-8''%ff", "x", "latin-9''a"] {
            let text = format!("attachment; filename*={malformed}; filename=plain");
            assert_eq!(in_disposition(&text).as_deref(), Some("plain"));
        }
        assert_eq!(in_disposition("inline"), None);
    }

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("http://a/b@c", "http://a/b@c"),
            ("http://me:p@ss@a:1/b?c@d", "http://a:1/b?c@d"),
            ("https://me@a", "https://a"),
            ("a@b", "a@b"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn a_name_is_not_kept_for_a_file_that_is_not_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let settled = settle(&folder.path().join("part"), folder.path(), "a.tar");
        assert!(settled.is_err());
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn nothing_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let names: Vec<_> = (0..3)
            .map(|number| {
                let part = folder.path().join("part");
                fs::write(&part, [number]).expect("a file");
                let path = settle(&part, folder.path(), "a.tar").expect("a name");
                assert_eq!(fs::read(&path).expect("a file"), [number]);
                path.file_name().expect("it has one").to_owned()
            })
            .collect();
        assert_eq!(names, ["a.tar", "a (2).tar", "a (3).tar"]);
    }
}
