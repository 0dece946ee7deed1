//! The rules of RFC 9110 and RFC 9112 for requests. Each is tested with the request sent at once
//! and byte by byte. Another request follows each time, so that a disagreement about where the
//! first one ends would show.
//!
//! `docs/http-rules.md` contains this table, and a test compares them. With `ENTWINED_WRITE_DOCS=1`
//! the test writes it.

use std::{fmt::Write as _, fs, io::Read};

use entwined_http::{Config, Error, Request, Router};

use crate::server::support::{Peer, Site, config};

/// What happens to the request.
#[derive(Clone, Copy)]
enum Then {
    /// It gets this answer, and the next one is answered too.
    Answered(&'static str),
    /// It gets this answer, and the connection ends.
    Last(&'static str),
    /// It gets an error or no answer, and the connection ends.
    Refused,
}
use Then::{Answered, Last, Refused};

/// The section of a rule (RFC 9112 by default), its text, a request, and what happens to it.
type Rule = (&'static str, &'static str, &'static [u8], Then);

// One entry a line where it fits: rustfmt would give each field a line of its own.
#[rustfmt::skip]
const RULES: &[Rule] = &[
    // Messages.
    ("2.2", "an empty line before a request is ignored",
        b"\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", Answered("GET / a 0")),
    ("2.2", "a bare CR in a field is refused",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n", Refused),
    ("2.2", "a bare CR does not end a line", b"GET / HTTP/1.1\rhost: a\r\r", Refused),
    ("2.2", "a bare CR in the request line is refused",
        b"GET /\r HTTP/1.1\r\nhost: a\r\n\r\n", Refused),
    ("2.2", "space before the first field is refused",
        b"GET / HTTP/1.1\r\n host: a\r\n\r\n", Refused),
    ("2.2", "bytes that are not HTTP are refused",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", Refused),
    // Versions.
    ("2.3", "the protocol name is in capitals", b"GET / http/1.1\r\nhost: a\r\n\r\n", Refused),
    ("2.3", "a version is two digits", b"GET / HTTP/1.10\r\nhost: a\r\n\r\n", Refused),
    ("2.3", "another protocol is refused", b"GET / ICY/1.1\r\nhost: a\r\n\r\n", Refused),
    ("9110 2.5", "another major version is refused", b"GET / HTTP/3.0\r\nhost: a\r\n\r\n", Refused),
    ("9110 15.6.6", "an unknown minor version is refused",
        b"GET / HTTP/1.9\r\nhost: a\r\n\r\n", Refused),
    ("2.3", "HTTP/0.9 is refused", b"GET /\r\n\r\n", Refused),
    // The request line.
    ("3", "two spaces are refused", b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n", Refused),
    ("3", "two spaces before the version are refused",
        b"GET /  HTTP/1.1\r\nhost: a\r\n\r\n", Refused),
    ("3", "a tab between the parts is refused", b"GET\t/ HTTP/1.1\r\nhost: a\r\n\r\n", Refused),
    ("3", "text after the version is refused", b"GET / HTTP/1.1 x\r\nhost: a\r\n\r\n", Refused),
    ("3", "space within the target is refused", b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", Refused),
    ("3.1", "methods are case-sensitive",
        b"get / HTTP/1.1\r\nhost: a\r\n\r\n", Answered("get / a 0")),
    ("9110 9.1", "unknown methods are allowed",
        b"M-SEARCH /x HTTP/1.1\r\nhost: a\r\n\r\n", Answered("M-SEARCH /x a 0")),
    ("3.1", "a method is a token", b"GE(T / HTTP/1.1\r\nhost: a\r\n\r\n", Refused),
    ("3.1", "a method must not be empty", b" / HTTP/1.1\r\nhost: a\r\n\r\n", Refused),
    ("3.1", "NUL in a method is refused", b"GE\0T / HTTP/1.1\r\nhost: a\r\n\r\n", Refused),
    // Targets.
    ("3.2.1", "a path with a query",
        b"GET /a/b;c?d=e&f?g HTTP/1.1\r\nhost: a\r\n\r\n", Answered("GET /a/b;c?d=e&f?g a 0")),
    ("3.2.2", "an absolute target overrides Host",
        b"GET http://b:8/c HTTP/1.1\r\nhost: a\r\n\r\n", Answered("GET http://b:8/c b 0")),
    ("3.2.2", "an absolute target still needs Host", b"GET http://b/c HTTP/1.1\r\n\r\n", Refused),
    ("3.2.3", "CONNECT needs a host and a port",
        b"CONNECT /a HTTP/1.1\r\nhost: a\r\n\r\n", Refused),
    ("3.2.4", "OPTIONS may have an asterisk as its target",
        b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", Answered("OPTIONS * a 0")),
    ("3.2.4", "only OPTIONS may have an asterisk", b"GET * HTTP/1.1\r\nhost: a\r\n\r\n", Refused),
    ("3.2", "a target begins with a slash", b"GET a/b HTTP/1.1\r\nhost: a\r\n\r\n", Refused),
    ("3.2", "a fragment is not part of a target",
        b"GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n", Answered("GET /a a 0")),
    ("3.2", "NUL in a target is refused", b"GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n", Refused),
    ("3.2", "DEL in a target is refused", b"GET /\x7f HTTP/1.1\r\nhost: a\r\n\r\n", Refused),
    ("9110 4.2.4", "a target must not name a user",
        b"GET http://u@b/c HTTP/1.1\r\nhost: a\r\n\r\n", Refused),
    ("3.2.3", "only CONNECT may have a host and a port",
        b"GET a:80 HTTP/1.1\r\nhost: a\r\n\r\n", Refused),
    // Host.
    ("3.2", "Host is required", b"GET / HTTP/1.1\r\nx: a\r\n\r\n", Refused),
    ("3.2", "Host must not be repeated", b"GET / HTTP/1.1\r\nhost: a\r\nHost: a\r\n\r\n", Refused),
    ("3.2", "Host must be valid: no space", b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n", Refused),
    ("3.2", "Host must be valid: no path", b"GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", Refused),
    ("3.2", "Host must be valid: no user", b"GET / HTTP/1.1\r\nhost: u@a\r\n\r\n", Refused),
    ("3.2", "Host must be valid: no list", b"GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", Refused),
    ("3.2", "Host must be valid: the port is a number",
        b"GET / HTTP/1.1\r\nhost: a:b\r\n\r\n", Refused),
    ("9110 7.2", "Host may be empty", b"GET / HTTP/1.1\r\nhost:\r\n\r\n", Answered("GET / none 0")),
    ("9110 7.2", "Host may be an IPv6 address",
        b"GET / HTTP/1.1\r\nhost: [::1]:80\r\n\r\n", Answered("GET / [::1] 0")),
    ("3.2", "HTTP/1.0 needs no Host", b"GET / HTTP/1.0\r\n\r\n", Last("GET / none 0")),
    // Fields.
    ("5", "names are case-insensitive",
        b"GET / HTTP/1.1\r\nHoSt: a\r\n\r\n", Answered("GET / a 0")),
    ("5.1", "space before the colon is refused",
        b"GET / HTTP/1.1\r\nhost: a\r\nx : b\r\n\r\n", Refused),
    ("5.1", "space around a value is ignored",
        b"GET / HTTP/1.1\r\nhost: \t a \t \r\n\r\n", Answered("GET / a 0")),
    ("5.1", "a field must have a colon", b"GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n", Refused),
    ("5.1", "a field must have a name", b"GET / HTTP/1.1\r\nhost: a\r\n: x\r\n\r\n", Refused),
    ("9110 5.1", "a name is a token", b"GET / HTTP/1.1\r\nhost: a\r\nx[]: b\r\n\r\n", Refused),
    ("9110 5.1", "a name has no bytes above 127",
        b"GET / HTTP/1.1\r\nhost: a\r\nx\xff: b\r\n\r\n", Refused),
    ("9110 5.5", "a value may have bytes above 127",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: \xc3\xbc\xff\r\n\r\n", Answered("GET / a 0")),
    ("9110 5.5", "NUL in a value is refused",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n", Refused),
    ("9110 5.5", "a control character in a value is refused",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\x01b\r\n\r\n", Refused),
    ("5.2", "a folded line is refused",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: b\r\n c\r\n\r\n", Refused),
    ("5.2", "a line folded by a tab is refused",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: b\r\n\tc\r\n\r\n", Refused),
    ("5.2", "a folded Transfer-Encoding is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n", Refused),
    // Where a body ends: Transfer-Encoding.
    ("6.1", "chunked, in any case",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: cHuNkEd\r\n\r\n\
          3\r\nabc\r\n0\r\n\r\n", Answered("POST / a 3")),
    ("6.1", "chunked overrides a Content-Length after it",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n\
          0\r\n\r\n", Last("POST / a 0")),
    ("6.1", "chunked overrides a Content-Length before it",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
          0\r\n\r\n", Last("POST / a 0")),
    ("6.1", "chunked in HTTP/1.0 is refused",
        b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
    ("6.1", "chunked twice is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n\
          0\r\n\r\n", Refused),
    ("6.1", "chunked in two fields is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\
          transfer-encoding: chunked\r\n\r\n\
          0\r\n\r\n", Refused),
    ("6.1", "another coding before chunked is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n\
          0\r\n\r\n", Refused),
    ("6.3", "a last coding other than chunked is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n\
          0\r\n\r\n", Refused),
    ("6.3", "identity is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n", Refused),
    ("6.1", "an empty Transfer-Encoding is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n\r\n0\r\n\r\n", Refused),
    ("6.1", "a vertical tab is not a space",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n", Refused),
    ("6.1", "chunked has no parameters",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked;q=1\r\n\r\n0\r\n\r\n", Refused),
    // Content-Length.
    ("6.2", "a Content-Length",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", Answered("POST / a 3")),
    ("9110 8.6", "leading zeros are ignored",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0003\r\n\r\nabc", Answered("POST / a 3")),
    ("6.3", "two different lengths are refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n\
          abc", Refused),
    ("6.3", "a list of different lengths is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 4\r\n\r\nabc", Refused),
    ("9110 8.6", "a sign is refused: plus",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc", Refused),
    ("9110 8.6", "a sign is refused: minus",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -3\r\n\r\nabc", Refused),
    ("9110 8.6", "a length has decimal digits only",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x3\r\n\r\nabc", Refused),
    ("9110 8.6", "a length must not contain space",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3 3\r\n\r\nabc", Refused),
    ("9110 8.6", "a length must not be empty",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\n", Refused),
    ("9110 8.6", "a length beyond 64 bits is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551619\r\n\r\nabc", Refused),
    ("5.1", "space before the colon of a length is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length : 3\r\n\r\nabc", Refused),
    ("6.3", "without both headers there is no body",
        b"POST / HTTP/1.1\r\nhost: a\r\n\r\n", Answered("POST / a 0")),
    ("6.3", "any method may have a body",
        b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", Answered("GET / a 3")),
    // Chunks.
    ("7.1", "sizes are hexadecimal, in any case",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
          A\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n", Answered("POST / a 21")),
    ("7.1", "leading zeros of a size are ignored",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
          0003\r\nabc\r\n000\r\n\r\n", Answered("POST / a 3")),
    ("7.1", "a size beyond 64 bits is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
          10000000000000003\r\nabc\r\n0\r\n\r\n", Refused),
    ("7.1", "a prefix of a size (0x) is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
          0x3\r\nabc\r\n0\r\n\r\n", Refused),
    ("7.1", "a sign of a size is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
          -3\r\nabc\r\n0\r\n\r\n", Refused),
    ("7.1", "a size must not be empty",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
          \r\nabc\r\n0\r\n\r\n", Refused),
    ("7.1", "a chunk shorter than its size is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
          4\r\nabc\r\n0\r\n\r\n", Refused),
    ("7.1", "a chunk longer than its size is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
          2\r\nabc\r\n0\r\n\r\n", Refused),
    ("7.1", "a bare LF after a size is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
          3\nabc\r\n0\r\n\r\n", Refused),
    ("7.1", "a bare LF after a chunk is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
          3\r\nabc\n0\r\n\r\n", Refused),
    ("7.1", "an empty line instead of a chunk is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
          3\r\nabc\r\n\r\n", Refused),
    ("7.1.1", "extensions are ignored",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
          3;a=b;c=\"d\"\r\nabc\r\n0;e\r\n\r\n", Answered("POST / a 3")),
    ("7.1.1", "a bare LF in an extension is refused",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
          3;a\nabc\r\n0\r\n\r\n", Refused),
    ("7.1.2", "trailers are ignored, whatever they contain",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
          3\r\nabc\r\n0\r\ncontent-length: 9\r\nhost: b\r\n\r\n", Answered("POST / a 3")),
    // Connections.
    ("9.3", "HTTP/1.0 closes after a response",
        b"GET / HTTP/1.0\r\nhost: a\r\n\r\n", Last("GET / a 0")),
    ("9.3", "HTTP/1.0 stays open with keep-alive",
        b"GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n", Answered("GET / a 0")),
    ("9.6", "`close` ends the connection",
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", Last("GET / a 0")),
    ("9.6", "`close` ends it in any case and in a list",
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: x, Close\r\n\r\n", Last("GET / a 0")),
    ("9110 7.8", "an upgrade to an unknown protocol is ignored",
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        Answered("GET / a 0")),
    ("9113 3.1", "an upgrade to HTTP/2 is ignored",
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
          http2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n", Answered("GET / a 0")),
    ("9110 10.1.1", "an expectation in HTTP/1.0 is ignored",
        b"POST / HTTP/1.0\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n\
          abc", Last("POST / a 3")),
];

const NEXT: &str = "GET /next HTTP/1.1\r\nhost: next\r\nconnection: close\r\n\r\n";

fn site(config: Config) -> Site {
    Site::with(config, |_| {
        Router::new().fallback(|mut request: Request| async move {
            let mut length = 0;
            while let Some(chunk) = request.chunk().await? {
                length += chunk.len();
            }
            let host = request
                .host()
                .filter(|host| !host.is_empty())
                .unwrap_or("none");
            Ok::<_, Error>(format!(
                "{} {} {host} {length}",
                request.method(),
                request.uri()
            ))
        })
    })
}

/// Checks one rule and returns what is wrong.
fn check(site: &Site, &(_, _, request, then): &Rule, byte_by_byte: bool) -> Result<(), String> {
    let mut peer = site.peer();
    let all = [request, NEXT.as_bytes()].concat();
    // The server may refuse the request and end the connection before all of it is sent.
    let step = if byte_by_byte { 1 } else { all.len() };
    for piece in all.chunks(step) {
        if !peer.try_send(piece) {
            break;
        }
    }
    let mut expect = |what: &str, text: &str| {
        let answer = peer.answer();
        let dated = answer.header("date").is_some();
        if answer.status == 200 && answer.text() == text && dated {
            Ok(())
        } else {
            Err(format!(
                "{what} got the answer {} {:?}",
                answer.status,
                answer.text()
            ))
        }
    };
    match then {
        Answered(text) => {
            expect("it", text)?;
            expect("the next one", "GET /next next 0")?;
        }
        Last(text) => expect("it", text)?,
        Refused => {}
    }
    let rest = rest(&mut peer);
    let lines = rest.matches("HTTP/1.").count();
    let refused = ["400", "417", "431", "501", "505"]
        .iter()
        .any(|status| rest.starts_with(&format!("HTTP/1.1 {status} ")));
    match then {
        Refused if rest.is_empty() || (lines == 1 && refused && !rest.contains("next")) => Ok(()),
        Refused => Err(format!("it got the answer {rest:?}")),
        Answered(_) | Last(_) if rest.is_empty() => Ok(()),
        Answered(_) | Last(_) => Err(format!("after that came {rest:?}")),
    }
}

/// Everything that arrives until the connection ends.
fn rest(peer: &mut Peer) -> String {
    let mut said = Vec::new();
    let _ = peer.stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn requests_are_taken_and_refused_as_the_rfcs_say() {
    let site = site(config(|config| config.http2 = true));
    let mut wrong = String::new();
    for rule in RULES {
        for byte_by_byte in [false, true] {
            if let Err(error) = check(&site, rule, byte_by_byte) {
                let how = if byte_by_byte { " (byte by byte)" } else { "" };
                writeln!(wrong, "{} {}{how}: {error}", rule.0, rule.1)
                    .expect("a string takes everything");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn many_requests_at_once_are_answered_in_their_order() {
    let site = site(Config::default());
    let mut peer = site.peer();
    let all: String = (0..100)
        .map(|number| format!("GET /{number} HTTP/1.1\r\nhost: a\r\n\r\n"))
        .collect();
    peer.send(all);
    for number in 0..100 {
        assert_eq!(peer.answer().text(), format!("GET /{number} a 0"));
    }
}

#[test]
fn the_table_in_the_documents_is_this_one() {
    let mut table = String::from(
        "# Rules of HTTP/1.1\n\n\
         How the server handles requests, by the rules of RFC 9112, and of RFC 9110 and RFC 9113 \
         where it\nsays so. This is the table of `http/tests/http/server/rules.rs`, which tests \
         each rule with the\nrequest sent at once and byte by byte. Another request follows each \
         time.\n\n\
         | rule | what it says | what happens to the request |\n|---|---|---|\n",
    );
    for (section, rule, _, then) in RULES {
        let then = match then {
            Answered(_) => "answered, and so is the next one",
            Last(_) => "answered, and the connection ends",
            Refused => "refused, and the connection ends",
        };
        let section = section.replace(' ', ", ");
        let rfc = if section.contains(',') {
            section
        } else {
            format!("9112, {section}")
        };
        writeln!(table, "| RFC {rfc} | {rule} | {then} |").expect("a string takes everything");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/http-rules.md");
    if std::env::var_os("ENTWINED_WRITE_DOCS").is_some() {
        fs::write(path, &table).expect("the documents can be written");
    }
    let written = fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == table,
        "docs/http-rules.md is out of date: run this test with ENTWINED_WRITE_DOCS=1"
    );
}
