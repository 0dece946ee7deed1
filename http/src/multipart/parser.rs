//! The format of forms with files (RFC 7578, RFC 2046 5.1.1), without I/O: bytes in, events out.
//!
//! ```text
//! Preamble ── delimiter ──▶ Delimited ── line end ──▶ Head ── empty line ──▶ Content
//!                              │   ▲                                            │
//!                             "--"  └───────────────── delimiter ───────────────┘
//!                              ▼
//!                             End
//! ```
//!
//! The buffer never has more than what was fed last, a head and a delimiter.

use bytes::{Buf, Bytes, BytesMut};

use super::parameters::{Parameters, Wrong};

/// The most bytes from a delimiter to the content of its part. Browsers send a few hundred; a name
/// of a file has at most 255 on Linux, percent-encoded 765.
pub(super) const MAX_HEAD: usize = 16 * 1024;

pub(super) struct Parser {
    buffer: BytesMut,
    /// The line end, two hyphens, and the boundary.
    delimiter: Vec<u8>,
    stage: Stage,
    /// How much of the buffer has no end of a head in it. Without this, a head that arrives byte by
    /// byte would be searched again for each.
    searched: usize,
    /// White space since the delimiter.
    padding: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Before the first delimiter. What is there is ignored.
    Preamble,
    /// Behind a delimiter, on its line.
    Delimited,
    /// In the head of a part.
    Head,
    /// In the content of a part.
    Content,
    /// Behind the last delimiter. What is there is ignored.
    End,
}

pub(super) enum Event {
    /// A part begins.
    Part(Head),
    /// A piece of its content.
    Data(Bytes),
    /// The part ends.
    EndOfPart,
    /// The form ends.
    End,
    /// More must be [fed](Parser::feed).
    NeedsMore,
}

/// What the head of a part says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) name: Option<String>,
    pub(super) file_name: Option<String>,
    pub(super) content_type: Option<String>,
}

