//! Properties: those that follow from what is stored, and those that clients set.

use chrono::{DateTime, SecondsFormat};
use entwined_http::StatusCode;
use entwined_rusqlite::rusqlite::Result;

use crate::{
    fault::Fault,
    icalendar,
    site::{MAX_BODY, href},
    store::{Kind, Node, ROOT, Store},
    xml::{APPLE, CALDAV, DAV, Element, Name, escaped, parse, wrap},
};

/// The most that a client may set on one thing.
const MAX_PROPERTIES: u32 = 100;
/// The longest value, in bytes.
const MAX_VALUE: usize = 64 * 1024;
/// An answer may have this many bytes; who wants more asks for less at a time.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// What `allprop` means (RFC 4918, 9.1). Those of calendars must be asked for.
const ALL: [&str; 7] = [
    "resourcetype",
    "displayname",
    "creationdate",
    "getlastmodified",
    "getetag",
    "getcontenttype",
    "getcontentlength",
];

/// Properties that the server sets, by namespace.
const LIVE: [(&str, &[&str]); 3] = [
    (
        DAV,
        &[
            "resourcetype",
            "creationdate",
            "getlastmodified",
            "getetag",
            "getcontenttype",
            "getcontentlength",
            "current-user-principal",
            "principal-URL",
            "owner",
            "current-user-privilege-set",
            "supported-report-set",
            "sync-token",
            "lockdiscovery",
            "supportedlock",
        ],
    ),
    (
        CALDAV,
        &[
            "calendar-home-set",
            "supported-calendar-component-set",
            "supported-calendar-data",
            "supported-collation-set",
            "max-resource-size",
            "calendar-data",
        ],
    ),
    (APPLE, &["getctag"]),
];

fn is_live(name: &Name) -> bool {
    LIVE.iter()
        .any(|(namespace, names)| name.namespace == *namespace && names.contains(&&*name.local))
}

/// Which properties a client wants.
pub enum Wanted {
    All(Vec<Name>),
    Names,
    These(Vec<Name>),
}

impl Wanted {
    /// Reads the inside of a `propfind` or a report.
    pub fn parse(root: &Element) -> Option<Wanted> {
        let names =
            |element: &Element| element.elements().map(|inner| inner.name.clone()).collect();
        if let Some(prop) = root.child(DAV, "prop") {
            return Some(Wanted::These(names(prop)));
        }
        if root.child(DAV, "propname").is_some() {
            return Some(Wanted::Names);
        }
        root.child(DAV, "allprop")?;
        let more = root.child(DAV, "include").map(names);
        Some(Wanted::All(more.unwrap_or_default()))
    }
}

/// The value of a property that follows from what is stored, as XML.
fn live(store: &Store, node: &Node, name: &Name) -> Result<Option<String>> {
    let is_calendar = node.kind == Kind::Calendar;
    let is_collection = node.kind.is_collection();
    let root = || format!("<D:href>{}/</D:href>", escaped(&href(ROOT)));
    let value = match (name.namespace.as_str(), name.local.as_str()) {
        (DAV, "resourcetype") => match node.kind {
            Kind::File => String::new(),
            Kind::Calendar => "<D:collection/><C:calendar/>".into(),
            Kind::Collection if node.path == ROOT => "<D:collection/><D:principal/>".into(),
            Kind::Collection => "<D:collection/>".into(),
        },
        (DAV, "creationdate") => DateTime::from_timestamp(node.created, 0)
            .map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
            .unwrap_or_default(),
        (DAV, "getlastmodified") => httpdate::fmt_http_date(node.modified()),
        (DAV, "getetag") => escaped(&format!("\"{}\"", node.version)),
        (DAV, "getcontenttype") if !is_collection => escaped(&node.media_type),
        (DAV, "getcontentlength") if !is_collection => node.length.to_string(),
        (DAV, "displayname") if is_collection => {
            let last = node.path.rsplit('/').next().unwrap_or_default();
            escaped(last)
        }
        (DAV, "current-user-principal" | "principal-URL" | "owner") => root(),
        (CALDAV, "calendar-home-set") if node.path == ROOT => root(),
        (DAV, "current-user-privilege-set") => ["D:all", "D:read", "D:write", "C:read-free-busy"]
            .map(|name| format!("<D:privilege><{name}/></D:privilege>"))
            .concat(),
        (DAV, "supported-report-set") if is_collection => {
            let reports = [
                "C:calendar-query",
                "C:calendar-multiget",
                "D:sync-collection",
            ];
            let report = |name| {
                format!("<D:supported-report><D:report><{name}/></D:report></D:supported-report>")
            };
            reports.map(report).concat()
        }
        (DAV, "sync-token") if is_collection => escaped(&store.token(&node.path)?),
        (APPLE, "getctag") if is_collection => escaped(&store.token(&node.path)?),
        // Nothing can be locked.
        (DAV, "lockdiscovery" | "supportedlock") => String::new(),
        (CALDAV, "supported-calendar-component-set") if is_calendar => kinds(store, &node.path)?
            .iter()
            .map(|name| format!("<C:comp name=\"{}\"/>", escaped(name)))
            .collect(),
        (CALDAV, "supported-calendar-data") if is_calendar => {
            "<C:calendar-data content-type=\"text/calendar\" version=\"2.0\"/>".into()
        }
        (CALDAV, "supported-collation-set") if is_calendar => ["i;ascii-casemap", "i;octet"]
            .map(|name| format!("<C:supported-collation>{name}</C:supported-collation>"))
            .concat(),
        (CALDAV, "max-resource-size") if is_calendar => MAX_BODY.to_string(),
        _ => return Ok(None),
    };
    Ok(Some(value))
}

