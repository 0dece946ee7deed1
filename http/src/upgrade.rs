//! Connections that switch to another protocol: RFC 9110, 7.8, and for HTTP/2 extended CONNECT (RFC
//! 8441).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use entwined::{forward_stream, server::Permit, transport::ByteStream};
use futures_io::{AsyncRead, AsyncWrite};

#[cfg(feature = "http2")]
use super::http2;
use super::{
    Body, Error, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, UPGRADE},
};

impl Request {
    /// Whether the client asks to switch to this protocol, such as `websocket`.
    pub fn wants_upgrade(&self, protocol: &str) -> bool {
        let names = |name| {
            self.headers()
                .get_all(name)
                .into_iter()
                .filter_map(|value| value.to_str().ok())
        };
        let lists = |name, wanted: &str| {
            names(name)
                .flat_map(|value| value.split(','))
                .any(|entry| entry.trim().eq_ignore_ascii_case(wanted))
        };
        match self.extended_protocol() {
            Some(extended) => {
                *self.method() == Method::CONNECT && extended.eq_ignore_ascii_case(protocol)
            }
            // HTTP/1.0 has none: RFC 9110, 7.8.
            None => {
                self.version() == Version::HTTP_11
                    && lists(CONNECTION, "upgrade")
                    && lists(UPGRADE, protocol)
            }
        }
    }

    /// The protocol of an extended CONNECT.
    #[cfg(feature = "http2")]
    fn extended_protocol(&self) -> Option<&str> {
        let protocol = self.extensions().get::<hyper::ext::Protocol>();
        protocol.map(hyper::ext::Protocol::as_str)
    }

    #[cfg(not(feature = "http2"))]
    fn extended_protocol(&self) -> Option<&str> {
        None
    }

    /// Accepts the upgrade. When the response is sent, `take_over` is called with the connection
    /// (for HTTP/2, the stream) on the reactor's thread. You may add headers to the response.
    ///
    /// The connection counts towards the server's connections until it is closed. Its new owner
    /// must close it.
    ///
    /// # Errors
    /// 426 if the client does not ask for this protocol. 400 if the request has a body that was not
    /// read to its end: the new owner would take the rest of it for its protocol.
    pub fn upgrade(
        self,
        protocol: &'static str,
        take_over: impl FnOnce(Box<dyn ByteStream>) + 'static,
    ) -> Result<Response, Error> {
        if !self.wants_upgrade(protocol) {
            return Err(Error::upgrade_required(
                protocol,
                format!("this path accepts only an upgrade to {protocol}"),
            ));
        }
        #[cfg(feature = "http2")]
        if self.extended_protocol().is_some() {
            return http2::upgrade(self, take_over);
        }
        if self.has_more() {
            return Err(Error::bad_request(
                "a request with a body does not switch to another protocol here",
            ));
        }
        let mut response = Response::new(Body::upgrade(Box::new(take_over)));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(protocol));
        Ok(response)
    }
}

/// An HTTP/1.1 connection that was handed over.
pub(super) struct Upgraded {
    pub(super) stream: Box<dyn ByteStream>,
    /// Bytes that were read together with the last request.
    pub(super) begin: Bytes,
    pub(super) permit: Option<Permit>,
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.begin.is_empty() {
            return Pin::new(&mut *self.stream).poll_read(cx, buffer);
        }
        let count = buffer.len().min(self.begin.len());
        buffer[..count].copy_from_slice(&self.begin.split_to(count));
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Upgraded {
    forward_stream!(stream: poll_write, poll_write_vectored, poll_flush, poll_close);
}

impl ByteStream for Upgraded {
    forward_stream!(stream: local_address, peer_address);

    fn abort(&mut self) {
        // The connection is closed: another peer may be accepted.
        self.permit = None;
        self.stream.abort();
    }

    forward_stream!(stream: below);
}