impl Parser {
    pub(super) fn new(boundary: &str) -> Self {
        Parser {
            // The first delimiter may be at the very beginning.
            buffer: BytesMut::from(&b"\r\n"[..]),
            delimiter: [b"\r\n--", boundary.as_bytes()].concat(),
            stage: Stage::Preamble,
            searched: 0,
            padding: 0,
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.stage != Stage::End {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Whether the form has ended.
    pub(super) fn is_at_end(&self) -> bool {
        self.stage == Stage::End
    }

    pub(super) fn next(&mut self) -> Result<Event, Wrong> {
        loop {
            match self.stage {
                Stage::Preamble | Stage::Content => {
                    let is_content = self.stage == Stage::Content;
                    let (count, found) = find(&self.buffer, &self.delimiter);
                    if count > 0 {
                        let data = self.buffer.split_to(count).freeze();
                        if is_content {
                            return Ok(Event::Data(data));
                        }
                    } else if found {
                        self.buffer.advance(self.delimiter.len());
                        (self.stage, self.padding) = (Stage::Delimited, 0);
                        if is_content {
                            return Ok(Event::EndOfPart);
                        }
                    } else {
                        return Ok(Event::NeedsMore);
                    }
                }
                Stage::Delimited => match *self.buffer {
                    [b'-', b'-', ..] if self.padding == 0 => {
                        (self.stage, self.buffer) = (Stage::End, BytesMut::new());
                    }
                    [b' ' | b'\t', ..] if self.padding < MAX_HEAD => {
                        self.padding += 1;
                        self.buffer.advance(1);
                    }
                    [b'\r', b'\n', ..] => {
                        self.buffer.advance(2);
                        (self.stage, self.searched) = (Stage::Head, 0);
                    }
                    [] | [b'-' | b'\r'] => return Ok(Event::NeedsMore),
                    _ => return Err(Wrong("a boundary is followed by something else")),
                },
                Stage::Head => {
                    let Some(length) = self.find_head() else {
                        // The empty line ends it.
                        return match self.buffer.len() <= MAX_HEAD + 4 {
                            true => Ok(Event::NeedsMore),
                            false => Err(Wrong("the head of a part is too long")),
                        };
                    };
                    if length > MAX_HEAD {
                        return Err(Wrong("the head of a part is too long"));
                    }
                    let head = Head::parse(&self.buffer[..length])?;
                    // A part without headers ends with the line end that began its head; the empty
                    // line has one more.
                    self.buffer
                        .advance(if length == 0 { 2 } else { length + 4 });
                    self.stage = Stage::Content;
                    return Ok(Event::Part(head));
                }
                Stage::End => return Ok(Event::End),
            }
        }
    }

    /// The number of bytes before the empty line.
    fn find_head(&mut self) -> Option<usize> {
        if self.buffer.starts_with(b"\r\n") {
            return Some(0);
        }
        let from = self.searched;
        self.searched = self.buffer.len().saturating_sub(3);
        let place = self.buffer[from..]
            .windows(4)
            .position(|four| four == b"\r\n\r\n")?;
        Some(from + place)
    }
}

/// Returns how many bytes are certainly before the delimiter, and whether it follows them.
fn find(buffer: &[u8], delimiter: &[u8]) -> (usize, bool) {
    let mut from = 0;
    // The delimiter begins with the only line feed in it, so no byte is compared twice.
    while let Some(place) = buffer[from..].iter().position(|byte| *byte == b'\r') {
        let start = from + place;
        let rest = &buffer[start..];
        if rest.starts_with(delimiter) {
            return (start, true);
        }
        if delimiter.starts_with(rest) {
            return (start, false);
        }
        from = start + 1;
    }
    (buffer.len(), false)
}

impl Head {
    fn parse(head: &[u8]) -> Result<Self, Wrong> {
        let mut parsed = Head::default();
        let mut disposed = false;
        let text = String::from_utf8_lossy(head);
        for line in text.split("\r\n").filter(|line| !line.is_empty()) {
            let (name, value) = line
                .split_once(':')
                .ok_or(Wrong("a header of a part has no colon"))?;
            // Also a line that continues the one before it, which nobody may send any more.
            if name.is_empty() || name.contains([' ', '\t', '\r', '\n', '\0']) {
                return Err(Wrong("a header of a part has a malformed name"));
            }
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-disposition") {
                if std::mem::replace(&mut disposed, true) {
                    return Err(Wrong("a part has two Content-Disposition headers"));
                }
                parsed.read_disposition(value)?;
            } else if name.eq_ignore_ascii_case("content-type") && parsed.content_type.is_none() {
                parsed.content_type = Some(value.to_owned());
            }
        }
        Ok(parsed)
    }

    /// `filename*` is how RFC 6266 (4.3) sends names that are not ASCII, and wins over `filename`.
    /// RFC 7578 (4.2) forbids to send it in a form, but some clients do.
    fn read_disposition(&mut self, value: &str) -> Result<(), Wrong> {
        let (kind, parameters) = Parameters::parse(value)?;
        if !kind.eq_ignore_ascii_case("form-data") {
            return Err(Wrong("the disposition of a part is not form-data"));
        }
        self.name = parameters.find("name").map(str::to_owned);
        self.file_name = parameters
            .find_extended("filename*")
            .or_else(|| parameters.find("filename").map(str::to_owned));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a form has in it, if it arrives in pieces of this size.
    fn read(form: &[u8], size: usize) -> Result<Vec<(Head, Vec<u8>)>, Wrong> {
        let mut parser = Parser::new("xyz");
        let mut pieces = form.chunks(size);
        let mut parts: Vec<(Head, Vec<u8>)> = Vec::new();
        loop {
            match parser.next()? {
                Event::Part(head) => parts.push((head, Vec::new())),
                Event::Data(data) => parts.last_mut().expect("a part").1.extend(data),
                Event::EndOfPart => {}
                Event::End => return Ok(parts),
                Event::NeedsMore => match pieces.next() {
                    Some(piece) => parser.feed(piece),
                    None => return Err(Wrong("it ends")),
                },
            }
            assert!(parser.buffer.len() <= MAX_HEAD + size + 100);
        }
    }

    #[test]
    fn a_form_is_read_in_pieces_of_any_size() {
        let form = b"preamble --xyz \r\n--xyzzy--xyz\r\n--xyz \t\r\n\
            content-DISPOSITION: form-data ; NAME=a\r\n\r\none\r\n--xy\r\r\n\r\n--xyz\r\n\
            Content-Disposition: form-data; name=\"b\"; filename=\"c \\\"d\\\\ \xc3\xa9;=\"\r\n\
            Content-Type: text/plain\r\nx-other: 1\r\n\r\n\r\n--xyz\r\n\
            \r\nno head\r\n--xyz--\r\nepilogue\r\n--xyz\r\n";
        assert_eq!(
            read(form, 1_000).err(),
            Some(Wrong("a boundary is followed by something else"))
        );
        let form = &form[form.iter().position(|byte| *byte == b'\n').expect("a line") + 15..];
        for size in 1..form.len() + 1 {
            let parts = read(form, size).expect("a form");
            let heads: Vec<_> = parts
                .iter()
                .map(|(head, content)| {
                    let Head {
                        name,
                        file_name,
                        content_type,
                    } = head;
                    (
                        name.as_deref(),
                        file_name.as_deref(),
                        content_type.as_deref(),
                        content.as_slice(),
                    )
                })
                .collect();
            assert_eq!(
                heads,
                [
                    (Some("a"), None, None, &b"one\r\n--xy\r\r\n"[..]),
                    (Some("b"), Some("c \"d\\ é;="), Some("text/plain"), b""),
                    (None, None, None, b"no head"),
                ],
                "{size}"
            );
        }
    }

    fn file_name(disposition: &str) -> Result<Option<String>, Wrong> {
        let form = format!("--xyz\r\nContent-Disposition: {disposition}\r\n\r\n\r\n--xyz--");
        read(form.as_bytes(), 1_000).map(|mut parts| parts.remove(0).0.file_name)
    }

    #[test]
    fn the_name_of_a_file_is_found_whatever_comes_first() {
        for (disposition, expected) in [
            ("form-data; name=a", None),
            ("form-data; filename=\"a b\"", Some("a b")),
            ("form-data; filename=a;name=b", Some("a")),
            (
                "form-data; filename*=UTF-8''%e2%82%ac.txt; filename=\"EUR.txt\"",
                Some("€.txt"),
            ),
            (
                "form-data; filename=\"EUR.txt\"; filename*=utf-8'en'%e2%82%ac.txt",
                Some("€.txt"),
            ),
            ("form-data; filename*=utf-8''%ff; filename=\"b\"", Some("b")),
            ("form-data; filename*=utf-16''a; filename=\"b\"", Some("b")),
            ("form-data; filename*=iso-8859-1''%e9", Some("é")),
            ("form-data; name=\"filename=\\\"x\\\"\"", None),
            ("form-data; xfilename=a; filename=b", Some("b")),
            ("form-data; filename=\"\"", Some("")),
            ("form-data; name=\"b\"; filename=\"a\\b\\\"", Some("a\\b\\")),
            ("form-data; filename=\"a\\\\\"; name=\"b\"", Some("a\\")),
        ] {
            assert_eq!(
                file_name(disposition).as_ref().map(Option::as_deref),
                Ok(expected),
                "{disposition}"
            );
        }
        for wrong in [
            "attachment; filename=a",
            "form-data; filename=\"a",
            "form-data; filename=a; filename=b",
            "form-data; filename",
            "form-data; =a",
            "form-data, filename=a",
            "",
        ] {
            assert!(file_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_head_without_an_end_is_refused() {
        for start in ["", "a: ", "Content-Disposition: form-data; name=\""] {
            let form = format!("--xyz\r\n{start}{}", "a".repeat(MAX_HEAD + 100));
            assert_eq!(
                read(form.as_bytes(), 7).err(),
                Some(Wrong("the head of a part is too long"))
            );
        }
        let padded = format!("--xyz{}", " ".repeat(MAX_HEAD + 100));
        assert!(read(padded.as_bytes(), 7).is_err_and(|wrong| wrong != Wrong("it ends")));
    }
}
