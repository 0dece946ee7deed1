//! The methods of WebDAV (RFC 4918) and CalDAV (RFC 4791), each in one transaction.

use entwined_http::{
    Bytes, ETag, HeaderName, Method, Preconditions, Response, StatusCode, Validators, header,
};

use crate::{
    fault::Fault,
    icalendar,
    properties::{self, Multistatus, Wanted},
    report,
    site::href,
    store::{Kind, New, Node, ROOT, Store, parent},
    xml::{self, CALDAV, DAV, Element, document, wrap},
};

pub const ALLOW: &str = "OPTIONS, GET, HEAD, PUT, DELETE, COPY, MOVE, MKCOL, MKCALENDAR, \
                         PROPFIND, PROPPATCH, REPORT";
/// What is understood (RFC 4918, 18; RFC 4791, 5.1; RFC 5689). Not `2`: nothing can be locked, and
/// calendars do not need it.
const CLASSES: &str = "1, 3, extended-mkcol, calendar-access";

/// A request, without the parts of it that stay on the loop's thread.
pub struct Asked {
    pub method: Method,
    /// Decoded, without a slash at its end.
    pub path: String,
    pub ends_with_slash: bool,
    pub depth: Depth,
    /// Where COPY and MOVE go.
    pub destination: Option<String>,
    pub overwrites: bool,
    pub media_type: String,
    /// With its parameters.
    pub content_type: String,
    pub is_part: bool,
    pub preconditions: Preconditions,
    pub body: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    Zero,
    One,
    Infinity,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    fn new(status: StatusCode) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    fn with(mut self, name: HeaderName, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }

    pub fn multistatus(answers: Multistatus) -> Answer {
        let text = document("D:multistatus", &answers.content());
        let mut answer = Answer::new(StatusCode::MULTI_STATUS)
            .with(header::CONTENT_TYPE, "application/xml; charset=utf-8");
        answer.body = text.into_bytes();
        answer
    }
}

/// Whether a method changes nothing.
pub fn only_reads(method: &Method) -> bool {
    ["OPTIONS", "GET", "HEAD", "PROPFIND", "REPORT"].contains(&method.as_str())
}

/// Does what is asked. If this fails, the transaction is rolled back.
pub fn answer(store: &Store, asked: &Asked) -> Result<Answer, Fault> {
    match asked.method.as_str() {
        "OPTIONS" => Ok(Answer::new(StatusCode::OK)
            .with(header::ALLOW, ALLOW)
            .with(HeaderName::from_static("dav"), CLASSES)),
        "GET" | "HEAD" => get(store, asked),
        "PUT" => put(store, asked),
        "DELETE" => delete(store, asked),
        "COPY" | "MOVE" => copy(store, asked),
        "MKCOL" | "MKCALENDAR" => make(store, asked),
        "PROPFIND" => propfind(store, asked),
        "PROPPATCH" => proppatch(store, asked),
        "REPORT" => report::answer(store, asked),
        _ => Err(Fault::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "there is no such method here",
        )),
    }
}

pub fn find(store: &Store, path: &str) -> Result<Node, Fault> {
    store.find(path)?.ok_or_else(Fault::not_found)
}

/// Reads a body that is XML.
pub fn read(asked: &Asked) -> Result<Element, Fault> {
    xml::parse(&asked.body).map_err(Fault::bad_request)
}

fn validators(node: &Node) -> Validators {
    Validators {
        etag: Some(ETag::strong(&node.version.to_string())),
        modified: Some(node.modified()),
    }
}

/// Whether the client knows what is there.
fn check(asked: &Asked, node: Option<&Node>) -> Result<(), Fault> {
    let checked = match node {
        Some(node) => asked.preconditions.check(validators(node)),
        None => asked.preconditions.check_missing(),
    };
    let status = |refusal: Response| Fault::new(refusal.status(), "it is another one");
    checked.map_err(status)
}

fn etag(version: i64) -> String {
    ETag::strong(&version.to_string()).to_string()
}

