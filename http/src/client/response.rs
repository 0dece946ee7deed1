//! Responses.

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use http_body::Body as _;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use url::Url;

use super::{
    ClientError,
    decode::{Decoder, Step},
    link::Exchange,
    settings::{Settings, without_credentials},
};
use crate::{
    Bytes, HeaderMap, Method, StatusCode, aside,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
    unread::Grace,
};
use entwined::{
    deferred::{Deferred, Interrupted, SemaphorePermit},
    reactor::Handle,
    task::Sleep,
};

/// A response: its head, and a body that is still to be read. You can read the body as a whole, in
/// [pieces](ClientResponse::chunk), or as a stream. Dropping an unread response closes its HTTP/1.1
/// connection or resets its HTTP/2 stream.
pub struct ClientResponse {
    head: ::http::response::Parts,
    /// `None` once the body has ended or failed.
    body: Option<Incoming>,
    /// Whether it has failed.
    failed: bool,
    /// What was read by those who wanted the whole body and did not wait for its end.
    begun: BytesMut,
    trailers: Option<HeaderMap>,
    url: Url,
    decoder: Option<Decoder>,
    /// A decoder at work on another thread.
    unpacking: Option<Unpacking>,
    /// Until the threads are asked again, and how often they were.
    pause: Option<Sleep>,
    asked: u32,
    handle: Handle,
    timeout: Duration,
    /// The timeout of the next piece, while the response waits for it.
    waiting: Option<Sleep>,
    grace: Grace,
    /// When the whole body must have been read.
    end: Option<Instant>,
    /// The time after that, for what had come before.
    overtime: Grace,
    max_body_size: usize,
    /// Ends the rest of the request when the body has ended.
    exchange: Option<Exchange>,
    /// The place among the requests to this host, held until the body has ended.
    turn: Option<SemaphorePermit>,
}

impl ClientResponse {
    pub(super) fn new(
        response: ::http::Response<Incoming>,
        method: &Method,
        url: &Url,
        settings: &Settings,
        exchange: Exchange,
        turn: SemaphorePermit,
    ) -> Self {
        let (mut head, body) = response.into_parts();
        // An element of a list may be empty (RFC 9110, 5.6.1.2).
        let mut codings = head
            .headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .flat_map(|value| value.to_str().unwrap_or("unknown").split(','))
            .map(str::trim)
            .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"));
        // Several codings are for the caller. A part of a coded body cannot be decoded (RFC 9110,
        // 15.3.7). Without a body, the headers say what another request would get.
        let decoder = match (codings.next(), codings.next()) {
            (Some(coding), None)
                if settings.decompress
                    && head.status != StatusCode::PARTIAL_CONTENT
                    && head.status != StatusCode::NOT_MODIFIED
                    && *method != Method::HEAD =>
            {
                Decoder::new(coding)
            }
            _ => None,
        };
        if decoder.is_some() {
            // They describe the compressed body, which the caller does not see.
            head.headers.remove(CONTENT_ENCODING);
            head.headers.remove(CONTENT_LENGTH);
        }
        // What has no content has ended: a program that keeps it holds up nobody.
        let ended = body.is_end_stream();
        let rest = (!ended).then_some((body, exchange, turn));
        let (body, exchange, turn) = rest.map_or((None, None, None), |(body, exchange, turn)| {
            (Some(body), Some(exchange), Some(turn))
        });
        ClientResponse {
            head,
            body,
            failed: false,
            begun: BytesMut::new(),
            trailers: None,
            url: without_credentials(url),
            decoder,
            unpacking: None,
            pause: None,
            asked: 0,
            handle: settings.handle.clone(),
            timeout: settings.body_timeout,
            max_body_size: settings.max_body_size,
            waiting: None,
            grace: Grace::default(),
            end: None,
            overtime: Grace::default(),
            exchange,
            turn,
        }
    }

    pub(super) fn set_end(&mut self, end: Instant) {
        self.end = Some(end);
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The value of a header, if it is present and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// The headers behind the body (RFC 9110, 6.5), once it has been read to its end; at most 16
    /// KiB. `None` before that, and if there are none.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// The HTTP version of the response.
    pub fn version(&self) -> ::http::Version {
        self.head.version
    }

    /// The URL that answered, after all redirects, without a user name and password.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Returns the response, or an error if the status is 4xx or 5xx.
    ///
    /// # Errors
    /// [`ClientError::Status`].
    pub fn error_for_status(self) -> Result<Self, ClientError> {
        let status = self.status();
        if status.is_client_error() || status.is_server_error() {
            Err(ClientError::Status(status))
        } else {
            Ok(self)
        }
    }

    /// Returns the next piece of the body, decompressed, or `None` at its end. A piece has at most
    /// 64 KiB if it was compressed. There is no limit for all of them: few compressed bytes can
    /// become many. While nobody reads, backpressure stops the connection.
    ///
    /// # Errors
    /// If the connection fails, the body is truncated or cannot be decompressed, or a piece takes
    /// too long.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientError>> {
        let begun = std::mem::take(&mut self.begun);
        if !begun.is_empty() {
            return Poll::Ready(Ok(Some(begun.freeze())));
        }
        self.poll_next_chunk(cx)
    }

