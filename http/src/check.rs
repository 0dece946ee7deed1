//! Rejects requests that hyper accepts and the RFCs forbid.

use hyper::body::Incoming;

use super::{
    Error, IntoResponse, Method, Response, StatusCode, Uri,
    header::{CONNECTION, HOST, HeaderValue, TRANSFER_ENCODING},
};

/// Returns the error response for such a request. The connection ends with it.
pub(super) fn check(request: &::http::Request<Incoming>) -> Option<Response> {
    let error = match request.version() <= ::http::Version::HTTP_11 {
        true => headers(request).and_then(|()| target(request.method(), request.uri())),
        // For HTTP/2, the library checks these rules.
        false => Ok(()),
    };
    let mut response = error.err()?.into_response();
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    Some(response)
}

/// Checks the `Host` and `Transfer-Encoding` headers. One pass over all headers is cheaper than two
/// lookups by name.
fn headers(request: &::http::Request<Incoming>) -> Result<(), Error> {
    let (mut hosts, mut codings) = (0, 0);
    for (name, value) in request.headers() {
        if *name == HOST {
            hosts += 1;
            if !is_host(value.as_bytes()) {
                return Err(Error::bad_request("the Host header is not a valid host"));
            }
        } else if *name == TRANSFER_ENCODING {
            codings += 1;
            coding(value)?;
        }
    }
    // Exactly one `Host` is required: RFC 9112, 3.2.
    let named = request.version() == ::http::Version::HTTP_11;
    if hosts > 1 || (hosts == 0 && named) {
        return Err(Error::bad_request(
            "a request needs exactly one Host header",
        ));
    }
    if codings > 1 {
        return Err(Error::bad_request(
            "there is more than one Transfer-Encoding header",
        ));
    }
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

/// Whether this is a host with an optional port, as in RFC 3986, 3.2.2. The host may be empty.
fn is_host(text: &[u8]) -> bool {
    let is_name = |byte: &u8| NAME[usize::from(*byte)];
    let is_port = |rest: &[u8]| match rest {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if let [b'[', rest @ ..] = text {
        let Some(end) = rest.iter().position(|&byte| byte == b']') else {
            return false;
        };
        return end > 0
            && rest[..end]
                .iter()
                .all(|byte| is_name(byte) || *byte == b':')
            && is_port(&rest[end + 1..]);
    }
    let end = text
        .iter()
        .position(|&byte| byte == b':')
        .unwrap_or(text.len());
    text[..end].iter().all(is_name) && is_port(&text[end..])
}

/// The bytes that a name may contain: unreserved, percent-encoded, sub-delims.
const NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~%!$&'()*+,;=";
    let mut place = 0;
    while place < others.len() {
        table[others[place] as usize] = true;
        place += 1;
    }
    table
};

/// Each form of the request target belongs to certain methods: RFC 9112, 3.2.
fn target(method: &Method, uri: &Uri) -> Result<(), Error> {
    let authority = uri.authority();
    if authority.is_some_and(|authority| authority.as_str().contains('@')) {
        // RFC 9110, 4.2.4.
        return Err(Error::bad_request(
            "the request target must not contain user information",
        ));
    }
    let connects = *method == Method::CONNECT;
    if connects != (authority.is_some() && uri.scheme().is_none()) {
        return Err(Error::bad_request(
            "CONNECT needs host:port as its target; other methods must not use that form",
        ));
    }
    if connects && authority.is_some_and(|authority| authority.port().is_none()) {
        return Err(Error::bad_request("the target of CONNECT needs a port"));
    }
    if uri.path() == "*" && *method != Method::OPTIONS {
        return Err(Error::bad_request("only OPTIONS may use * as its target"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_host;

    #[test]
    fn hosts_are_told_from_what_is_none() {
        for host in [
            "",
            "a",
            "a.b-c_d",
            "127.0.0.1:80",
            "a:",
            "[::1]",
            "[::1]:8080",
            "[v1.a:b]",
            "%41",
            "a,b",
        ] {
            assert!(is_host(host.as_bytes()), "{host:?}");
        }
        for text in [
            "a b", "a/b", "u@a", "a:b", "a:1:2", "::1", "[::1", "[]", "[a/b]", "[::1]a", "a?b",
            "a#b", "ü", "\t",
        ] {
            assert!(!is_host(text.as_bytes()), "{text:?}");
        }
    }
}
