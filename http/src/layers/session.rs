//! Sessions: data about a visitor, kept in a signed cookie.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    rc::Rc,
    time::Duration,
};

use cookie::{Cookie, CookieJar, Key, SameSite};
use serde::{Serialize, de::DeserializeOwned};

use super::super::{
    HeaderValue, Layer, Next, Request, ResponseFuture,
    header::{COOKIE, SET_COOKIE},
};

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
    name: String,
    secure: bool,
    max_age: Option<Duration>,
}

/// Gives each request a [`Session`], which handlers extract with [`State`](crate::State).
/// The session is stored at the visitor, in a signed cookie. The visitor cannot change it, but can
/// read it, and can send an older one again. The cookie is `HttpOnly` and `SameSite=Lax`.
///
/// ```
/// use entwined_http::{Router, State, layers::{self, Session, SessionKey}};
///
/// let visits = |State(session): State<Session>| {
///     let visits: u32 = session.get("visits").unwrap_or(0) + 1;
///     session.set("visits", &visits);
///     format!("you were here {visits} times")
/// };
/// let router = Router::new().get("/", visits).layer(layers::sessions(SessionKey::generate()));
/// ```
pub fn sessions(key: SessionKey) -> Sessions {
    Sessions {
        key,
        name: "session".to_owned(),
        secure: false,
        max_age: None,
    }
}

impl Sessions {
    /// Sets the cookie's name. The default is `session`.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Makes browsers send the cookie over TLS only.
    #[must_use]
    pub fn secure(mut self) -> Self {
        self.secure = true;
        self
    }

    /// Sets how long browsers keep the cookie. By default, they keep it until they are closed.
    #[must_use]
    pub fn max_age(mut self, time: Duration) -> Self {
        self.max_age = Some(time);
        self
    }
}

/// The data about a visitor: named values, at most 3 KiB of JSON. Cheap to clone. It belongs to one
/// request.
#[derive(Clone, Debug, Default)]
pub struct Session(Rc<Values>);

#[derive(Debug, Default)]
struct Values {
    values: RefCell<BTreeMap<String, serde_json::Value>>,
    changed: Cell<bool>,
}

impl Session {
    /// Returns a value, if there is one with this name and type.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let value = self.0.values.borrow().get(name).cloned()?;
        serde_json::from_value(value).ok()
    }

    /// Sets a value. It is sent to the visitor with the response. A value that cannot be encoded as
    /// JSON is ignored, with a warning in the log.
    pub fn set<T: Serialize + ?Sized>(&self, name: &str, value: &T) {
        match serde_json::to_value(value) {
            Ok(value) => drop(self.0.values.borrow_mut().insert(name.to_owned(), value)),
            Err(error) => {
                return tracing::warn!(name, %error, "a value cannot be stored in a session");
            }
        }
        self.0.changed.set(true);
    }

    /// Removes a value.
    pub fn remove(&self, name: &str) {
        if self.0.values.borrow_mut().remove(name).is_some() {
            self.0.changed.set(true);
        }
    }

    /// Removes all values.
    pub fn clear(&self) {
        self.0.values.borrow_mut().clear();
        self.0.changed.set(true);
    }
}

/// The most bytes of JSON in a session. Browsers accept cookies of up to 4 KiB; the signature and
/// the name need some of that.
const MOST: usize = 3 * 1024;

impl Layer for Sessions {
    fn call(&self, mut request: Request, next: Next) -> ResponseFuture {
        let session = self.read(&request);
        request.insert(session.clone());
        let (sessions, answering) = (self.clone(), next.run(request));
        ResponseFuture::new(async move {
            let mut response = answering.await;
            if session.0.changed.get() {
                if let Some(value) = sessions.write(&session) {
                    response.headers_mut().append(SET_COOKIE, value);
                }
            }
            response
        })
    }
}

impl Sessions {
    fn read(&self, request: &Request) -> Session {
        let cookies = request
            .headers()
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let found = cookies
            .flat_map(Cookie::split_parse_encoded)
            .filter_map(Result::ok)
            .filter(|cookie| cookie.name() == self.name)
            .find_map(|cookie| {
                CookieJar::new()
                    .signed(&self.key.0)
                    .verify(cookie.into_owned())
            });
        let values = found
            .and_then(|cookie| serde_json::from_str(cookie.value()).ok())
            .unwrap_or_default();
        Session(Rc::new(Values {
            values: RefCell::new(values),
            changed: Cell::new(false),
        }))
    }

    fn write(&self, session: &Session) -> Option<HeaderValue> {
        let json = serde_json::to_string(&*session.0.values.borrow()).ok()?;
        if json.len() > MOST {
            tracing::warn!(
                bytes = json.len(),
                "a session is too large for a cookie and was not stored"
            );
            return None;
        }
        let mut jar = CookieJar::new();
        let mut cookie = Cookie::build((self.name.clone(), json))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax);
        if self.secure {
            cookie = cookie.secure(true);
        }
        if let Some(time) = self.max_age.and_then(|time| time.try_into().ok()) {
            cookie = cookie.max_age(time);
        }
        jar.signed_mut(&self.key.0).add(cookie);
        HeaderValue::from_str(&jar.get(&self.name)?.encoded().to_string()).ok()
    }
}
