//! The cookies of a request (RFC 6265, 5.4).

use super::super::{Request, header::COOKIE};

/// The values of the cookies with this name. Other cookies may have any bytes in them: a browser
/// sends all of them in one header, also those of other programs on this machine.
pub(super) fn values<'a>(request: &'a Request, name: &'a str) -> impl Iterator<Item = &'a str> {
    let all = request.headers().get_all(COOKIE).into_iter();
    all.flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .filter_map(move |pair| {
            let (found, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
            (found.trim() == name).then(|| value.trim())
        })
}
