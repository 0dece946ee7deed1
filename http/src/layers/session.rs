//! Sessions: data about a visitor, kept in a signed cookie.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    rc::Rc,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use cookie::{Cookie, CookieJar, Key, SameSite};
use serde::{Serialize, de::DeserializeOwned};

use super::super::{
    Error, HeaderValue, IntoResponse, Layer, Next, Request, Response, ResponseFuture,
    header::{SET_COOKIE, VARY},
};
use super::cookies;

/// The key that signs sessions. Anyone who knows it can forge them. Store the key if sessions must
/// survive a restart of the program.
#[derive(Clone)]
pub struct SessionKey(Key);

impl SessionKey {
    /// Generates a new key.
    pub fn generate() -> Self {
        SessionKey(Key::from(&super::random::random::<64>()))
    }

    /// Restores a stored key. Returns `None` if there are fewer than 64 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Key::try_from(bytes).ok().map(SessionKey)
    }

    /// The bytes of the key. Store them where nobody else can read them.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.master()
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(...)")
    }
}

/// The settings of sessions. Created by [`sessions`].
#[derive(Clone, Debug)]
pub struct Sessions {
    key: SessionKey,
    previous: Vec<SessionKey>,
    name: String,
    secure: bool,
    max_age: Option<Duration>,
}

/// How long a session lasts unless the program says otherwise.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Gives each request a [`Session`], which handlers extract with [`State`](crate::State).
/// The session is stored at the visitor, in a signed cookie. The visitor cannot change it, but can
/// read it, and can send an older one again until that has expired. The cookie is `HttpOnly` and
/// `SameSite=Lax`. A response for which the session was looked at, or with which it is sent again,
/// has `Vary: Cookie`, so that no cache gives it to another visitor.
///
/// The signature covers the values, the name of the cookie and the time when the session ends, so a
/// session under one name is none under another, and the server refuses it once it has
/// [expired](Sessions::max_age). A session in use is sent again, with a later end, when half of its
/// time is over.
///
/// ```
/// use entwined_http::{Error, Router, State, layers::{self, Session, SessionKey}};
///
/// let visits = |State(session): State<Session>| {
///     let visits: u32 = session.get("visits").unwrap_or(0) + 1;
///     session.set("visits", &visits)?;
///     Ok::<_, Error>(format!("you were here {visits} times"))
/// };
/// let router = Router::new().get("/", visits).layer(layers::sessions(SessionKey::generate()));
/// ```
pub fn sessions(key: SessionKey) -> Sessions {
    Sessions {
        key,
        previous: Vec::new(),
        name: "session".to_owned(),
        secure: false,
        max_age: None,
    }
}

impl Sessions {
    /// Sets the cookie's name. The default is `session`. With a name that begins with `__Host-` or
    /// `__Secure-`, browsers send the cookie over TLS only, as with [`secure`](Sessions::secure).
    ///
    /// # Panics
    /// Panics if the name is empty, has more than 256 bytes, or characters other than letters,
    /// digits, `-`, `_` and `.`.
    #[must_use]
    #[track_caller]
    pub fn name(mut self, name: &str) -> Self {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        assert!(
            (1..=256).contains(&name.len()) && name.bytes().all(fine),
            "{name:?} is not a good name for a cookie"
        );
        self.name = name.to_owned();
        self
    }

    /// Also accepts sessions that were signed with this key, and signs them anew with the current
    /// one. This lets a program change its key without ending all sessions; drop the old key when
    /// [`max_age`](Sessions::max_age) is over.
    #[must_use]
    pub fn previous_key(mut self, key: SessionKey) -> Self {
        self.previous.push(key);
        self
    }

    /// Makes browsers send the cookie over TLS only. Without this, they do that if it was set over
    /// TLS by this server; a proxy before it may have the TLS.
    #[must_use]
    pub fn secure(mut self) -> Self {
        self.secure = true;
        self
    }

    /// Sets how long a session lasts after it was sent to the visitor: browsers drop the cookie
    /// then, and the server refuses it. By default, browsers keep it until they are closed, and the
    /// server refuses it after 24 hours. A session with more time left than that is refused too.
    /// Browsers are told whole seconds, one at least.
    #[must_use]
    pub fn max_age(mut self, time: Duration) -> Self {
        self.max_age = Some(time);
        self
    }
}