    fn poll_next_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, ClientError>> {
        let polled = self.poll_piece(cx);
        if polled.is_ready() {
            self.waiting = None;
            self.grace.reset();
        }
        if let Poll::Ready(Err(_)) = polled {
            // The rest of the body is useless now.
            self.failed = true;
            (self.body, self.exchange, self.turn) = (None, None, None);
            (self.decoder, self.unpacking) = (None, None);
        }
        polled
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientError>> {
        let late = || Poll::Ready(Err(ClientError::TimedOut("the body of the response")));
        // What had come in time counts, also if the host held the thread since.
        let is_over = self.end.is_some_and(|end| end <= self.handle.turn_time());
        if is_over && self.overtime.poll_over(cx, &self.handle).is_ready() {
            return late();
        }
        loop {
            match ready!(self.poll_unpack(cx))? {
                Step::Bytes(bytes) => return Poll::Ready(Ok(Some(bytes))),
                Step::More => continue,
                Step::Hungry => {}
            }
            let Some(body) = &mut self.body else {
                return Poll::Ready(Ok(None));
            };
            let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
                let (handle, end) = (&self.handle, self.end);
                let due = handle.after(self.timeout);
                let due = end.map_or(due, |end| end.min(due));
                let exchange = self.exchange.as_ref();
                let waiting = self.waiting.get_or_insert_with(|| {
                    exchange.inspect(|exchange| exchange.waits());
                    handle.sleep_until(due)
                });
                ready!(Pin::new(waiting).poll(cx));
                if let Some(exchange) = exchange {
                    ready!(exchange.poll_late(cx, &mut self.grace));
                    exchange.is_late();
                }
                return late();
            };
            match frame.transpose().map_err(ClientError::Http)? {
                None => {
                    (self.body, self.exchange, self.turn) = (None, None, None);
                    if let Some(decoder) = &mut self.decoder {
                        decoder.end();
                    }
                }
                Some(frame) => match (frame.into_data(), &mut self.decoder) {
                    (Ok(data), _) if data.is_empty() => {}
                    (Ok(data), Some(decoder)) => decoder.feed(data),
                    (Ok(data), None) => return Poll::Ready(Ok(Some(data))),
                    (Err(other), _) => self.trailers = other.into_trailers().ok(),
                },
            }
        }
    }

