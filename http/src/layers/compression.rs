//! Compresses response bodies (RFC 9110, 8.4 and 12.5.3).

use std::{
    cell::Cell,
    io::Write,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http_body::{Body as _, Frame};

use super::super::{
    Body, HeaderMap, HeaderName, HeaderValue, Layer, Method, Next, Preconditions, Request,
    Response, ResponseFuture, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
        CONTENT_TYPE, ETAG, VARY,
    },
};
use crate::{
    body::is_empty,
    coding::{Coding, accepted},
};
use entwined::reactor::Handle;

/// Decides which responses are compressed. Created by [`compression`].
#[derive(Clone, Debug)]
pub struct Compression {
    min_size: u64,
    /// The encoders at work.
    encoders: Rc<Cell<usize>>,
}

/// How many bodies are compressed at a time; others are sent as they are. An encoder for brotli has
/// up to 1.5 MiB of window and tables, one for gzip 256 KiB.
const MAX_ENCODERS: usize = 64;

/// Compresses text (and JSON, scripts, SVG and fonts) for clients that accept it, with brotli
/// (quality 4) or gzip (level 6). Bodies are compressed while they are sent, 16 KiB at a time, and
/// other tasks run in between. These are sent unchanged: bodies smaller than 1 KiB, event streams,
/// partial content, anything that is compressed already, responses marked `no-transform` or with a
/// sum of their bytes (`Content-Digest` and the like), and what comes while 64 other bodies are
/// being compressed.
///
/// A compressed response has a weak tag, and the 304 for it has too. A request for a
/// [range](https://www.rfc-editor.org/rfc/rfc9110#section-14) gets the plain bytes, with their
/// strong tag: `If-Range` keeps a client from joining them with compressed ones.
pub fn compression() -> Compression {
    Compression {
        min_size: 1024,
        encoders: Rc::default(),
    }
}

impl Compression {
    /// Sets the smallest body, in bytes, that is compressed. Bodies of unknown length always are.
    #[must_use]
    pub fn min_size(mut self, bytes: u64) -> Self {
        self.min_size = bytes;
        self
    }

    /// Whether a client that accepts it would get this compressed. `length` is that of the whole
    /// content, if it is known.
    fn wanted(&self, response: &Response, length: Option<u64>) -> bool {
        let headers = response.headers();
        response.status() != StatusCode::SWITCHING_PROTOCOLS
            && response.status() != StatusCode::NO_CONTENT
            && !headers.contains_key(CONTENT_ENCODING)
            && !must_stay(headers)
            && is_text(text(headers, CONTENT_TYPE))
            && length.is_none_or(|bytes| bytes >= self.min_size)
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers
        .get(name)
        .and_then(|value: &HeaderValue| value.to_str().ok())
        .unwrap_or("")
}

/// Whether the bytes must stay as they are: a cache is told so (RFC 9111, 5.2.2.6), or there is a
/// sum of them (RFC 9530; RFC 3230; RFC 1864).
fn must_stay(headers: &HeaderMap) -> bool {
    let mut directives = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    directives.any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"))
        || ["content-digest", "repr-digest", "digest", "content-md5"]
            .into_iter()
            .any(|name| headers.contains_key(name))
}

fn is_text(content_type: &str) -> bool {
    let media = content_type
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    match media.split_once('/') {
        Some(("text", "event-stream")) => false,
        Some(("text", _)) => true,
        Some(("application", kind)) => {
            kind.ends_with("json")
                || kind.ends_with("xml")
                || matches!(
                    kind,
                    "javascript"
                        | "ecmascript"
                        | "wasm"
                        | "manifest"
                        | "x-javascript"
                        | "vnd.ms-fontobject"
                )
        }
        Some(("image", kind)) => {
            matches!(kind, "svg+xml" | "bmp" | "x-icon" | "vnd.microsoft.icon")
        }
        Some(("font", kind)) => matches!(kind, "ttf" | "otf"),
        _ => false,
    }
}

impl Layer for Compression {
    fn call(&self, request: Request, next: Next) -> ResponseFuture {
        let coding = accepted(request.headers()).first().copied();
        let (compression, handle) = (self.clone(), request.handle().clone());
        let heads = *request.method() == Method::HEAD;
        let asked = Preconditions::from(&request);
        let answering = next.run(request);
        ResponseFuture::new(async move {
            let mut response = answering.await;
            let size = response.body().size_hint();
            let accept = HeaderValue::from_static("Accept-Encoding");
            match response.status() {
                // It has the headers that a 200 would have had (RFC 9110, 15.4.5). Whether that
                // would be compressed is not known, as a 304 has no content type: `Vary` is right
                // in both cases, and which tag it had, the client says.
                StatusCode::NOT_MODIFIED => {
                    let headers = response.headers_mut();
                    if !headers.contains_key(CONTENT_ENCODING) {
                        vary(headers, accept);
                        if coding.is_some() && !asked.has_strong(headers.get(ETAG)) {
                            weaken(headers);
                        }
                    }
                    return response;
                }
                // A range is one of the plain bytes, whose strong tag it has. A cache must not give
                // it to those who have got compressed ones.
                StatusCode::PARTIAL_CONTENT => {
                    if compression.wanted(&response, None) {
                        vary(response.headers_mut(), accept);
                    }
                    return response;
                }
                _ => {}
            }
            // The answer to HEAD may have no content, but the length that it would have.
            let told = text(response.headers(), CONTENT_LENGTH).parse().ok();
            let bodiless = heads && size.exact() == Some(0);
            let length = if bodiless { told } else { size.exact() };
            if bodiless && told.is_none() {
                // Whether the answer to GET is large enough is not known.
                if compression.wanted(&response, None) {
                    vary(response.headers_mut(), accept);
                }
                return response;
            }
            if response.headers().contains_key(CONTENT_RANGE)
                || !compression.wanted(&response, length)
            {
                return response;
            }
            let headers = response.headers_mut();
            vary(headers, accept);
            let room = heads || compression.encoders.get() < MAX_ENCODERS;
            let Some(coding) = coding.filter(|_| room) else {
                return response;
            };
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
            headers.remove(CONTENT_LENGTH);
            headers.remove(ACCEPT_RANGES);
            weaken(headers);
            if heads {
                // Nobody would see the body. Its length is not known, which an empty stream says.
                return response.map(|body| body.around(|_| Nothing));
            }
            let place = Place::new(compression.encoders.clone());
            response.map(|body| {
                body.around(|body| Compressed {
                    body,
                    left: Bytes::new(),
                    encoder: Some(Encoder::new(coding)),
                    trailers: None,
                    handle,
                    _place: place,
                })
            })
        })
    }
}

fn vary(headers: &mut HeaderMap, name: HeaderValue) {
    let lists = |value: &HeaderValue| {
        value.to_str().is_ok_and(|value| {
            value.split(',').any(|entry| {
                entry.trim() == "*" || entry.trim().eq_ignore_ascii_case("accept-encoding")
            })
        })
    };
    if !headers.get_all(VARY).iter().any(lists) {
        headers.append(VARY, name);
    }
}

/// A body of unknown length that ends at once.
struct Nothing;

impl http_body::Body for Nothing {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(None)
    }
}