/// The data about a visitor: named values, about 2.7 KiB of JSON together. Cheap to clone. It
/// belongs to one request.
#[derive(Clone, Default)]
pub struct Session(Rc<Values>);

#[derive(Default)]
struct Values {
    values: RefCell<Map>,
    changed: Cell<bool>,
    /// Whether it is too late for a change.
    sent: Cell<bool>,
    /// Whether the response may depend on the session.
    used: Cell<bool>,
    /// The bytes of the cookie that are not for values.
    overhead: usize,
}

type Map = BTreeMap<String, serde_json::Value>;

/// Without the values, which may be secret.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("values", &self.0.values.borrow().len())
            .finish_non_exhaustive()
    }
}

/// A value was not stored in a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionError {
    /// With it, the cookie would have more than 4,096 bytes, and browsers drop such a cookie
    /// without a word.
    Full,
    /// It cannot be encoded as JSON.
    Encoding(serde_json::Error),
    /// The head of the response, which has the cookie, is finished: a WebSocket is open, say.
    Sent,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Full => f.write_str("the session is too large for a cookie"),
            SessionError::Encoding(_) => f.write_str("a value cannot be stored in a session"),
            SessionError::Sent => f.write_str("the session's cookie has been sent"),
        }
    }
}

impl std::error::Error for SessionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SessionError::Full | SessionError::Sent => None,
            SessionError::Encoding(error) => Some(error),
        }
    }
}

/// As [`Error::internal`].
impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        Error::internal(error)
    }
}

/// As [`Error::internal`].
impl IntoResponse for SessionError {
    fn into_response(self) -> Response {
        Error::from(self).into_response()
    }
}

impl Session {
    /// Returns a value, if there is one with this name and type.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.0.used.set(true);
        let value = self.0.values.borrow().get(name).cloned()?;
        serde_json::from_value(value).ok()
    }

    /// Sets a value. It is sent to the visitor with the response.
    ///
    /// # Errors
    /// [`SessionError`] if there is no room for the value, if it cannot be encoded as JSON, or if
    /// the response's head is finished. The session is as it was before.
    pub fn set<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), SessionError> {
        if self.0.sent.get() {
            return Err(SessionError::Sent);
        }
        self.0.used.set(true);
        let value = serde_json::to_value(value).map_err(SessionError::Encoding)?;
        let mut values = self.0.values.borrow_mut();
        let before = values.insert(name.to_owned(), value);
        let length = serde_json::to_string(&*values).map_or(usize::MAX, |json| json.len());
        if length > room(self.0.overhead) {
            match before {
                Some(before) => values.insert(name.to_owned(), before),
                None => values.remove(name),
            };
            return Err(SessionError::Full);
        }
        self.0.changed.set(true);
        Ok(())
    }

    /// Removes a value. Does nothing once the response's head is finished.
    pub fn remove(&self, name: &str) {
        if self.0.sent.get() {
            return;
        }
        self.0.used.set(true);
        if self.0.values.borrow_mut().remove(name).is_some() {
            self.0.changed.set(true);
        }
    }

    /// Removes all values. Does nothing once the response's head is finished.
    pub fn clear(&self) {
        if self.0.sent.get() {
            return;
        }
        self.0.values.borrow_mut().clear();
        self.0.changed.set(true);
    }
}

/// The most bytes of a cookie that browsers keep (RFC 6265, 6.1), with its name and attributes.
const MAX_COOKIE: usize = 4_096;

/// The bytes that values may have as JSON, which is sent as base64.
fn room(overhead: usize) -> usize {
    MAX_COOKIE.saturating_sub(overhead) / 4 * 3
}

/// How many cookies of the session's name are looked at. More come from nobody but attackers, who
/// would make the server verify a thousand signatures.
const MAX_TRIED: usize = 4;

