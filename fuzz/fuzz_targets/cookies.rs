//! Cookies. The client's jar: a host gets no cookie that another one has set, unless both are below
//! the domain that it names, and none that is for TLS only without TLS, unless it is this machine.
//! The server's sessions: nobody makes up a session, or changes one.
#![no_main]

use std::{cell::RefCell, io, rc::Rc};

use arbitrary::Arbitrary;
use entwined::{
    Handle,
    simulation::Simulation,
    transport::{ByteStream, listen_once},
};
use entwined_http::{
    self as http, HeaderValue, IntoResponse, Request, Router, State,
    client::Client,
    header::SET_COOKIE,
    layers::{self, Session, SessionKey},
};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Case<'a> {
    Jar(Vec<Visit<'a>>),
    Session(Forged<'a>),
}

/// A request of the client, and the cookies that the response sets.
#[derive(Arbitrary, Debug)]
struct Visit<'a> {
    host: u8,
    path: u8,
    sets: Vec<SetCookie<'a>>,
    redirects_to: Option<u8>,
}

#[derive(Arbitrary, Debug)]
struct SetCookie<'a> {
    name: u8,
    domain: Option<Domain<'a>>,
    path: Option<&'a str>,
    is_secure: bool,
    rest: &'a str,
}

#[derive(Arbitrary, Debug)]
enum Domain<'a> {
    Known(u8),
    Other(&'a str),
}

const HOSTS: [&str; 8] = [
    "one.example.test",
    "two.example.test",
    "sub.one.example.test",
    "example.test",
    "other.test",
    "127.0.0.1",
    "1.0.0.127",
    "localhost",
];
/// Nobody on the network sees what is exchanged with these, so they count as if they had TLS.
const LOOPBACK: [&str; 2] = ["127.0.0.1", "localhost"];
const DOMAINS: [&str; 14] = [
    "one.example.test",
    ".one.example.test",
    "ONE.example.TEST",
    "example.test",
    ".example.test",
    "test",
    ".test",
    "127.0.0.1",
    "0.0.1",
    "1",
    "other.test",
    "localhost",
    ".",
    "",
];
const PATHS: [&str; 4] = ["/", "/a", "/a/b", "/c"];
const NAMES: [&str; 4] = ["a", "__Host-a", "__Secure-a", ""];

impl SetCookie<'_> {
    /// The header. Its value says who has set the cookie, and whether it is for TLS only.
    fn header(&self, host: &str) -> Option<HeaderValue> {
        let name = NAMES[usize::from(self.name) % NAMES.len()];
        let mut text = format!("{name}=from:{host}:{};", self.is_secure);
        match &self.domain {
            None => {}
            Some(Domain::Known(number)) => {
                text += &format!(" Domain={};", DOMAINS[usize::from(*number) % DOMAINS.len()]);
            }
            Some(Domain::Other(domain)) => text += &format!(" Domain={domain};"),
        }
        if let Some(path) = self.path {
            text += &format!(" Path={path};");
        }
        // What else the fuzzer says comes first, so that it does not take anything back.
        text += self.rest;
        if self.is_secure {
            text += "; Secure";
        }
        HeaderValue::from_str(&text).ok()
    }
}

/// Whether `host` may get a cookie that `setter` has set: they are the same, or both are below a
/// domain that has more than one label.
fn may_get(host: &str, setter: &str) -> bool {
    let site = |host: &str| match host.split('.').collect::<Vec<_>>()[..] {
        [.., name, last] if !last.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(format!("{name}.{last}"))
        }
        _ => None,
    };
    host == setter || (site(host).is_some() && site(host) == site(setter))
}