    /// Decompresses what has arrived. A brotli stream with a large window does so on another
    /// thread, as one step of it may fill the window.
    fn poll_unpack(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, ClientError>> {
        let step = if let Some(Unpacking { job, kept }) = &mut self.unpacking {
            let unpacked = ready!(Pin::new(job).poll(cx));
            let kept = take(kept);
            self.unpacking = None;
            match (unpacked, kept) {
                (Ok((decoder, step)), _) => {
                    (self.decoder, self.asked) = (Some(decoder), 0);
                    step
                }
                // Others have given the threads as much to do as they take.
                (Err(ClientError::Interrupted(Interrupted::Refused)), Some(decoder))
                    if self.asked < MAX_ASKED =>
                {
                    (self.decoder, self.asked) = (Some(decoder), self.asked + 1);
                    self.pause = Some(self.handle.sleep(PAUSE));
                    return Poll::Ready(Ok(Step::More));
                }
                (Err(error), _) => return Poll::Ready(Err(error)),
            }
        } else if self.decoder.as_ref().is_some_and(Decoder::is_heavy) {
            if let Some(pause) = &mut self.pause {
                ready!(Pin::new(pause).poll(cx));
                self.pause = None;
            }
            let kept = Arc::new(Mutex::new(self.decoder.take()));
            let given = kept.clone();
            let job = self.handle.defer_to_thread(move |_| {
                let mut decoder = take(&given).ok_or(Interrupted::Abandoned)?;
                let (step, _) = decoder.read();
                Ok((decoder, step))
            });
            self.unpacking = Some(Unpacking { job, kept });
            return Poll::Ready(Ok(Step::More));
        } else if let Some(decoder) = self.decoder.as_mut().filter(|decoder| decoder.has_work()) {
            if !self.handle.spend(0) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let (step, units) = decoder.read();
            // What was done is done: whoever has used up the share gives way before the next step.
            let _ = self.handle.spend(units);
            step
        } else {
            Ok(Step::Hungry)
        };
        Poll::Ready(step.map_err(|error| ClientError::Decode(error.to_string())))
    }

    /// Reads the rest of the body, at most [`max_body_size`](super::Builder::max_body_size). If the
    /// future is dropped before the end, what it has read is not lost: the next call goes on.
    ///
    /// # Errors
    /// As [`chunk`](ClientResponse::chunk), also if that has failed before, and
    /// [`TooLarge`](ClientError::TooLarge).
    pub async fn bytes(&mut self) -> Result<Bytes, ClientError> {
        self.bytes_up_to(self.max_body_size).await
    }

    /// Reads the rest of the body, at most `max_size` bytes, decompressed.
    ///
    /// # Errors
    /// As [`bytes`](ClientResponse::bytes).
    pub async fn bytes_up_to(&mut self, max_size: usize) -> Result<Bytes, ClientError> {
        loop {
            if self.begun.len() > max_size {
                return Err(ClientError::TooLarge(max_size));
            }
            match poll_fn(|cx| self.poll_next_chunk(cx)).await? {
                Some(piece) => self.begun.extend_from_slice(&piece),
                // The end of what has failed is not that of the body.
                None if self.failed => {
                    return Err(ClientError::Decode("it has failed before".to_owned()));
                }
                None => return Ok(std::mem::take(&mut self.begun).freeze()),
            }
        }
    }

    /// Reads the rest of the body as text.
    ///
    /// # Errors
    /// As [`bytes`](ClientResponse::bytes), and if it is not UTF-8.
    pub async fn text(&mut self) -> Result<String, ClientError> {
        let bytes = self.bytes().await?;
        let checked = move |bytes: Bytes| {
            String::from_utf8(bytes.into()).map_err(|error| ClientError::Decode(error.to_string()))
        };
        self.parse(bytes, MAX_TEXT_HERE, checked).await
    }

    /// Reads the rest of the body as JSON. A body of more than 32 KiB is parsed on a thread of the
    /// [reactor's pool](Handle::defer_to_thread), so that it does not hold up a window.
    ///
    /// The value is dropped where the caller drops it. If nobody waits for a value that was parsed
    /// on a thread, a thread drops it. A `serde_json::Value` of megabytes takes tens of
    /// milliseconds to free: use a type with known fields, a smaller limit, or
    /// [`Handle::drop_on_thread`].
    ///
    /// # Errors
    /// As [`bytes`](ClientResponse::bytes), and if it does not match `T`.
    pub async fn json<T: DeserializeOwned + Send + 'static>(&mut self) -> Result<T, ClientError> {
        let bytes = self.bytes().await?;
        let parsed = |bytes: Bytes| {
            serde_json::from_slice(&bytes).map_err(|error| ClientError::Decode(error.to_string()))
        };
        self.parse(bytes, MAX_JSON_HERE, parsed).await
    }

    /// Parses a body, on a thread if it has more than `max_here` bytes.
    async fn parse<T: Send + 'static>(
        &self,
        bytes: Bytes,
        max_here: usize,
        parse: impl FnOnce(Bytes) -> Result<T, ClientError> + Send + 'static,
    ) -> Result<T, ClientError> {
        if bytes.len() <= max_here {
            return parse(bytes);
        }
        aside::on_thread(&self.handle, move || parse(bytes)).await
    }
}

/// A decoder at work on another thread.
struct Unpacking {
    job: Deferred<(Decoder, io::Result<Step>), ClientError>,
    /// The decoder until the work begins. It comes back if there is no room for the work.
    kept: Arc<Mutex<Option<Decoder>>>,
}

fn take(kept: &Mutex<Option<Decoder>>) -> Option<Decoder> {
    kept.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// How long the threads are left alone if they have no room, and how often. After a minute there
/// may be none at all.
const PAUSE: Duration = Duration::from_millis(10);
const MAX_ASKED: u32 = 6_000;

/// The most bytes that are parsed on the reactor's thread: about a millisecond of work.
const MAX_JSON_HERE: usize = 32 * 1024;
const MAX_TEXT_HERE: usize = 512 * 1024;

impl futures_core::Stream for ClientResponse {
    type Item = Result<Bytes, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(cx).map(Result::transpose)
    }
}

impl fmt::Debug for ClientResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientResponse")
            .field("status", &self.status())
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}