fn get(store: &Store, asked: &Asked) -> Result<Answer, Fault> {
    let node = find(store, &asked.path)?;
    let date = httpdate::fmt_http_date(node.modified());
    let answer = |status| {
        Answer::new(status)
            .with(header::ETAG, etag(node.version))
            .with(header::LAST_MODIFIED, &date)
    };
    if let Err(refusal) = check(asked, Some(&node)) {
        return match refusal.status() {
            StatusCode::NOT_MODIFIED => Ok(answer(StatusCode::NOT_MODIFIED)),
            _ => Err(refusal),
        };
    }
    if node.kind.is_collection() {
        let mut answer =
            Answer::new(StatusCode::OK).with(header::CONTENT_TYPE, "text/plain; charset=utf-8");
        for child in store.children(&node.path, 0)? {
            let slash = if child.kind.is_collection() { "/" } else { "" };
            answer
                .body
                .extend(format!("{}{slash}\n", href(&child.path)).bytes());
        }
        return Ok(answer);
    }
    let mut answer = answer(StatusCode::OK).with(header::CONTENT_TYPE, &node.media_type);
    answer.body = store.content(&node.path)?;
    Ok(answer)
}

/// The collection that something is to be put into.
fn room(store: &Store, path: &str) -> Result<Node, Fault> {
    let node = store.find(parent(path))?;
    node.filter(|node| node.kind.is_collection())
        .ok_or_else(|| Fault::new(StatusCode::CONFLICT, "there is no such collection"))
}

/// Checks that a calendar takes this content, and returns its UID.
fn check_object(
    store: &Store,
    calendar: &str,
    content: &[u8],
    known_as: &[&str],
) -> Result<icalendar::Object, Fault> {
    let object = icalendar::check(content)?;
    if !properties::kinds(store, calendar)?.contains(&object.kind) {
        return Err(Fault::forbidden("C:supported-calendar-component"));
    }
    match store.with_uid(calendar, &object.uid)? {
        Some(other) if !known_as.contains(&other.as_str()) => Err(Fault::SameUid(href(&other))),
        _ => Ok(object),
    }
}

fn put(store: &Store, asked: &Asked) -> Result<Answer, Fault> {
    let path = asked.path.as_str();
    let known = store.find(path)?;
    if asked.ends_with_slash || known.as_ref().is_some_and(|node| node.kind.is_collection()) {
        return Err(Fault::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "a collection has no content",
        ));
    }
    if asked.is_part {
        return Err(Fault::bad_request("only a whole file can be stored"));
    }
    let room = room(store, path)?;
    check(asked, known.as_ref())?;
    let mut object = None;
    let mut media_type = asked.content_type.clone();
    if room.kind == Kind::Calendar {
        if asked.media_type != "text/calendar" {
            return Err(Fault::forbidden("C:supported-calendar-data"));
        }
        let found = check_object(store, &room.path, &asked.body, &[path])?;
        let kind = found.kind.to_ascii_lowercase();
        media_type = format!("text/calendar; charset=utf-8; component={kind}");
        object = Some(found);
    }
    let version = store.put(
        path,
        New {
            kind: Kind::File,
            content: &asked.body,
            media_type: &media_type,
            uid: object.as_ref().map(|object| object.uid.as_str()),
        },
    )?;
    let status = match known {
        Some(_) => StatusCode::NO_CONTENT,
        None => StatusCode::CREATED,
    };
    Ok(Answer::new(status).with(header::ETAG, etag(version)))
}

fn delete(store: &Store, asked: &Asked) -> Result<Answer, Fault> {
    let node = find(store, &asked.path)?;
    check(asked, Some(&node))?;
    if node.path == ROOT {
        return Err(Fault::new(StatusCode::FORBIDDEN, "this must stay"));
    }
    store.remove(&node.path)?;
    Ok(Answer::new(StatusCode::NO_CONTENT))
}

