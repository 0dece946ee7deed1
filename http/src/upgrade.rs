//! Connections that switch to another protocol: RFC 9110, 7.8, and for HTTP/2 extended CONNECT (RFC
//! 8441).

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_io::{AsyncRead, AsyncWrite};
use hyper::{
    ext::Protocol,
    rt::{Read, ReadBuf, Write},
    upgrade::OnUpgrade,
};

use super::{
    Body, Error, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONNECTION, UPGRADE},
};
use entwined::{
    server::Permit,
    transport::{Address, ByteStream},
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
        let extended = self.extensions().get::<Protocol>();
        match extended {
            Some(extended) => {
                *self.method() == Method::CONNECT
                    && extended.as_str().eq_ignore_ascii_case(protocol)
            }
            None => lists(CONNECTION, "upgrade") && lists(UPGRADE, protocol),
        }
    }

    /// Accepts the upgrade. When the response is sent, `take_over` is called with the connection
    /// (for HTTP/2, the stream) on the reactor's thread. You may add headers to the response.
    ///
    /// The connection counts towards the server's connections until it is closed. Its new owner
    /// must close it.
    ///
    /// # Errors
    /// 426 if the client does not ask for this protocol.
    pub fn upgrade(
        mut self,
        protocol: &'static str,
        take_over: impl FnOnce(Box<dyn ByteStream>) + 'static,
    ) -> Result<Response, Error> {
        if !self.wants_upgrade(protocol) {
            return Err(Error::new(
                StatusCode::UPGRADE_REQUIRED,
                format!("this path accepts only an upgrade to {protocol}"),
            ));
        }
        if self.extensions().get::<Protocol>().is_none() {
            let mut response = Response::new(Body::upgrade(Box::new(take_over)));
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
            response
                .headers_mut()
                .insert(UPGRADE, HeaderValue::from_static(protocol));
            return Ok(response);
        }
        let pending = self
            .take_extension::<OnUpgrade>()
            .ok_or_else(|| Error::internal("this request cannot be upgraded"))?;
        let peer = self.peer_address().clone();
        let taking = self.handle().spawn(async move {
            match pending.await {
                Ok(stream) => take_over(Box::new(StreamOfTwo { stream, peer })),
                Err(error) => tracing::debug!(%error, "a stream could not be upgraded"),
            }
        });
        taking.detach();
        Ok(Response::new(Body::empty()))
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
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_close(cx)
    }
}

impl ByteStream for Upgraded {
    fn local_address(&self) -> Address {
        self.stream.local_address()
    }

    fn peer_address(&self) -> Address {
        self.stream.peer_address()
    }

    fn abort(&mut self) {
        // The connection is closed: another peer may be accepted.
        self.permit = None;
        self.stream.abort();
    }

    fn below(&self) -> Option<&dyn ByteStream> {
        Some(&*self.stream)
    }
}

/// One stream of an HTTP/2 connection.
struct StreamOfTwo {
    stream: hyper::upgrade::Upgraded,
    peer: Address,
}

impl AsyncRead for StreamOfTwo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut room = [MaybeUninit::<u8>::uninit(); 16 * 1024];
        let most = buffer.len().min(room.len());
        let mut read = ReadBuf::uninit(&mut room[..most]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, read.unfilled()))?;
        let filled = read.filled();
        buffer[..filled.len()].copy_from_slice(filled);
        Poll::Ready(Ok(filled.len()))
    }
}

impl AsyncWrite for StreamOfTwo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl ByteStream for StreamOfTwo {
    fn local_address(&self) -> Address {
        Address::Unknown
    }

    fn peer_address(&self) -> Address {
        self.peer.clone()
    }

    /// Does nothing: dropping it resets the stream.
    fn abort(&mut self) {}
}
