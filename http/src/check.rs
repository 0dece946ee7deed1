//! Rejects requests that hyper accepts and the RFCs forbid, and gives the others one form.

use std::borrow::Cow;

use hyper::body::Incoming;

use super::{
    Error, IntoResponse, Method, Response, StatusCode, Uri, authority,
    header::{
        ACCEPT, AUTHORIZATION, CONNECTION, COOKIE, HOST, HeaderValue, PROXY_AUTHORIZATION,
        TRANSFER_ENCODING,
    },
    path,
};

/// What [`check`] has found out about a request.
pub(super) struct Checked {
    /// All values of its `Accept` headers.
    pub(super) accept: Option<HeaderValue>,
    /// The error response for it, if it is wrong. Over HTTP/1, the connection ends with it, unless
    /// only the path is wrong.
    pub(super) refusal: Option<Response>,
}

/// Checks a request. If it is not refused, it has its canonical form afterwards: its
/// [path](super::path), its [host](super::authority), and the secrets in its headers marked as
/// such.
pub(super) fn check(request: &mut ::http::Request<Incoming>, max_headers: usize) -> Checked {
    let mut accept = None;
    let refusal = refusal(request, max_headers, &mut accept);
    Checked { accept, refusal }
}

fn refusal(
    request: &mut ::http::Request<Incoming>,
    max_headers: usize,
    accept: &mut Option<HeaderValue>,
) -> Option<Response> {
    let two = request.version() > ::http::Version::HTTP_11;
    let checked = headers(request, max_headers, accept)
        .and_then(|hosts| authority(request, hosts))
        .and_then(|()| target(request, two));
    let ends = checked.is_err() && !two;
    let mut response = checked.and_then(|()| path(request)).err()?.into_response();
    if ends {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Some(response)
}

/// The `Host` headers of a request.
#[derive(Default)]
struct Hosts {
    number: usize,
    /// Whether the last one is in canonical form, as usual.
    usual: bool,
}

/// Checks the headers. One pass over all of them is cheaper than several lookups by name.
fn headers(
    request: &mut ::http::Request<Incoming>,
    max_headers: usize,
    accept: &mut Option<HeaderValue>,
) -> Result<Hosts, Error> {
    let (mut hosts, mut codings, mut cookies) = (Hosts::default(), 0, 0);
    let mut coded = Ok(());
    // Hyper counts those of HTTP/1 while it reads them.
    if request.headers().len() > max_headers {
        return Err(Error::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "the request has too many headers",
        ));
    }
    for (name, value) in request.headers_mut() {
        if *name == HOST {
            hosts.number += 1;
            hosts.usual = authority::is_usual(value.as_bytes());
        } else if *name == TRANSFER_ENCODING {
            codings += 1;
            coded = coded.and_then(|()| coding(value));
        } else if *name == ACCEPT {
            *accept = Some(match accept.take() {
                Some(before) => joined(&before, value),
                None => value.clone(),
            });
        } else if matches!(*name, AUTHORIZATION | COOKIE | PROXY_AUTHORIZATION) {
            // `Debug` does not show it.
            value.set_sensitive(true);
            cookies += u32::from(*name == COOKIE);
        }
    }
    if cookies > 1 {
        join_cookies(request);
    }
    coded?;
    if codings > 1 {
        return Err(Error::bad_request(
            "there is more than one Transfer-Encoding header",
        ));
    }
    Ok(hosts)
}

/// HTTP/2 splits them for its compression. For everything behind it they are one header (RFC 9113,
/// 8.2.3).
fn join_cookies(request: &mut ::http::Request<Incoming>) {
    let all = request.headers().get_all(COOKIE).iter();
    let all: Vec<_> = all.map(HeaderValue::as_bytes).collect();
    if let Ok(mut one) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        one.set_sensitive(true);
        request.headers_mut().insert(COOKIE, one);
    }
}

/// Several headers of one name are a list (RFC 9110, 5.3).
fn joined(before: &HeaderValue, value: &HeaderValue) -> HeaderValue {
    let all = [before.as_bytes(), b", ", value.as_bytes()].concat();
    HeaderValue::from_bytes(&all).expect("the comma and the space may be in a value")
}

