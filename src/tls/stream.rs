//! The TLS stream: records below, plain bytes above.

use std::{
    fmt,
    io::{self, IoSlice, Read, Write},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_io::{AsyncRead, AsyncWrite};
use rustls::{
    Connection, HandshakeKind, ProtocolVersion, SupportedCipherSuite, pki_types::CertificateDer,
};

use super::engine::{OUTPUT, Place, STEP_COST, too_long};
use crate::{
    forward_stream,
    reactor::Handle,
    share::spend,
    transport::{ByteStream, Side, Waiting},
};

/// A TLS stream over another stream. Created by [`Acceptor::accept`](super::Acceptor::accept) and
/// [`Connector::connect`](super::Connector::connect).
///
/// Reading and writing wait for the handshake. To end the connection gracefully, close the stream;
/// see the [module](crate::tls) for details.
pub struct TlsStream {
    below: Box<dyn ByteStream>,
    engine: Place,
    established: bool,
    /// Whether our close_notify was sent or is queued.
    closing: bool,
    /// Whether the peer has ended its direction.
    ended: bool,
    waiting: Waiting,
}

impl TlsStream {
    pub(super) fn new(below: Box<dyn ByteStream>, mut session: Connection) -> Self {
        session.set_buffer_limit(Some(OUTPUT));
        TlsStream {
            below,
            engine: Place::new(session),
            established: false,
            closing: false,
            ended: false,
            waiting: Waiting::default(),
        }
    }

    /// Waits for the handshake, for `limit` at most.
    ///
    /// # Errors
    /// Why the connection cannot be used; [`TimedOut`](io::ErrorKind::TimedOut) if it takes longer.
    pub async fn established(&mut self, handle: &Handle, limit: Duration) -> io::Result<()> {
        let stream: &mut dyn ByteStream = self;
        stream.established(handle, limit).await
    }

    /// The peer's verified certificates, the end-entity certificate first. A client presents none
    /// unless it was [asked](super::AcceptorBuilder::client_certificates).
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.session()?.peer_certificates()
    }

    /// The negotiated protocol (ALPN).
    pub fn protocol(&self) -> Option<&[u8]> {
        self.session()?.alpn_protocol()
    }

    /// The name that the client requested (SNI). `None` on the client side.
    pub fn server_name(&self) -> Option<&str> {
        match self.session()? {
            Connection::Server(session) => session.server_name(),
            Connection::Client(_) => None,
        }
    }

    /// The negotiated version. `None` before the handshake.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.session()?.protocol_version()
    }

    /// The negotiated cipher suite. `None` before the handshake.
    pub fn cipher_suite(&self) -> Option<SupportedCipherSuite> {
        self.session()?.negotiated_cipher_suite()
    }

    /// Whether the handshake resumed an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.session().and_then(|session| session.handshake_kind()) == Some(HandshakeKind::Resumed)
    }

    fn session(&self) -> Option<&Connection> {
        self.engine.here().map(|engine| &engine.session)
    }
}

impl ByteStream for TlsStream {
    forward_stream!(below: local_address, peer_address);

    fn poll_established(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.established {
            return Poll::Ready(Ok(()));
        }
        loop {
            let below = &mut *self.below;
            let engine = ready!(self.engine.poll_here(cx))?;
            engine.check(below, cx)?;
            ready!(below.poll_established(cx))?;
            // A peer that is gone may have sent the reason. Read that before reporting that sending
            // failed.
            let sent = engine.send(below, cx);
            if !engine.session.is_handshaking() {
                // What is left of the handshake is sent before the program can end the connection.
                if sent.is_pending() && !spend(0) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                self.established = true;
                return Poll::Ready(Ok(()));
            }
            match (sent, engine.receive_flight(below, cx)) {
                (_, Poll::Ready(Ok(1..))) => self.engine.shake_hands(),
                (_, Poll::Ready(Err(error))) | (Poll::Ready(Err(error)), _) => {
                    return Poll::Ready(Err(error));
                }
                (_, Poll::Pending) => return Poll::Pending,
                (_, Poll::Ready(Ok(0))) => {
                    let message = "the peer ended the connection in the TLS handshake";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, message)));
                }
            }
        }
    }

    forward_stream!(below: abort, below);
}

