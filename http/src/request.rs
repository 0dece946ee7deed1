//! Requests, as handlers see them.

use std::{
    any::Any,
    cell::Cell,
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    str::FromStr,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::{
    Error, HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, aside, authority,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE},
    held::Held,
    rate::{Least, Meter},
    unread::{Grace, Unread},
};
use entwined::{reactor::Handle, transport::Address};

/// One request: its head, and a body that is not read yet.
pub struct Request {
    /// Boxed, because a request is large and is moved often.
    content: Box<Content>,
}

struct Content {
    request: ::http::Request<Incoming>,
    params: Params,
    /// Offset of the part of the path that is still to be routed.
    below: usize,
    states: Vec<Box<dyn Any>>,
    /// Present once the body is being read.
    meter: Option<Box<Meter>>,
    trailers: Option<Box<HeaderMap>>,
    /// Whether the body was read to its end.
    ended: bool,
    /// Whether reading the body has failed.
    failed: bool,
    /// What was read by those who wanted the whole body and did not wait for its end.
    begun: BytesMut,
    /// Maximum bytes of a body that is read as a whole.
    max_body_size: usize,
    common: Rc<Common>,
}

/// The names and values of a path's `{name}` parameters.
pub(super) type Params = Vec<(String, String)>;

/// How far a request is routed.
#[derive(Clone, Copy)]
pub(super) struct Place {
    below: usize,
    params: usize,
}

/// State shared by the requests of a connection.
pub(super) struct Common {
    pub(super) handle: Handle,
    pub(super) peer: Address,
    /// Whether the connection has TLS. A proxy before the server may have it without this.
    pub(super) secure: bool,
    pub(super) max_body_size: usize,
    pub(super) body_timeout: Duration,
    pub(super) least: Least,
    pub(super) unread: Rc<Unread>,
    #[cfg(feature = "http2")]
    pub(super) pace: Rc<super::pace::Pace>,
}

impl Common {
    fn meter(&self) -> Meter {
        Meter::new(self.least, self.unread.clone())
    }
}

impl Request {
    pub(super) fn new(request: ::http::Request<Incoming>, common: Rc<Common>) -> Self {
        let (params, states, max_body_size) = (Params::new(), Vec::new(), common.max_body_size);
        let content = Content {
            request,
            params,
            below: 0,
            states,
            meter: None,
            trailers: None,
            ended: false,
            failed: false,
            begun: BytesMut::new(),
            max_body_size,
            common,
        };
        Request {
            content: Box::new(content),
        }
    }

    pub(super) fn add_params(&mut self, params: Params) {
        if self.content.params.is_empty() {
            self.content.params = params;
        } else {
            self.content.params.extend(params);
        }
    }

    pub(super) fn params(&self) -> &[(String, String)] {
        &self.content.params
    }

    /// Leaves the last `left` bytes of the path to be routed.
    pub(super) fn descend(&mut self, left: usize) {
        self.content.below = self.path().len() - left;
    }

    /// How far the request is routed.
    pub(super) fn place(&self) -> Place {
        Place {
            below: self.content.below,
            params: self.content.params.len(),
        }
    }

    /// Forgets what was routed beyond this place.
    pub(super) fn go_back(&mut self, place: Place) {
        self.content.below = place.below;
        self.content.params.truncate(place.params);
    }

    /// Returns the method.
    pub fn method(&self) -> &Method {
        self.content.request.method()
    }

    /// Returns the request target, with its [path](Request::path) and
    /// [authority](Request::authority) in their canonical forms.
    pub fn uri(&self) -> &Uri {
        self.content.request.uri()
    }

    /// Returns the path in its canonical form (RFC 3986, 6.2.2), which does not depend on how the
    /// client has spelled it. Only what a segment cannot contain as it is, is percent-encoded, in
    /// upper case; several slashes are one; `.` and `..` are resolved. Routers and
    /// files see the same form.
    ///
    /// Paths without such a form get 400 before any layer: malformed percent-encoding, what is not
    /// UTF-8, and `/` (as `%2F`), `\` or NUL inside a segment.
    pub fn path(&self) -> &str {
        self.content.request.uri().path()
    }

    /// Returns the part of the path that the innermost [router](super::Router::nest) matches on,
    /// from its `/` on. This is the whole path if no router is nested.
    pub fn path_below(&self) -> &str {
        match &self.path()[self.content.below..] {
            "" => "/",
            rest => rest,
        }
    }

