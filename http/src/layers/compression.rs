//! Compresses response bodies (RFC 9110, 8.4 and 12.5.3).

use std::{
    io::Write,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use flate2::write::GzEncoder;
use futures_core::Stream;
use http_body::Body as _;

use super::super::{
    Body, HeaderMap, HeaderValue, Layer, Next, Request, Response, ResponseFuture, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
        CONTENT_TYPE, ETAG, VARY,
    },
};
use crate::coding::{Coding, accepted};
use entwined::reactor::Handle;

/// Decides which responses are compressed. Created by [`compression`].
#[derive(Clone, Copy, Debug)]
pub struct Compression {
    min_size: u64,
}

/// Compresses text (and JSON, scripts, SVG and fonts) for clients that accept it, with brotli
/// (quality 4) or gzip (level 6). Bodies are compressed while they are sent, 16 KiB at a time, and
/// other tasks run in between. These are sent unchanged: bodies smaller than 1 KiB, event streams,
/// partial content, anything that is compressed already, and responses marked `no-transform`.
pub fn compression() -> Compression {
    Compression { min_size: 1024 }
}

impl Compression {
    /// Sets the smallest body, in bytes, that is compressed. Bodies of unknown length always are.
    #[must_use]
    pub fn min_size(mut self, bytes: u64) -> Self {
        self.min_size = bytes;
        self
    }

    fn wanted(self, response: &Response) -> bool {
        let headers = response.headers();
        let text = |name| {
            headers
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
                .unwrap_or("")
        };
        let size = response.body().size_hint();
        response.status() != StatusCode::PARTIAL_CONTENT
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
            && !headers.contains_key(CONTENT_ENCODING)
            && !headers.contains_key(CONTENT_RANGE)
            && !text(CACHE_CONTROL).contains("no-transform")
            && is_text(text(CONTENT_TYPE))
            && size.exact().is_none_or(|bytes| bytes >= self.min_size)
    }
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
        let (compression, handle) = (*self, request.handle().clone());
        let answering = next.run(request);
        ResponseFuture::new(async move {
            let mut response = answering.await;
            if !compression.wanted(&response) {
                return response;
            }
            let headers = response.headers_mut();
            headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
            let Some(coding) = coding else {
                return response;
            };
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
            headers.remove(CONTENT_LENGTH);
            headers.remove(ACCEPT_RANGES);
            weaken(headers);
            response.map(|body| {
                Body::stream(Compressed {
                    body,
                    left: Bytes::new(),
                    encoder: Some(Encoder::new(coding)),
                    handle,
                })
            })
        })
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

struct Compressed {
    body: Body,
    /// The part of the body's last frame that is not compressed yet.
    left: Bytes,
    /// `None` at the end.
    encoder: Option<Encoder>,
    handle: Handle,
}

impl Stream for Compressed {
    type Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let Some(encoder) = &mut this.encoder else {
                return Poll::Ready(None);
            };
            if this.left.is_empty() {
                match std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                    Some(frame) => this.left = frame?.into_data().unwrap_or_default(),
                    None => {
                        let rest = this
                            .encoder
                            .take()
                            .map(Encoder::finish)
                            .transpose()?
                            .unwrap_or_default();
                        return Poll::Ready(Some(Ok(rest.into())).filter(|rest| {
                            rest.as_ref().is_ok_and(|rest: &Bytes| !rest.is_empty())
                        }));
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
                return Poll::Ready(Some(Ok(output.into())));
            }
        }
    }
}
