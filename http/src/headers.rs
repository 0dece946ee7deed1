//! Headers that handlers return together with something else.

use super::{
    HeaderMap, HeaderName, HeaderValue, IntoResponse, Response, StatusCode, header::CONTENT_LENGTH,
};

/// The value of `Content-Length`, if there is one that is a number (RFC 9110, 8.6).
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    let mut all = headers.get_all(CONTENT_LENGTH).iter();
    let digits = all.next()?.to_str().ok()?;
    // `parse` takes a sign.
    let fine = all.next().is_none() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| fine)
}

/// Headers that a handler returns together with something else: a [`HeaderMap`], or an array or
/// vector of names and values. They replace headers of the same name; a name that is given twice is
/// sent twice.
pub trait IntoHeaders {
    /// Sets the headers in `headers`.
    ///
    /// # Errors
    /// If a name or a value is not valid in a header. Then the response is 500, and the log says
    /// why.
    fn into_headers(self, headers: &mut HeaderMap) -> Result<(), ::http::Error>;
}

impl IntoHeaders for HeaderMap {
    fn into_headers(self, headers: &mut HeaderMap) -> Result<(), ::http::Error> {
        headers.extend(self);
        Ok(())
    }
}

impl<K, V, const N: usize> IntoHeaders for [(K, V); N]
where
    K: TryInto<HeaderName>,
    K::Error: Into<::http::Error>,
    V: TryInto<HeaderValue>,
    V::Error: Into<::http::Error>,
{
    fn into_headers(self, headers: &mut HeaderMap) -> Result<(), ::http::Error> {
        set(self, headers)
    }
}

impl<K, V> IntoHeaders for Vec<(K, V)>
where
    K: TryInto<HeaderName>,
    K::Error: Into<::http::Error>,
    V: TryInto<HeaderValue>,
    V::Error: Into<::http::Error>,
{
    fn into_headers(self, headers: &mut HeaderMap) -> Result<(), ::http::Error> {
        set(self, headers)
    }
}

/// Makes a map of all pairs first: extending with a map keeps several values of one name and
/// replaces what was there.
fn set<K, V>(
    pairs: impl IntoIterator<Item = (K, V)>,
    headers: &mut HeaderMap,
) -> Result<(), ::http::Error>
where
    K: TryInto<HeaderName>,
    K::Error: Into<::http::Error>,
    V: TryInto<HeaderValue>,
    V::Error: Into<::http::Error>,
{
    let mut all = HeaderMap::new();
    for (name, value) in pairs {
        let name = name.try_into().map_err(Into::into)?;
        all.append(name, value.try_into().map_err(Into::into)?);
    }
    all.into_headers(headers)
}

impl<H: IntoHeaders, R: IntoResponse> IntoResponse for (H, R) {
    fn into_response(self) -> Response {
        let (headers, rest) = self;
        let mut response = rest.into_response();
        match headers.into_headers(response.headers_mut()) {
            Ok(()) => response,
            Err(error) => error.into_response(),
        }
    }
}

impl<H: IntoHeaders, R: IntoResponse> IntoResponse for (StatusCode, H, R) {
    fn into_response(self) -> Response {
        let (status, headers, rest) = self;
        let mut response = rest.into_response();
        match headers.into_headers(response.headers_mut()) {
            Ok(()) => (status, response).into_response(),
            Err(error) => error.into_response(),
        }
    }
}