    /// Returns the host and port of the request (RFC 9110, 7.2) in their canonical form: in lower
    /// case, without the final dot of a name, IPv6 addresses as in RFC 5952. `None` if a request of
    /// HTTP/1.0 names no host. What is not a host gets 400 before any layer, and so does a request
    /// of HTTP/2 without one, or whose `Host` differs from its `:authority`.
    pub fn authority(&self) -> Option<&str> {
        self.uri()
            .authority()
            .map(::http::uri::Authority::as_str)
            .or_else(|| self.header("host"))
    }

    /// Returns the [host](Request::authority) of the request, without the port.
    pub fn host(&self) -> Option<&str> {
        Some(authority::split(self.authority()?)?.0)
    }

    /// Whether something of the body was not read.
    pub(super) fn has_more(&self) -> bool {
        !self.content.ended && !self.content.request.body().is_end_stream()
    }

    /// Whether the connection itself has TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.content.common.secure
    }

    #[cfg(feature = "http2")]
    /// Keeps the connection until this is dropped.
    pub(super) fn hold_connection(&self) -> super::pace::Held {
        self.content.common.pace.hold()
    }

    #[cfg(feature = "http2")]
    /// Removes an extension that hyper put into the head.
    pub(super) fn take_extension<T: Clone + Send + Sync + 'static>(&mut self) -> Option<T> {
        self.content.request.extensions_mut().remove()
    }

    #[cfg(any(feature = "tower", feature = "multipart"))]
    /// Splits the request into its parts, for bodies that are read in another way.
    pub(super) fn into_parts(self) -> (::http::request::Parts, Incoming, Meter, Handle) {
        let Content {
            request,
            meter,
            common,
            ..
        } = *self.content;
        let (head, body) = request.into_parts();
        (
            head,
            body,
            meter.map_or_else(|| common.meter(), |meter| *meter),
            common.handle.clone(),
        )
    }

    pub(super) fn set_max_body_size(&mut self, bytes: usize) {
        self.content.max_body_size = bytes;
    }

    /// Stores a value in the request for the code that answers it. [`State`](super::State) and
    /// [`get`](Request::get) read it. There is one value of each type; an older one is replaced.
    pub fn insert<T: 'static>(&mut self, value: T) {
        match self.get_mut::<T>() {
            Some(place) => *place = value,
            None => self.content.states.push(Box::new(value)),
        }
    }

    /// Returns the value of this type that was [inserted](Request::insert).
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.content
            .states
            .iter()
            .find_map(|state| state.downcast_ref())
    }

    /// Like [`get`](Request::get), but mutable.
    pub fn get_mut<T: 'static>(&mut self) -> Option<&mut T> {
        self.content
            .states
            .iter_mut()
            .find_map(|state| state.downcast_mut())
    }

    /// Returns the headers.
    pub fn headers(&self) -> &HeaderMap {
        self.content.request.headers()
    }

    /// Returns a header's value if the header is present and its value is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// Returns the media type of the body (RFC 9110, 8.3.1), in lower case and without parameters.
    /// The text is empty if the request has no content type.
    pub fn media_type(&self) -> String {
        let value = self
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        value
            .split(';')
            .next()
            .unwrap_or("")
            .trim()
            .to_ascii_lowercase()
    }

    /// Returns the HTTP version of the request.
    pub fn version(&self) -> Version {
        self.content.request.version()
    }

    /// Returns the extensions of the head, for example hyper's `Protocol` of an extended CONNECT.
    pub fn extensions(&self) -> &::http::Extensions {
        self.content.request.extensions()
    }

    /// Returns the address of the peer.
    pub fn peer_address(&self) -> &Address {
        &self.content.common.peer
    }

    /// Returns the handle of the reactor that the handler runs on.
    pub fn handle(&self) -> &Handle {
        &self.content.common.handle
    }

    /// Returns the decoded value of `{name}` in the route's path. If a router around this one has a
    /// parameter of the same name, the inner one counts.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.content
            .params
            .iter()
            .rfind(|param| param.0 == name)
            .map(|param| param.1.as_str())
    }

    /// Parses the value of `{name}` as a number or any other `T`.
    ///
    /// # Errors
    /// 400 if the value cannot be parsed, 500 if the route has no such name.
    pub fn parse_param<T: FromStr>(&self, name: &str) -> Result<T, Error> {
        let value = self
            .param(name)
            .ok_or_else(|| Error::internal(format!("this route has no parameter {{{name}}}")))?;
        value
            .parse()
            .map_err(|_| Error::bad_request(format!("{value:?} is not a valid {name}")))
    }

    /// Returns the query as a struct (or map) with a field for each name.
    ///
    /// # Errors
    /// 400, with a message that says what is wrong, also if the query has more than 1,000 fields.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let query = self.uri().query().unwrap_or("");
        if query.bytes().filter(|byte| *byte == b'&').count() >= MAX_QUERY_FIELDS {
            let message = format!("the query has more than {MAX_QUERY_FIELDS} fields");
            return Err(Error::bad_request(message));
        }
        serde_urlencoded::from_str(query)
            .map_err(|error| Error::bad_request(format!("the query is wrong: {error}")))
    }

    /// Returns the next piece of the body, or `None` at its end. Use this for bodies that should
    /// not be in memory as a whole; the caller must limit their size.
    ///
    /// # Errors
    /// 400 if the peer closed the connection or sent a malformed body, 408 if the peer is slower
    /// than [`Config::min_rate`](super::Config::min_rate).
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let begun = std::mem::take(&mut self.content.begun);
        if !begun.is_empty() {
            return Ok(Some(begun.freeze()));
        }
        self.next_chunk().await
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            let Content {
                request,
                meter,
                trailers,
                ended,
                failed,
                common,
                ..
            } = &mut *self.content;
            // Its end would look like that of the body.
            if *failed {
                let error = Error::bad_request("the body could not be read");
                return Poll::Ready(Err(error));
            }
            let meter = meter.get_or_insert_with(|| Box::new(common.meter()));
            let Poll::Ready(frame) = Pin::new(request.body_mut()).poll_frame(cx) else {
                ready!(meter.poll_too_slow(cx, &common.handle));
                return Poll::Ready(Err(Error::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "the body arrives too slowly",
                )));
            };
            let Some(frame) = frame else {
                *ended = true;
                return Poll::Ready(Ok(None));
            };
            let frame = frame.map_err(|error| {
                *failed = true;
                Error::bad_request(format!("the body could not be read: {error}"))
            })?;
            match frame.into_data() {
                Ok(data) => {
                    meter.moved(data.len());
                    return Poll::Ready(Ok(Some(data)));
                }
                Err(other) => *trailers = other.into_trailers().ok().map(Box::new),
            }
        }
    }

    /// Returns the headers behind the body (RFC 9110, 6.5), once it has been read to its end; at
    /// most 16 KiB over HTTP/1.1 and [`Config::max_head_size`](super::Config::max_head_size) over
    /// HTTP/2. `None` before that, and if there are none. They are not checked as those of the head
    /// are: do not trust them for more than the body.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.content.trailers.as_deref()
    }

    /// Reads the whole body. If the future is dropped before its end, what it has read is not lost:
    /// the next call goes on.
    ///
    /// # Errors
    /// 413 if the body is larger than [`Config::max_body_size`](super::Config::max_body_size), 408
    /// if it takes longer than [`Config::body_timeout`](super::Config::body_timeout) or the peer is
    /// slower than [`Config::min_rate`](super::Config::min_rate), 400 if the peer closed the
    /// connection.
    pub async fn bytes(&mut self) -> Result<Bytes, Error> {
        let max_size = self.content.max_body_size;
        let too_large = || {
            Error::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body may have at most {max_size} bytes"),
            )
        };
        if self.content.request.body().size_hint().lower() > max_size as u64 {
            return Err(too_large());
        }
        let mut sleep = self.handle().sleep(self.content.common.body_timeout);
        let common = self.content.common.clone();
        let (mut grace, read) = (Grace::default(), Cell::new(0));
        let whole = async {
            if self.content.begun.is_empty() {
                let Some(first) = self.next_chunk().await? else {
                    return Ok(Bytes::new());
                };
                // Most bodies arrive in one piece, which need not be copied.
                if first.len() <= max_size && self.content.request.body().is_end_stream() {
                    return Ok(first);
                }
                self.content.begun = first.into();
            }
            loop {
                if self.content.begun.len() > max_size {
                    return Err(too_large());
                }
                read.set(self.content.begun.len());
                let Some(chunk) = self.next_chunk().await? else {
                    return Ok(std::mem::take(&mut self.content.begun).freeze());
                };
                self.content.begun.extend_from_slice(&chunk);
            }
        };
        let mut whole = pin!(whole);
        poll_fn(|cx| {
            let before = read.get();
            if let Poll::Ready(result) = whole.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            ready!(Pin::new(&mut sleep).poll(cx));
            if read.get() == before {
                ready!(grace.poll_late(cx, &common.handle, &common.unread));
                return Poll::Ready(Err(Error::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "the body took too long",
                )));
            }
            // If the thread was blocked, more may have arrived in time, and only the first piece
            // was read.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    /// Refuses a body with a content coding, which nobody here decodes: it would be taken for the
    /// content itself (RFC 9110, 15.5.16).
    pub(super) fn check_coding(&self) -> Result<(), Error> {
        let all = self.headers().get_all(CONTENT_ENCODING).iter();
        let codings = all.map(|value| value.to_str().unwrap_or("unknown"));
        let mut codings = codings.flat_map(|value| value.split(',')).map(str::trim);
        if codings.all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case("identity")) {
            return Ok(());
        }
        let message = "the body must have no content coding";
        let error = Error::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
        Err(error.with_header(ACCEPT_ENCODING, HeaderValue::from_static("identity")))
    }

    /// Reads the whole body as text.
    ///
    /// # Errors
    /// As for [`bytes`](Request::bytes), 400 if the body is not UTF-8, and 415 if it has a content
    /// coding.
    pub async fn text(&mut self) -> Result<String, Error> {
        self.check_coding()?;
        let bytes = self.bytes().await?;
        String::from_utf8(bytes.into()).map_err(|_| Error::bad_request("the body is not UTF-8"))
    }

    /// Reads the whole body as JSON. A body of more than 32 KiB is parsed on a thread of the
    /// [reactor's pool](Handle::defer_to_thread): JSON can take 20 ns a byte, so 2 MiB would hold
    /// the window for 40 ms.
    ///
    /// The value is dropped where the handler drops it. If nobody waits for a value that was parsed
    /// on a thread, a thread drops it. A `serde_json::Value` of 2 MiB can have hundreds of
    /// thousands of parts. It takes ten to ninety times as much memory as its text, and 7 to 31 ms
    /// to free. Use a type with known fields, a smaller
    /// [`max_body_size`](super::layers::max_body_size), or [`Handle::drop_on_thread`].
    ///
    /// # Errors
    /// As for [`bytes`](Request::bytes), and 415 if the content type is not JSON or there is a
    /// content coding, 400 with line and column if the JSON is malformed, 422 if it does not match
    /// `T`, 503 if the pool has no room.
    pub async fn json<T: DeserializeOwned + Send + 'static>(&mut self) -> Result<T, Error> {
        let media_type = self.media_type();
        if media_type != "application/json" && !media_type.ends_with("+json") {
            return Err(Error::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the content type must be application/json",
            ));
        }
        self.check_coding()?;
        let bytes = self.bytes().await?;
        self.parse(bytes, |bytes| {
            serde_json::from_slice(bytes).map_err(|error| {
                let status = if error.is_data() {
                    StatusCode::UNPROCESSABLE_ENTITY
                } else {
                    StatusCode::BAD_REQUEST
                };
                Error::new(status, format!("the JSON is wrong: {error}"))
            })
        })
        .await
    }

    /// Parses a body, on a thread if it is large.
    pub(super) async fn parse<T: Send + 'static>(
        &self,
        bytes: Bytes,
        parse: fn(&[u8]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if bytes.len() <= MAX_PARSED_HERE {
            return parse(&bytes);
        }
        let held = Held::new(bytes.len())?;
        let job = move || {
            let _held = held;
            parse(&bytes)
        };
        aside::on_thread(self.handle(), job).await
    }
}

/// How many fields a query may have: as many as Django and PHP take by default. Those that fit into
/// the largest head took 4.4 ms as texts in release.
const MAX_QUERY_FIELDS: usize = 1_000;

/// The most bytes of JSON or of a form that are parsed on the loop's thread.
const MAX_PARSED_HERE: usize = 32 * 1024;

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A query may have a token in it.
        f.debug_struct("Request")
            .field("method", self.method())
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}