impl Layer for Sessions {
    fn call(&self, mut request: Request, next: Next) -> ResponseFuture {
        let session = self.read(&request);
        let over_tls = request.is_secure();
        request.insert(session.clone());
        let (sessions, answering) = (self.clone(), next.run(request));
        ResponseFuture::new(async move {
            let mut response = answering.await;
            session.0.sent.set(true);
            // What has a cookie in it is for one visitor too.
            if session.0.used.get() || session.0.changed.get() {
                let cookie = HeaderValue::from_static("Cookie");
                response.headers_mut().append(VARY, cookie);
            }
            if session.0.changed.get() {
                match sessions.write(&session, over_tls) {
                    Some(value) => drop(response.headers_mut().append(SET_COOKIE, value)),
                    None => return Error::internal(SessionError::Full).into_response(),
                }
            }
            response
        })
    }
}

impl Sessions {
    fn lifetime(&self) -> Duration {
        self.max_age.unwrap_or(LIFETIME)
    }

    fn read(&self, request: &Request) -> Session {
        let found = cookies::values(request, &self.name)
            .take(MAX_TRIED)
            .find_map(|value| self.verify(value));
        let (values, renew) = found.unwrap_or_default();
        Session(Rc::new(Values {
            values: RefCell::new(values),
            changed: Cell::new(renew),
            sent: Cell::default(),
            used: Cell::default(),
            overhead: self.overhead(),
        }))
    }

    /// Returns the values of a cookie, and whether it should be sent again.
    fn verify(&self, value: &str) -> Option<(Map, bool)> {
        let cookie = Cookie::parse_encoded(format!("{}={value}", self.name)).ok()?;
        let verify = |key: &SessionKey| CookieJar::new().signed(&key.0).verify(cookie.clone());
        let (cookie, old) = match verify(&self.key) {
            Some(cookie) => (cookie, false),
            None => (self.previous.iter().find_map(verify)?, true),
        };
        let signed = URL_SAFE_NO_PAD.decode(cookie.value()).ok()?;
        let (name, end, values): (String, u64, Map) = serde_json::from_slice(&signed).ok()?;
        let (time, left) = (millis(self.lifetime()), end.checked_sub(now())?);
        // It has more time if the clock was set back, or if the program gave more before.
        if left == 0 || left > time.saturating_add(SKEW) {
            return None;
        }
        let half = time / 2;
        (name == self.name).then_some((values, old || left < half))
    }

    /// The bytes of a cookie besides its values: its name, the signature (percent-encoded at
    /// worst), the name and the end again as base64, and the attributes.
    fn overhead(&self) -> usize {
        self.name.len() + 1 + 3 * 44 + (self.name.len() + 32) * 4 / 3 + 100
    }

    fn write(&self, session: &Session, over_tls: bool) -> Option<HeaderValue> {
        let end = now().saturating_add(millis(self.lifetime()));
        let signed = serde_json::to_vec(&(&self.name, end, &*session.0.values.borrow())).ok()?;
        let mut jar = CookieJar::new();
        let mut cookie = Cookie::build((self.name.clone(), URL_SAFE_NO_PAD.encode(signed)))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax);
        if self.secure || over_tls || is_promised(&self.name) {
            cookie = cookie.secure(true);
        }
        if let Some(time) = self.max_age {
            let longest = cookie::time::Duration::days(400);
            // In whole seconds, and zero would end it at once.
            let time = time.max(Duration::from_secs(1));
            cookie = cookie.max_age(time.try_into().unwrap_or(longest));
        }
        jar.signed_mut(&self.key.0).add(cookie);
        let text = jar.get(&self.name)?.encoded().to_string();
        let mut value = HeaderValue::from_str(&text).ok()?;
        // `Debug` does not show it.
        value.set_sensitive(true);
        (text.len() <= MAX_COOKIE).then_some(value)
    }
}

/// By how many milliseconds the clock may be set back.
const SKEW: u64 = 5 * 60 * 1_000;

/// Whether the name says that the cookie comes over TLS only. Browsers hold it to that (RFC
/// 6265bis, 4.1.3).
fn is_promised(name: &str) -> bool {
    let begins = |prefix: &str| {
        let begin = name.get(..prefix.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
    };
    begins("__Host-") || begins("__Secure-")
}

/// The time in milliseconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, millis)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