/// Checks the host that the request is for, and gives it its canonical form, in the target as well
/// as in the `Host` header.
fn authority(request: &mut ::http::Request<Incoming>, hosts: Hosts) -> Result<(), Error> {
    if hosts.number == 1 && hosts.usual && request.uri().authority().is_none() {
        return Ok(());
    }
    let version = request.version();
    let two = version > ::http::Version::HTTP_11;
    // HTTP/1.1 requires exactly one (RFC 9112, 3.2); of HTTP/2, see below.
    if hosts.number > 1 || (hosts.number == 0 && version == ::http::Version::HTTP_11) {
        return Err(Error::bad_request(
            "a request needs exactly one Host header",
        ));
    }
    let host = match request.headers().get(HOST) {
        Some(value) => {
            let form = value.to_str().ok().and_then(authority::canonical);
            let wrong = || Error::bad_request("the Host header is not a valid host");
            let form = form.ok_or_else(wrong)?;
            let changed = form.as_bytes() != value.as_bytes();
            Some((form.into_owned(), changed))
        }
        None => None,
    };
    let target = match request.uri().authority() {
        Some(ours) => {
            // User information is refused as well: RFC 9110, 4.2.4.
            let wrong = || Error::bad_request("the target of the request is not a valid host");
            let form = authority::canonical(ours.as_str()).ok_or_else(wrong)?;
            let changed = form != ours.as_str();
            Some((form.into_owned(), changed))
        }
        None => None,
    };
    match (&target, &host) {
        // RFC 9113, 8.3.1: such a request is malformed.
        (Some((target, _)), Some((host, _))) if two => {
            let scheme = request.uri().scheme_str().unwrap_or("http");
            if !authority::same(scheme, target, host) {
                return Err(Error::bad_request("Host and :authority are not the same"));
            }
        }
        (None, None) if two => return Err(Error::bad_request("the request names no host")),
        _ => {}
    }
    if let Some((target, true)) = &target {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.authority = target.parse().ok();
        *request.uri_mut() = Uri::from_parts(parts).map_err(malformed)?;
    }
    // The target wins: RFC 9112, 3.2.2.
    let told = match (target, host) {
        (Some((target, _)), Some((host, changed))) if changed || host != target => Some(target),
        (None, Some((host, true))) => Some(host),
        _ => None,
    };
    if let Some(told) = told {
        let told = HeaderValue::try_from(told).map_err(malformed)?;
        request.headers_mut().insert(HOST, told);
    }
    Ok(())
}

fn malformed(_: impl std::error::Error) -> Error {
    Error::bad_request("the target of the request is malformed")
}

const WRONG_PATH: &str =
    "the path is not valid percent-encoded UTF-8, or a name in it has a slash, \\ or NUL";

/// Gives the path its canonical form. `*` and the target of CONNECT are not paths.
fn path(request: &mut ::http::Request<Incoming>) -> Result<(), Error> {
    let uri = request.uri();
    if uri.path() == "*" || (uri.path().is_empty() && *request.method() == Method::CONNECT) {
        return Ok(());
    }
    let wrong = || Error::bad_request(WRONG_PATH);
    let Cow::Owned(mut path) = path::canonical(uri.path()).ok_or_else(wrong)? else {
        return Ok(());
    };
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.path_and_query = Some(path.parse().map_err(malformed)?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(malformed)?;
    Ok(())
}

/// `chunked` is the only transfer coding allowed, and only once: RFC 9112, 6.1. A coding that the
/// server does not know is 501.
fn coding(value: &HeaderValue) -> Result<(), Error> {
    match value.as_bytes().eq_ignore_ascii_case(b"chunked") {
        true => Ok(()),
        false => Err(Error::new(
            StatusCode::NOT_IMPLEMENTED,
            "the only supported transfer coding is chunked",
        )),
    }
}

/// Each form of the request target belongs to certain methods: RFC 9112, 3.2.
fn target(request: &::http::Request<Incoming>, two: bool) -> Result<(), Error> {
    let (method, uri) = (request.method(), request.uri());
    let authority = uri.authority();
    let connects = *method == Method::CONNECT;
    if !two && connects != (authority.is_some() && uri.scheme().is_none()) {
        return Err(Error::bad_request(
            "CONNECT needs host:port as its target; other methods must not use that form",
        ));
    }
    // The extended form (RFC 8441) has a scheme and a path.
    let plain = connects && uri.scheme().is_none();
    if plain && authority.is_none_or(|authority| authority.port().is_none()) {
        return Err(Error::bad_request("the target of CONNECT needs a port"));
    }
    if uri.path() == "*" && *method != Method::OPTIONS {
        return Err(Error::bad_request("only OPTIONS may use * as its target"));
    }
    Ok(())
}
