//! REPORT: the events that match a filter, those with these paths, and what was changed since a
//! client was here last.

use entwined_http::StatusCode;

use crate::{
    dav::{Answer, Asked, Depth, find, read},
    fault::Fault,
    filter::Filter,
    icalendar,
    properties::{Multistatus, Wanted},
    site::{canonical, href},
    store::{Kind, Node, Store, parent},
    time::Local,
    xml::{self, CALDAV, DAV, Element},
};

pub fn answer(store: &Store, asked: &Asked) -> Result<Answer, Fault> {
    let root = read(asked)?;
    let node = find(store, &asked.path)?;
    let wanted = Wanted::parse(&root).unwrap_or(Wanted::These(Vec::new()));
    let name = (root.name.namespace.as_str(), root.name.local.as_str());
    let answers = match name {
        (CALDAV, "calendar-query") => query(store, &node, asked.depth, &root, &wanted)?,
        (CALDAV, "calendar-multiget") => multiget(store, &root, &wanted)?,
        (DAV, "sync-collection") => sync(store, &node, &root, &wanted)?,
        _ => return Err(Fault::forbidden("D:supported-report")),
    };
    Ok(Answer::multistatus(answers))
}

/// Everything in a collection, and in calendars in it if `depth` says so, that matches a filter.
fn query(
    store: &Store,
    node: &Node,
    depth: Depth,
    root: &Element,
    wanted: &Wanted,
) -> Result<Multistatus, Fault> {
    let filter = root.child(CALDAV, "filter");
    let filter = Filter::parse(filter.ok_or(Fault::forbidden("C:valid-filter"))?)?;
    let asked = root.child(CALDAV, "timezone");
    let asked = asked.and_then(|zone| Local::parse(&zone.text()));
    let local = |calendar: &str| match asked {
        Some(local) => Ok::<_, Fault>(local),
        None => Ok(zone(store, calendar)?.unwrap_or(Local::UTC)),
    };
    let mut answers = Multistatus::default();
    let mut collections = vec![(node.clone(), depth, local(parent(&node.path))?)];
    while let Some((node, depth, outer)) = collections.pop() {
        if !node.kind.is_collection() {
            let content = store.content(&node.path)?;
            let calendar = icalendar::parse(&content);
            if calendar.is_some_and(|calendar| filter.matches(&calendar, outer)) {
                answers.node(store, &node, wanted, Some(&content))?;
            }
            continue;
        }
        let deeper = match depth {
            Depth::Zero => continue,
            Depth::One => Depth::Zero,
            Depth::Infinity => Depth::Infinity,
        };
        let is_calendar = node.kind == Kind::Calendar;
        let local = local(&node.path)?;
        let inner = store.children(&node.path, 0)?.into_iter().rev();
        // Files outside of calendars are no events.
        let inner = inner.filter(|inner| is_calendar || inner.kind.is_collection());
        collections.extend(inner.map(|inner| (inner, deeper, local)));
    }
    Ok(answers)
}

/// The zone of a calendar (RFC 4791, 5.2.2).
fn zone(store: &Store, calendar: &str) -> Result<Option<Local>, Fault> {
    let stored = store.property(calendar, CALDAV, "calendar-timezone")?;
    let stored = stored.and_then(|value| xml::parse(value.as_bytes()).ok());
    Ok(stored.and_then(|element| Local::parse(&element.text())))
}

/// What is at the paths that a client names.
fn multiget(store: &Store, root: &Element, wanted: &Wanted) -> Result<Multistatus, Fault> {
    let mut answers = Multistatus::default();
    for element in root.all(DAV, "href") {
        let text = element.text();
        let node = match canonical(&text) {
            Some(path) => store.find(&path)?,
            None => None,
        };
        match node.filter(|node| !node.kind.is_collection()) {
            Some(node) => {
                let content = store.content(&node.path)?;
                answers.node(store, &node, wanted, Some(&content))?;
            }
            None => answers.status(&text, StatusCode::NOT_FOUND, ""),
        }
    }
    Ok(answers)
}

/// What was changed in a collection since a token was given (RFC 6578).
fn sync(store: &Store, node: &Node, root: &Element, wanted: &Wanted) -> Result<Multistatus, Fault> {
    if !node.kind.is_collection() {
        return Err(Fault::forbidden("D:supported-report"));
    }
    let token = root.child(DAV, "sync-token").map(Element::text);
    let token = token.unwrap_or_default();
    let since = match token.is_empty() {
        true => None,
        false => Some(
            store
                .read_token(&token)?
                .ok_or(Fault::forbidden("D:valid-sync-token"))?,
        ),
    };
    // Who comes for the first time, perhaps in parts, knows nothing of what is gone by now.
    let (since, begun) = match since {
        Some(since) => since,
        None => (0, store.newest()?),
    };
    let limit = root.child(DAV, "limit");
    let limit = limit.and_then(|limit| limit.child(DAV, "nresults")?.text().parse().ok());
    let limit = limit.unwrap_or(usize::MAX).max(1);

    let here = store.children(&node.path, since)?;
    let gone = store.gone(&node.path, since.max(begun))?;
    let mut changes: Vec<_> = here
        .into_iter()
        .map(|node| (node.version, Ok(node)))
        .chain(gone.into_iter().map(|(path, version)| (version, Err(path))))
        .collect();
    changes.sort_by_key(|(version, _)| *version);
    // All that one request has changed has one version, and is not torn apart.
    let last = changes.get(limit - 1).map(|(version, _)| *version);
    let cut = last.filter(|last| changes.last().is_some_and(|(version, _)| version > last));

    let mut answers = Multistatus::default();
    for (version, change) in changes {
        if cut.is_some_and(|cut| version > cut) {
            break;
        }
        match change {
            Ok(node) => {
                let content = match node.kind {
                    Kind::File => Some(store.content(&node.path)?),
                    _ => None,
                };
                answers.node(store, &node, wanted, content.as_deref())?;
            }
            Err(path) => answers.status(&href(&path), StatusCode::NOT_FOUND, ""),
        }
    }
    match cut {
        Some(version) => {
            let more = "<D:error><D:number-of-matches-within-limits/></D:error>";
            let path = format!("{}/", href(&node.path));
            answers.status(&path, StatusCode::INSUFFICIENT_STORAGE, more);
            answers.token(&store.token_at(version, begun)?);
        }
        None => answers.token(&store.token(&node.path)?),
    }
    Ok(answers)
}
