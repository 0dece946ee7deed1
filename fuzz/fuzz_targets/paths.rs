//! Paths: no spelling of a guarded path reaches what is behind the guard, in whatever way the
//! routers are combined, and whichever version of HTTP asks.
#![no_main]

use std::borrow::Cow;

use arbitrary::Arbitrary;
use entwined::{simulation::Simulation, transport::listen_once};
use entwined_http::{
    self as http, Error, Files, Next, Path, Request, Response, Router, StatusCode,
};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    http2: bool,
    prefix: u8,
    name: u8,
    target: Target<'a>,
}

#[derive(Arbitrary, Debug)]
enum Target<'a> {
    /// The path with each byte as it is or in another spelling, and something inserted.
    Spelled {
        spellings: Vec<Spelling>,
        inserted: Vec<(u8, u8)>,
        end: &'a str,
    },
    /// Any path, below the prefix.
    Raw(&'a str),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Spelling {
    Plain,
    Lower,
    Upper,
    Twice,
}

/// Where files are, each in another kind of router.
const PREFIXES: [&str; 6] = ["/files", "/nested", "/merged", "/one", "/own", ""];
/// The folders with a guard, as the program names them.
const NAMES: [&str; 4] = ["private", "pr;v", "é x", "a+b"];
const INSERTED: [&str; 20] = [
    "/",
    "/.",
    "/..",
    "/x/..",
    "/%2e",
    "/%2E%2e",
    "/x/%2E.",
    "%2F",
    "%2f",
    "\\",
    "%5c",
    ";",
    "/;",
    "/..;",
    "%00",
    "%c0%af",
    "%e0%80%af",
    "%20",
    "%252f",
    "?",
];

const SECRET: &str = "the secret";

impl Case<'_> {
    fn target(&self) -> Vec<u8> {
        let prefix = PREFIXES[usize::from(self.prefix) % PREFIXES.len()];
        let name = NAMES[usize::from(self.name) % NAMES.len()];
        match &self.target {
            Target::Raw(rest) => format!("{prefix}/{rest}").into_bytes(),
            Target::Spelled {
                spellings,
                inserted,
                end,
            } => {
                let mut spellings = spellings.iter();
                let mut target = Vec::new();
                for (place, byte) in format!("{prefix}/{name}/x").bytes().enumerate() {
                    for &(at, what) in inserted {
                        if usize::from(at) == place {
                            let what = INSERTED[usize::from(what) % INSERTED.len()];
                            target.extend_from_slice(what.as_bytes());
                        }
                    }
                    let spelling = spellings.next().copied().unwrap_or(Spelling::Plain);
                    match spelling {
                        Spelling::Plain if byte == b' ' => target.extend_from_slice(b"%20"),
                        Spelling::Plain => target.push(byte),
                        Spelling::Lower => target.extend(format!("%{byte:02x}").bytes()),
                        Spelling::Upper => target.extend(format!("%{byte:02X}").bytes()),
                        Spelling::Twice => target.extend(format!("%25{byte:02X}").bytes()),
                    }
                }
                target.extend_from_slice(end.as_bytes());
                target
            }
        }
    }
}

/// Finds a file as a system does: `.` and empty names are nothing, `..` goes back.
fn file(path: &str) -> Option<&'static str> {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    match names[..] {
        [folder, "x"] if NAMES.contains(&folder) => Some(SECRET),
        ["public"] => Some("public"),
        _ => None,
    }
}

fn read(path: &str) -> Result<&'static str, Error> {
    file(path).ok_or_else(|| Error::new(StatusCode::NOT_FOUND, "no such file"))
}

/// What a handler does that takes a name from the path.
fn decode(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn guard(_: Request, _: Next) -> Result<Response, Error> {
    Err(Error::new(StatusCode::FORBIDDEN, "guarded"))
}

thread_local! {
    /// To build it takes longer than to ask it.
    static SITE: Router = site();
}

fn site() -> Router {
    let shut = || Router::new().any("/{*rest}", || "never").layer(guard);
    let guarded = |mut router: Router, prefix: &str| {
        for name in NAMES {
            router = router.nest(&format!("{prefix}/{name}"), shut());
        }
        router
    };
    let files = Files::embedded(|name| Some(Cow::Borrowed(file(name)?.as_bytes())));
    let mut merged = Router::new();
    for name in NAMES {
        merged = merged.get(&format!("/merged/{name}/{{*rest}}"), || "never");
    }
    let router = guarded(Router::new(), "/files").mount("/files", files.clone());
    let router = router
        .nest(
            "/nested",
            guarded(Router::new(), "").fallback(files.clone()),
        )
        .merge(merged.layer(guard))
        .get("/merged/{*path}", |Path(path): Path<String>| read(&path));
    let router = guarded(router, "/one").get("/one/{name}", |Path(name): Path<String>| read(&name));
    let router = guarded(router, "/own").mount("/own", |request: Request| {
        read(&decode(request.path_below()))
    });
    guarded(router, "").fallback(files)
}

/// The bytes of a request in HTTP/2, whose fields are literals that are not indexed (RFC 7541,
/// 6.2.2).
fn http2(target: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    let fields: [(&[u8], &[u8]); 4] = [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"x"),
        (b":path", target),
    ];
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // Longer ones need another encoding.
            let text = &text[..text.len().min(126)];
            block.push(text.len() as u8);
            block.extend_from_slice(text);
        }
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let length = (block.len() as u32).to_be_bytes();
    bytes.extend_from_slice(&[length[1], length[2], length[3], 1, 5, 0, 0, 0, 1]);
    bytes.extend_from_slice(&block);
    bytes
}

fuzz_target!(|case: Case<'_>| {
    let target = case.target();
    let response = ask(case.http2, &target);
    assert!(
        !contains(&response, SECRET),
        "{:?} gives the secret",
        String::from_utf8_lossy(&target)
    );
    // The way to the files is open.
    let response = ask(case.http2, b"/files/public");
    assert!(contains(&response, "public"));
});

fn contains(response: &[u8], text: &str) -> bool {
    response
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

fn ask(is_http2: bool, target: &[u8]) -> Vec<u8> {
    let bytes = if is_http2 {
        http2(target)
    } else {
        let mut bytes = b"GET ".to_vec();
        bytes.extend_from_slice(target);
        bytes.extend_from_slice(b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        bytes
    };
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, far) = fuzz::connection(&handle, 255);
    let server = http::serve(listen_once(&handle, far), SITE.with(Router::clone));
    let response = fuzz::ask(&simulation, near, bytes);
    assert_eq!(server.connections(), 0);
    response
}