fn copy(store: &Store, asked: &Asked) -> Result<Answer, Fault> {
    let node = find(store, &asked.path)?;
    check(asked, Some(&node))?;
    let moves = asked.method.as_str() == "MOVE";
    let from = node.path.as_str();
    let to = asked.destination.as_deref();
    let to = to.ok_or_else(|| Fault::bad_request("the destination is missing"))?;
    let is_inside = |inner: &str, outer: &str| {
        let rest = inner.strip_prefix(outer);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if is_inside(to, from) || is_inside(from, to) {
        return Err(Fault::new(
            StatusCode::FORBIDDEN,
            "the destination is in the source, or the source in it",
        ));
    }
    let room = room(store, to)?;
    let replaces = store.find(to)?.is_some();
    if replaces && !asked.overwrites {
        return Err(Fault::new(
            StatusCode::PRECONDITION_FAILED,
            "something is there",
        ));
    }
    let mut uid = None;
    if room.kind == Kind::Calendar {
        if node.kind.is_collection() {
            return Err(Fault::forbidden("C:calendar-collection-location-ok"));
        }
        let content = store.content(from)?;
        let known_as = if moves { &[to, from][..] } else { &[to] };
        uid = Some(check_object(store, &room.path, &content, known_as)?.uid);
    }
    if replaces {
        store.remove(to)?;
    }
    store.copy(from, to, moves || asked.depth != Depth::Zero)?;
    if moves {
        store.remove(from)?;
    }
    store.set_uid(to, uid.as_deref())?;
    Ok(Answer::new(match replaces {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::CREATED,
    }))
}

/// MKCOL, which may say that it is to be a calendar (RFC 5689), and MKCALENDAR.
fn make(store: &Store, asked: &Asked) -> Result<Answer, Fault> {
    let path = asked.path.as_str();
    if store.find(path)?.is_some() {
        return Err(match asked.method.as_str() {
            "MKCALENDAR" => Fault::forbidden("D:resource-must-be-null"),
            _ => Fault::new(StatusCode::METHOD_NOT_ALLOWED, "something is there"),
        });
    }
    let room = room(store, path)?;
    check(asked, None)?;
    if room.kind == Kind::Calendar {
        return Err(Fault::forbidden("C:calendar-collection-location-ok"));
    }
    // The method says it too, and some programs call it text.
    let is_xml = asked.method.as_str() == "MKCALENDAR"
        || ["application/xml", "text/xml"].contains(&asked.media_type.as_str());
    let body = match (asked.body.is_empty(), is_xml) {
        (true, _) => None,
        (false, true) => Some(read(asked)?),
        (false, false) => {
            return Err(Fault::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body is not XML",
            ));
        }
    };
    let changes = body.as_ref().map(properties::changes).unwrap_or_default();
    let is_calendar = asked.method.as_str() == "MKCALENDAR"
        || changes.iter().any(|change| {
            let kinds = change.sets(DAV, "resourcetype");
            kinds.is_some_and(|kinds| kinds.child(CALDAV, "calendar").is_some())
        });
    let new = New {
        kind: match is_calendar {
            true => Kind::Calendar,
            false => Kind::Collection,
        },
        content: b"",
        media_type: "",
        uid: None,
    };
    store.put(path, new)?;
    let done = properties::change(store, path, &changes, true)?;
    if done.iter().any(|(_, status)| *status != StatusCode::OK) {
        return Err(Fault::new(
            StatusCode::FORBIDDEN,
            "a property cannot be set",
        ));
    }
    Ok(Answer::new(StatusCode::CREATED).with(header::CACHE_CONTROL, "no-cache"))
}

fn propfind(store: &Store, asked: &Asked) -> Result<Answer, Fault> {
    let wanted = match asked.body.is_empty() {
        true => Wanted::All(Vec::new()),
        false => {
            let root = read(asked)?;
            let wanted = Some(&root).filter(|root| root.is(DAV, "propfind"));
            let wanted = wanted.and_then(Wanted::parse);
            wanted.ok_or_else(|| Fault::bad_request("the body is not a propfind"))?
        }
    };
    let node = find(store, &asked.path)?;
    if asked.depth == Depth::Infinity && node.kind.is_collection() {
        return Err(Fault::forbidden("D:propfind-finite-depth"));
    }
    let mut answers = Multistatus::default();
    answers.node(store, &node, &wanted, None)?;
    if asked.depth == Depth::One {
        for child in store.children(&node.path, 0)? {
            answers.node(store, &child, &wanted, None)?;
        }
    }
    Ok(Answer::multistatus(answers))
}

fn proppatch(store: &Store, asked: &Asked) -> Result<Answer, Fault> {
    let root = read(asked)?;
    if !root.is(DAV, "propertyupdate") {
        return Err(Fault::bad_request("the body is not a propertyupdate"));
    }
    let node = find(store, &asked.path)?;
    check(asked, Some(&node))?;
    let changes = properties::changes(&root);
    let done = properties::change(store, &node.path, &changes, false)?;
    let mut parts: Vec<(StatusCode, String)> = Vec::new();
    for (name, status) in done {
        let name = wrap(name, "");
        match parts.iter_mut().find(|(known, _)| *known == status) {
            Some((_, names)) => *names += &name,
            None => parts.push((status, name)),
        }
    }
    let mut answers = Multistatus::default();
    answers.parts(&node, parts)?;
    Ok(Answer::multistatus(answers))
}