const KINDS: (&str, &str) = (CALDAV, "supported-calendar-component-set");

/// The kinds of components that a calendar takes.
pub fn kinds(store: &Store, path: &str) -> Result<Vec<String>> {
    let stored = store.property(path, KINDS.0, KINDS.1)?;
    let stored = stored.and_then(|value| parse(value.as_bytes()).ok());
    Ok(match stored {
        Some(element) => element
            .all(CALDAV, "comp")
            .filter_map(|comp| comp.attribute("name"))
            .map(str::to_ascii_uppercase)
            .collect(),
        None => icalendar::KINDS.map(str::to_owned).to_vec(),
    })
}

/// A list of answers, one for each thing (RFC 4918, 13).
#[derive(Default)]
pub struct Multistatus(String);

impl Multistatus {
    /// Adds what a client wants to know of a node. `data` is its content, if this may be asked for.
    pub fn node(
        &mut self,
        store: &Store,
        node: &Node,
        wanted: &Wanted,
        data: Option<&[u8]>,
    ) -> std::result::Result<(), Fault> {
        let (mut found, mut missing) = (String::new(), String::new());
        match wanted {
            Wanted::These(names) => {
                for name in names {
                    match value(store, node, name, data)? {
                        Some(value) => found += &value,
                        None => missing += &wrap(name, ""),
                    }
                    self.check(found.len())?;
                }
            }
            Wanted::All(more) => {
                let all = ALL.map(|name| Name::new(DAV, name));
                for name in all.iter().chain(more) {
                    found += &value(store, node, name, data)?.unwrap_or_default();
                    self.check(found.len())?;
                }
                for (namespace, name, value) in store.properties(&node.path)? {
                    let name = Name::new(&namespace, &name);
                    if !all.contains(&name) && !more.contains(&name) && !is_live(&name) {
                        found += &value;
                    }
                }
            }
            Wanted::Names => {
                for (namespace, names) in LIVE {
                    for name in names.iter().map(|name| Name::new(namespace, name)) {
                        if live(store, node, &name)?.is_some() {
                            found += &wrap(&name, "");
                        }
                    }
                }
                for (namespace, name, _) in store.properties(&node.path)? {
                    let name = Name::new(&namespace, &name);
                    if !is_live(&name) {
                        found += &wrap(&name, "");
                    }
                }
            }
        }
        let parts = [(StatusCode::OK, found), (StatusCode::NOT_FOUND, missing)];
        self.parts(node, parts)
    }

    /// Adds properties by how they fared.
    pub fn parts(
        &mut self,
        node: &Node,
        parts: impl IntoIterator<Item = (StatusCode, String)>,
    ) -> std::result::Result<(), Fault> {
        let mut parts: Vec<_> = parts.into_iter().collect();
        // There is one even if it has nothing in it.
        let is_empty = parts.iter().all(|(_, properties)| properties.is_empty());
        parts.retain(|(status, properties)| {
            !properties.is_empty() || is_empty && *status == StatusCode::OK
        });
        self.0 += &format!("\n<D:response><D:href>{}</D:href>", node_href(node));
        for (status, properties) in parts {
            self.0 += &format!(
                "<D:propstat><D:prop>{properties}</D:prop><D:status>HTTP/1.1 {status}</D:status>\
                 </D:propstat>"
            );
        }
        self.0 += "</D:response>";
        self.check(0)
    }

    /// Checks that so many more bytes are not too many. A client may ask for one thing many times.
    fn check(&self, more: usize) -> std::result::Result<(), Fault> {
        match self.0.len() + more > MAX_ANSWER {
            true => Err(Fault::Rule(
                StatusCode::INSUFFICIENT_STORAGE,
                "D:number-of-matches-within-limits",
            )),
            false => Ok(()),
        }
    }