/// The compressed bytes differ, so a strong validator no longer holds (RFC 9110, 8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let strong = headers
        .get(ETAG)
        .and_then(|tag| tag.to_str().ok())
        .filter(|tag| tag.starts_with('"'));
    if let Some(weak) = strong.and_then(|tag| HeaderValue::from_str(&format!("W/{tag}")).ok()) {
        headers.insert(ETAG, weak);
    }
}

enum Encoder {
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Encoder {
    fn new(coding: Coding) -> Self {
        match coding {
            Coding::Brotli => Encoder::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                4096,
                4,
                18,
            ))),
            Coding::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(6))),
        }
    }

    /// Compresses some bytes. Pass `flush` if no more may follow for a while.
    fn write(&mut self, bytes: &[u8], flush: bool) -> std::io::Result<Vec<u8>> {
        match self {
            Encoder::Brotli(encoder) => {
                encoder.write_all(bytes)?;
                if flush {
                    encoder.flush()?;
                }
                Ok(std::mem::take(encoder.get_mut()))
            }
            Encoder::Gzip(encoder) => {
                encoder.write_all(bytes)?;
                if flush {
                    encoder.flush()?;
                }
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        match self {
            Encoder::Brotli(encoder) => Ok(encoder.into_inner()),
            Encoder::Gzip(encoder) => encoder.finish(),
        }
    }
}

/// Bytes compressed at a time.
const PIECE: usize = 16 * 1024;

/// The number of operations that one piece costs in the task's budget.
const COST: u32 = 16;

/// One of the encoders at work.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn new(all: Rc<Cell<usize>>) -> Self {
        all.set(all.get() + 1);
        Place(all)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

struct Compressed {
    body: Body,
    /// The part of the body's last frame that is not compressed yet.
    left: Bytes,
    /// `None` at the end of the data.
    encoder: Option<Encoder>,
    /// What follows the data.
    trailers: Option<Frame<Bytes>>,
    handle: Handle,
    _place: Place,
}

impl http_body::Body for Compressed {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        loop {
            let Some(encoder) = &mut this.encoder else {
                return Poll::Ready(this.trailers.take().map(Ok));
            };
            if this.left.is_empty() {
                let frame = ready!(Pin::new(&mut this.body).poll_frame(cx)).transpose()?;
                if frame.as_ref().is_some_and(is_empty) && !this.handle.spend(1) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                match frame.map(Frame::into_data) {
                    Some(Ok(data)) => this.left = data,
                    // Trailers, or the end: there are no more data.
                    end => {
                        this.trailers = end.and_then(Result::err);
                        let rest = this
                            .encoder
                            .take()
                            .map_or(Ok(Vec::new()), Encoder::finish)?;
                        if !rest.is_empty() {
                            return Poll::Ready(Some(Ok(Frame::data(rest.into()))));
                        }
                    }
                }
                continue;
            }
            if !this.handle.spend(COST) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let piece = this.left.split_to(this.left.len().min(PIECE));
            // A body whose end is already known has no pauses, so it needs no flush.
            let flush = this.left.is_empty() && !this.body.is_end_stream();
            let output = encoder.write(&piece, flush)?;
            if !output.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(output.into()))));
            }
        }
    }
}
