//! Which page a request comes from: the header `Origin` (RFC 6454; the Fetch standard, 3.2).

use super::{Request, authority, header::ORIGIN};

/// What the origin of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// No page, or one that need not say so: the header is not there.
    Unnamed,
    /// A page of this server: of the host and port that the request is for, and with TLS if the
    /// request has it.
    Here,
    /// A page of one of the origins that the program allows.
    Allowed,
    /// Another page, or one that does not say which (`null`).
    Elsewhere,
}

/// Looks where a request comes from. `*` among the allowed origins allows all.
pub(super) fn of(request: &Request, allowed: &[String]) -> From {
    let mut origins = request.headers().get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return From::Unnamed;
    };
    let (Ok(origin), None) = (origin.to_str(), origins.next()) else {
        return From::Elsewhere;
    };
    let here = request.authority().is_some_and(|ours| {
        let (scheme, authority) = split(origin);
        // A page that came without TLS may be anybody's on the way. A proxy may have the TLS.
        let fits = scheme == "https" || (scheme == "http" && !request.is_secure());
        fits && is_same(&scheme, ours, authority)
    });
    if here {
        From::Here
    } else if allowed.iter().any(|allowed| matches(allowed, origin)) {
        From::Allowed
    } else {
        From::Elsewhere
    }
}

/// Whether an origin is the allowed one, however that is written.
pub(super) fn matches(allowed: &str, origin: &str) -> bool {
    let ((one, ours), (other, theirs)) = (split(allowed), split(origin));
    allowed == "*" || allowed == origin || (one == other && is_same(&one, ours, theirs))
}

/// The scheme in lower case, and the host with its port.
fn split(origin: &str) -> (String, &str) {
    let (scheme, authority) = origin.split_once("://").unwrap_or(("", ""));
    (scheme.to_ascii_lowercase(), authority.trim_end_matches('/'))
}

/// The port counts: another server on the same machine is another origin.
fn is_same(scheme: &str, one: &str, other: &str) -> bool {
    match (authority::canonical(one), authority::canonical(other)) {
        (Some(one), Some(other)) => {
            !one.is_empty() && !scheme.is_empty() && authority::same(scheme, &one, &other)
        }
        _ => false,
    }
}