    /// Adds a path that has no properties, but this status. `more` is XML.
    pub fn status(&mut self, href: &str, status: StatusCode, more: &str) {
        self.0 += &format!(
            "\n<D:response><D:href>{}</D:href><D:status>HTTP/1.1 {status}</D:status>{more}\
             </D:response>",
            escaped(href)
        );
    }

    /// Adds the token of a collection's state.
    pub fn token(&mut self, token: &str) {
        self.0 += &format!("\n<D:sync-token>{}</D:sync-token>", escaped(token));
    }

    pub fn content(self) -> String {
        self.0
    }
}

fn node_href(node: &Node) -> String {
    let slash = if node.kind.is_collection() { "/" } else { "" };
    escaped(&format!("{}{slash}", href(&node.path)))
}

/// A property with its value, as XML.
fn value(store: &Store, node: &Node, name: &Name, data: Option<&[u8]>) -> Result<Option<String>> {
    if let (Some(data), true) = (data, name.is(CALDAV, "calendar-data")) {
        let text = icalendar::text(data);
        return Ok(Some(wrap(name, &escaped(&text))));
    }
    if !is_live(name)
        && let Some(value) = store.property(&node.path, &name.namespace, &name.local)?
    {
        return Ok(Some(value));
    }
    Ok(live(store, node, name)?.map(|value| wrap(name, &value)))
}

/// One change that a client asks for: to set a property, or to remove it.
pub struct Change<'a> {
    element: &'a Element,
    remove: bool,
}

/// Reads the changes in a `propertyupdate`, a `mkcalendar` or a `mkcol`.
pub fn changes(root: &Element) -> Vec<Change<'_>> {
    let mut changes = Vec::new();
    for update in root.elements() {
        let remove = update.is(DAV, "remove");
        if remove || update.is(DAV, "set") {
            let properties = update.all(DAV, "prop").flat_map(Element::elements);
            changes.extend(properties.map(|element| Change { element, remove }));
        }
    }
    changes
}

impl Change<'_> {
    pub fn name(&self) -> &Name {
        &self.element.name
    }

    /// The value, if this sets the property.
    pub fn sets(&self, namespace: &str, local: &str) -> Option<&Element> {
        let sets = !self.remove && self.name().is(namespace, local);
        sets.then_some(self.element)
    }

    /// The status of this change if it must not be made. `new`: the calendar is being made.
    fn refusal(&self, new: bool) -> Option<StatusCode> {
        let name = self.name();
        let is_text = name.is(CALDAV, "calendar-timezone");
        if name.is(KINDS.0, KINDS.1) && new {
            let known = |comp: &Element| {
                let name = comp.attribute("name").unwrap_or_default();
                icalendar::KINDS.contains(&name.to_ascii_uppercase().as_str())
            };
            let fine = self.element.all(CALDAV, "comp").all(known);
            return (!fine).then_some(StatusCode::FORBIDDEN);
        }
        if is_live(name) && !(new && name.is(DAV, "resourcetype")) {
            return Some(StatusCode::FORBIDDEN);
        }
        if is_text && !self.remove && icalendar::parse(self.element.text().as_bytes()).is_none() {
            return Some(StatusCode::CONFLICT);
        }
        None
    }
}

/// Makes all changes, or none. Returns how each fared.
pub fn change<'a>(
    store: &Store,
    path: &str,
    changes: &'a [Change<'a>],
    new: bool,
) -> std::result::Result<Vec<(&'a Name, StatusCode)>, Fault> {
    let refusals: Vec<_> = changes.iter().map(|change| change.refusal(new)).collect();
    let refused = refusals.iter().any(Option::is_some);
    let fine = match refused {
        true => StatusCode::FAILED_DEPENDENCY,
        false => StatusCode::OK,
    };
    if !refused {
        for change in changes {
            let name = change.name();
            if name.is(DAV, "resourcetype") {
                continue;
            }
            let value = (!change.remove).then(|| change.element.to_text());
            if value.as_ref().is_some_and(|value| value.len() > MAX_VALUE) {
                return Err(Fault::new(
                    StatusCode::INSUFFICIENT_STORAGE,
                    "a property is too long",
                ));
            }
            store.set_property(path, (&name.namespace, &name.local), value.as_deref())?;
        }
        if store.property_count(path)? > MAX_PROPERTIES {
            return Err(Fault::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "there are too many properties",
            ));
        }
    }
    let statuses = refusals.into_iter().map(|refusal| refusal.unwrap_or(fine));
    Ok(changes.iter().map(Change::name).zip(statuses).collect())
}