/// Reading and writing, possibly from two tasks.
impl TlsStream {
    fn read_some(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_established(cx))?;
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let below = &mut *self.below;
        let engine = ready!(self.engine.poll_here(cx))?;
        // A failure to send must not prevent reading.
        let _ = engine.send(below, cx);
        let mut filled = 0;
        loop {
            match engine.session.reader().read(&mut buffer[filled..]) {
                Ok(0) => {
                    self.ended = true;
                    return Poll::Ready(Ok(filled));
                }
                Ok(count) => {
                    filled += count;
                    if filled == buffer.len() {
                        return Poll::Ready(Ok(filled));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if engine.has_input() && !spend(STEP_COST) {
                        if filled > 0 {
                            return Poll::Ready(Ok(filled));
                        }
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    if engine.decrypt_input() {
                        continue;
                    }
                    if filled > 0 {
                        return Poll::Ready(Ok(filled));
                    }
                    engine.check(below, cx)?;
                    if engine.has_input() {
                        // No decrypted bytes are left to be read, and still rustls takes no more.
                        return Poll::Ready(Err(too_long()));
                    }
                    ready!(engine.receive(below, cx, buffer.len()))?;
                }
                // The next call returns the error again.
                Err(_) if filled > 0 => return Poll::Ready(Ok(filled)),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn write_some(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&mut Connection) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_established(cx))?;
        let below = &mut *self.below;
        let engine = ready!(self.engine.poll_here(cx))?;
        engine.check(below, cx)?;
        if self.closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut taken = write(&mut engine.session)?;
        if engine.send(below, cx)?.is_pending() && taken == 0 {
            return Poll::Pending;
        }
        if taken == 0 {
            // There was no room before; sending may have made some.
            taken = write(&mut engine.session)?;
            let _ = engine.send(below, cx)?;
        }
        Poll::Ready(Ok(taken))
    }

    /// Polls for the reader or the writer, which may be two tasks.
    fn waiting<T>(
        &mut self,
        cx: &mut Context<'_>,
        side: Side,
        poll: impl FnOnce(&mut Self, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        Waiting::poll(self, |this| &mut this.waiting, side, cx, poll)
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .waiting(cx, Side::Reader, |this, cx| this.read_some(cx, buffer))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = |session: &mut Connection| session.writer().write(buffer);
        self.get_mut()
            .waiting(cx, Side::Writer, |this, cx| this.write_some(cx, write))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = |session: &mut Connection| session.writer().write_vectored(buffers);
        self.get_mut()
            .waiting(cx, Side::Writer, |this, cx| this.write_some(cx, write))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().waiting(cx, Side::Writer, |this, cx| {
            let engine = ready!(this.engine.poll_here(cx))?;
            ready!(engine.send(&mut *this.below, cx))?;
            Pin::new(&mut *this.below).poll_flush(cx)
        })
    }

    /// Sends a close_notify and closes the write direction below. Reading still works.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().waiting(cx, Side::Writer, |this, cx| {
            let engine = ready!(this.engine.poll_here(cx))?;
            if !this.closing {
                // If sending what was written fails, so does the close. The close_notify is only a
                // courtesy.
                ready!(engine.send(&mut *this.below, cx))?;
                this.closing = true;
                engine.session.send_close_notify();
            }
            match ready!(engine.send(&mut *this.below, cx)) {
                // If the peer has sent its own close_notify and is gone, nothing is lost.
                Err(_) if this.ended => {}
                sent => sent?,
            }
            Pin::new(&mut *this.below).poll_close(cx)
        })
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("peer", &self.peer_address())
            .field("established", &self.established)
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}
