//! Requests on the loop's thread: who may ask, what is asked. All else is done in a transaction on
//! a thread of the database.

use entwined_http::{
    Body, Error, HeaderValue, IntoResponse, Preconditions, Request, Response, Router, State,
    StatusCode, Uri, header, layers,
};
use entwined_rusqlite::ConnectionPool;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{
    dav::{self, Answer, Asked, Depth},
    fault::Fault,
    store::{ROOT, Store},
    xml::document,
};

/// The most bytes of an event with its attachments, and of a request in XML.
pub const MAX_BODY: usize = 1024 * 1024;

/// Who may use the calendars from elsewhere.
pub struct User {
    name: String,
    password: String,
}

impl User {
    /// Reads `NAME:PASSWORD`.
    pub fn parse(text: &str) -> Result<User, String> {
        let (name, password) = text
            .lines()
            .next()
            .and_then(|line| line.split_once(':'))
            .filter(|(name, password)| !name.is_empty() && !password.is_empty())
            .ok_or("the file with the user must have one line, NAME:PASSWORD")?;
        Ok(User {
            name: name.to_owned(),
            password: password.to_owned(),
        })
    }

    fn is(&self, name: &str, password: &str) -> bool {
        let (name, password) = (
            layers::same_secret(&self.name, name),
            layers::same_secret(&self.password, password),
        );
        name & password
    }
}

pub fn router(database: ConnectionPool, user: Option<User>) -> Router {
    let router = Router::new()
        .get(
            "/",
            || "A calendar server. Its address for programs is /dav/\n",
        )
        .any("/.well-known/caldav", || {
            (
                StatusCode::MOVED_PERMANENTLY,
                [(header::LOCATION, "/dav/")],
                "",
            )
        })
        .mount(ROOT, serve)
        .layer(layers::state(database))
        .layer(layers::max_body_size(MAX_BODY));
    match user {
        Some(user) => router.layer(layers::basic_auth("calendar", move |name, password| {
            user.is(name, password)
        })),
        // Calendar programs are no web pages, so this does not hinder them.
        None => router.layer(layers::local_only()),
    }
}

async fn serve(State(database): State<ConnectionPool>, request: Request) -> Response {
    match answer(&database, request).await {
        Ok(answer) => respond(answer),
        Err(fault) => refuse(fault),
    }
}

async fn answer(database: &ConnectionPool, mut request: Request) -> Result<Answer, Fault> {
    let body = request.bytes().await;
    let body = body.map_err(|error| Fault::new(error.status(), error.message().to_owned()))?;
    let header = |name| request.header(name);
    let destination = match header("destination") {
        Some(text) => Some(destination(text, request.authority())?),
        None => None,
    };
    let content_type = header("content-type").unwrap_or("application/octet-stream");
    let asked = Asked {
        path: canonical(request.path()).ok_or_else(Fault::not_found)?,
        ends_with_slash: request.path().ends_with('/'),
        depth: match header("depth") {
            Some("0") => Depth::Zero,
            Some("1") => Depth::One,
            Some(text) if text.eq_ignore_ascii_case("infinity") => Depth::Infinity,
            Some(_) => return Err(Fault::bad_request("the depth is wrong")),
            None if request.method().as_str() == "REPORT" => Depth::Zero,
            None => Depth::Infinity,
        },
        destination,
        // A text in a grammar has no case (RFC 5234, 2.3).
        overwrites: !header("overwrite").is_some_and(|text| text.trim().eq_ignore_ascii_case("f")),
        media_type: request.media_type(),
        content_type: content_type.to_owned(),
        is_part: header("content-range").is_some(),
        preconditions: Preconditions::from(&request),
        method: request.method().clone(),
        body,
    };
    if dav::only_reads(&asked.method) {
        // One state of everything, without the lock for writing.
        let read = database.run_with_connection(move |connection, _| {
            let transaction = connection.transaction()?;
            dav::answer(&Store(&transaction), &asked)
        });
        return read.await;
    }
    let write =
        database.run_interaction(move |transaction| dav::answer(&Store(transaction), &asked));
    write.await
}

fn respond(answer: Answer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    // What is stored is not a page of this server, whatever it says it is.
    let sandbox = HeaderValue::from_static("default-src 'none'; sandbox");
    headers.insert(header::CONTENT_SECURITY_POLICY, sandbox);
    let exactly = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, exactly);
    response
}

fn refuse(fault: Fault) -> Response {
    let status = fault.status();
    let rule = match &fault {
        Fault::Rule(_, rule) => format!("<{rule}/>"),
        Fault::SameUid(href) => {
            format!("<C:no-uid-conflict><D:href>{href}</D:href></C:no-uid-conflict>")
        }
        Fault::Status(..) => return Error::new(status, fault.to_string()).into_response(),
        Fault::Database(_) if status == StatusCode::INTERNAL_SERVER_ERROR => {
            return Error::internal(fault).into_response();
        }
        Fault::Database(_) => {
            return Error::new(status, "the database has no room").into_response();
        }
    };
    let kind = [(header::CONTENT_TYPE, "application/xml; charset=utf-8")];
    (status, kind, document("D:error", &rule)).into_response()
}

/// The path that a `Destination` names, which is on this server.
fn destination(text: &str, authority: Option<&str>) -> Result<String, Fault> {
    let elsewhere = || Fault::new(StatusCode::BAD_GATEWAY, "the destination is elsewhere");
    let uri: Uri = text
        .parse()
        .map_err(|_| Fault::bad_request("the destination is wrong"))?;
    let same = |there: &str| authority.is_some_and(|here| here.eq_ignore_ascii_case(there));
    if uri.authority().is_some_and(|there| !same(there.as_str())) {
        return Err(elsewhere());
    }
    let path = canonical(text).ok_or_else(elsewhere)?;
    match path == ROOT
        || path
            .strip_prefix(ROOT)
            .is_some_and(|rest| rest.starts_with('/'))
    {
        true => Ok(path),
        false => Err(elsewhere()),
    }
}

/// The decoded path of a URI, without a slash at its end. `None` if it could mean another one.
pub fn canonical(uri: &str) -> Option<String> {
    let uri: Uri = uri.parse().ok()?;
    let mut path = String::new();
    for segment in uri
        .path()
        .trim_end_matches('/')
        .strip_prefix('/')?
        .split('/')
    {
        let segment = percent_decode_str(segment).decode_utf8().ok()?;
        let strange = |c: char| matches!(c, '/' | '\\' | '\0');
        if matches!(&*segment, "" | "." | "..") || segment.contains(strange) {
            return None;
        }
        path.push('/');
        path.push_str(&segment);
    }
    Some(path)
}

/// How a path is written in a URI: as the server itself does (RFC 3986, 3.3).
pub fn href(path: &str) -> String {
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~')
        .remove(b'!')
        .remove(b'$')
        .remove(b'(')
        .remove(b')')
        .remove(b'*')
        .remove(b'+')
        .remove(b',')
        .remove(b';')
        .remove(b'=')
        .remove(b':')
        .remove(b'@')
        .remove(b'/');
    utf8_percent_encode(path, ENCODED).to_string()
}
