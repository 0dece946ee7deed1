//! Authentication (RFC 9110, 11).

use base64::{Engine, engine::general_purpose::STANDARD};

use super::super::{
    Error, HeaderValue, IntoResponse, Layer, Next, Request, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};

/// Asks for a user name and a password (RFC 7617), and admits a request if `check` accepts them.
/// Use it only over TLS or on the loopback interface, because the password is sent in plain text.
///
/// `realm` is shown by browsers. Characters that a header cannot contain are left out. Compare
/// secrets with [`same_secret`].
pub fn basic_auth(realm: &str, check: impl Fn(&str, &str) -> bool + 'static) -> impl Layer {
    let challenge = challenge(&format!(
        "Basic realm=\"{}\", charset=\"UTF-8\"",
        quoted(realm)
    ));
    move |request: Request, next: Next| {
        let known = credentials(&request, "basic").and_then(|text| {
            let text = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
            let (name, password) = text.split_once(':')?;
            Some(check(name, password))
        });
        admit(request, next, known.unwrap_or(false), challenge.clone())
    }
}

/// Admits a request if `check` accepts the token in its `Authorization: Bearer` header (RFC 6750).
/// Compare secrets with [`same_secret`].
pub fn bearer_auth(check: impl Fn(&str) -> bool + 'static) -> impl Layer {
    move |request: Request, next: Next| {
        let token = credentials(&request, "bearer");
        let known = token.is_some_and(&check);
        // A challenge has a parameter (RFC 6750, 3).
        let challenge = match token {
            Some(_) => "Bearer error=\"invalid_token\"",
            None => "Bearer realm=\"token\"",
        };
        admit(request, next, known, HeaderValue::from_static(challenge))
    }
}

/// Compares two secrets in a time that does not depend on where they differ.
pub fn same_secret(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let differing = one.iter().zip(other).fold(0, |differing, (a, b)| {
        differing | std::hint::black_box(a ^ b)
    });
    one.len() == other.len() && differing == 0
}

pub(super) fn credentials<'a>(request: &'a Request, scheme: &str) -> Option<&'a str> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (name, rest) = value.split_once(' ')?;
    name.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

fn quoted(text: &str) -> String {
    text.chars()
        .filter(|character| matches!(character, ' '..='~') && !matches!(character, '"' | '\\'))
        .collect()
}

fn challenge(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("Basic"))
}

fn admit(
    request: Request,
    next: Next,
    known: bool,
    challenge: HeaderValue,
) -> impl Future<Output = Response> + 'static {
    let answering = known.then(|| next.run(request));
    async move {
        match answering {
            Some(answering) => answering.await,
            None => {
                let mut response =
                    Error::new(StatusCode::UNAUTHORIZED, "who are you?").into_response();
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                response
            }
        }
    }
}