fn check_jar(visits: &[Visit<'_>]) {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    // What the response to the next request sets, and where it redirects to.
    type Next = Rc<RefCell<(Vec<HeaderValue>, Option<String>)>>;
    let next = Next::default();
    let serve = {
        let next = next.clone();
        move |handle: &Handle| {
            let (near, far) = fuzz::connection(handle, 255);
            let next = next.clone();
            let router = Router::new().fallback(move |request: Request| {
                check_cookies(&request);
                let (cookies, location) = next.take();
                let mut response = match location {
                    Some(location) => http::Redirect::to(location).into_response(),
                    None => "here".into_response(),
                };
                for cookie in cookies {
                    response.headers_mut().append(SET_COOKIE, cookie);
                }
                response
            });
            http::serve(listen_once(handle, near), router).keep();
            far
        }
    };
    let client = Client::builder(&handle)
        .cookies()
        .connector({
            let handle = handle.clone();
            move |_| {
                let stream = serve(&handle);
                async { Ok::<_, io::Error>(Box::new(stream) as Box<dyn ByteStream>) }
            }
        })
        .build();
    let url = |host: u8, path: u8| {
        format!(
            "http://{}{}",
            HOSTS[usize::from(host) % HOSTS.len()],
            PATHS[usize::from(path) % PATHS.len()]
        )
    };
    for visit in visits.iter().take(20) {
        let host = HOSTS[usize::from(visit.host) % HOSTS.len()];
        let sets = visit.sets.iter().filter_map(|cookie| cookie.header(host));
        let location = visit.redirects_to.map(|host| url(host, visit.path));
        next.replace((sets.take(20).collect(), location));
        let asking = handle.spawn({
            let (client, url) = (client.clone(), url(visit.host, visit.path));
            async move { client.get(&url).send().await?.text().await }
        });
        let text = simulation.run_until(asking).expect("no panic");
        assert_eq!(text.expect("an answer"), "here");
    }
    drop(client);
    simulation.drive();
    assert_eq!(handle.metrics().connections, 0);
}

/// Checks what a host has got.
fn check_cookies(request: &Request) {
    let host = request.host().expect("a host");
    for header in request.headers().get_all("cookie") {
        let header = header.to_str().expect("text");
        for pair in header.split("; ") {
            let Some((_, said)) = pair.split_once("=from:") else {
                continue;
            };
            let (setter, rest) = said.split_once(':').expect("it was set so");
            assert!(
                may_get(host, setter),
                "{host} has got a cookie of {setter}: {header:?}"
            );
            assert!(
                LOOPBACK.contains(&host) || !rest.starts_with("true"),
                "{host} has got a cookie without TLS that is for TLS only: {header:?}"
            );
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Forged<'a> {
    /// Any `Cookie` header.
    Raw(&'a str),
    /// Any value of the session's cookie.
    Value(&'a str),
    /// A session of this server, changed.
    Changed(Vec<(u8, u8)>),
    /// A session that another server has signed.
    Others,
}

fn site(key: u8) -> Router {
    Router::new()
        .get("/set", |State(session): State<Session>| {
            session.set("name", "anna").expect("it is short");
            "set"
        })
        .get("/get", |State(session): State<Session>| {
            session
                .get::<String>("name")
                .unwrap_or_else(|| "nobody".to_owned())
        })
        .layer(layers::sessions(
            SessionKey::from_bytes(&[key; 64]).expect("long enough"),
        ))
}

/// Asks a server with this key, and returns the whole response.
fn ask(key: u8, path: &str, cookie: &[u8]) -> String {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, far) = fuzz::connection(&handle, 255);
    let server = http::serve(listen_once(&handle, far), site(key));
    let mut bytes =
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncookie: ").into_bytes();
    bytes.extend_from_slice(cookie);
    bytes.extend_from_slice(b"\r\n\r\n");
    let response = fuzz::ask(&simulation, near, bytes);
    assert_eq!(server.connections(), 0);
    String::from_utf8(response).expect("text")
}

/// The cookie of a session at a server with this key.
fn session(key: u8) -> String {
    let response = ask(key, "/set", b"a=b");
    let (_, rest) = response.split_once("set-cookie: ").expect("a session");
    let (cookie, _) = rest.split_once(';').expect("with attributes");
    cookie.to_owned()
}

fn check_session(forged: &Forged<'_>) {
    const KEY: u8 = 7;
    let own = session(KEY);
    let cookie = match forged {
        Forged::Raw(text) => (*text).to_owned().into_bytes(),
        Forged::Value(text) => format!("session={text}").into_bytes(),
        Forged::Changed(changes) => {
            let mut bytes = own.clone().into_bytes();
            for &(place, change) in changes {
                let length = bytes.len();
                bytes[usize::from(place) % length] ^= change;
            }
            bytes
        }
        Forged::Others => session(KEY + 1).into_bytes(),
    };
    let response = ask(KEY, "/get", &cookie);
    let has_session = response.starts_with("HTTP/1.1 200") && response.ends_with("\r\n\r\nanna");
    assert!(!has_session || decoded(&cookie).contains(&decoded(own.as_bytes())[..]));
    assert!(ask(KEY, "/get", own.as_bytes()).ends_with("anna"));
}

/// Undoes the percent-encoding: two spellings of a value are one.
fn decoded(text: &[u8]) -> String {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(code) if byte == b'%' => {
                bytes.push(code);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fuzz_target!(|case: Case<'_>| {
    match &case {
        Case::Jar(visits) => check_jar(visits),
        Case::Session(forged) => check_session(forged),
    }
});
