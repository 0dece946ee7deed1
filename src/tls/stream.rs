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

use super::{ProtocolError, records::Records};
use crate::{
    forward_stream,
    reactor::Handle,
    scratch::Scratch,
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
    session: Connection,
    established: bool,
    /// Records that have arrived but do not fit into rustls's buffers, because decrypted bytes have
    /// not been read yet.
    input: Vec<u8>,
    records: Records,
    /// Whether our close_notify was sent or is queued.
    closing: bool,
    /// Whether the peer has ended its direction.
    ended: bool,
    waiting: Waiting,
    failed: Option<ProtocolError>,
}

impl TlsStream {
    pub(super) fn new(below: Box<dyn ByteStream>, mut session: Connection) -> Self {
        session.set_buffer_limit(Some(OUTPUT));
        TlsStream {
            below,
            session,
            established: false,
            input: Vec::new(),
            records: Records::default(),
            closing: false,
            ended: false,
            waiting: Waiting::default(),
            failed: None,
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
        self.session.peer_certificates()
    }

    /// The negotiated protocol (ALPN).
    pub fn protocol(&self) -> Option<&[u8]> {
        self.session.alpn_protocol()
    }

    /// The name that the client requested (SNI). `None` on the client side.
    pub fn server_name(&self) -> Option<&str> {
        match &self.session {
            Connection::Server(session) => session.server_name(),
            Connection::Client(_) => None,
        }
    }

    /// The negotiated version. `None` before the handshake.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.session.protocol_version()
    }

    /// The negotiated cipher suite. `None` before the handshake.
    pub fn cipher_suite(&self) -> Option<SupportedCipherSuite> {
        self.session.negotiated_cipher_suite()
    }

    /// Whether the handshake resumed an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.session.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn check(&self) -> io::Result<()> {
        self.failed
            .clone()
            .map_or(Ok(()), |error| Err(error.into()))
    }

    /// Sends queued records as far as the stream below takes them. Readers call this too, to send
    /// the answers to key updates and what writers have left behind.
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut below = Below {
                stream: &mut *self.below,
                cx,
            };
            match self.session.write_tls(&mut below) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Receives up to `room` bytes of records and decrypts them. Returns zero at the end of input.
    fn receive(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        // The buffer is shared by all connections of the thread. None holds one while it waits.
        let mut buffer = Scratch::take();
        let received =
            Pin::new(&mut *self.below).poll_read(cx, &mut buffer[..room.clamp(RECORD, INPUT)]);
        let result = match received {
            Poll::Ready(Ok(0)) => self.session.read_tls(&mut io::empty()).map(|_| 0),
            Poll::Ready(Ok(count)) => self.decrypt(cx, &buffer[..count]).map(|taken| {
                self.input.extend_from_slice(&buffer[taken..count]);
                count
            }),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(result)
    }

    /// Decrypts records until all are taken or their content fills rustls's buffer, but not more
    /// than [`STEP`] of them. The one that ends the handshake is the last, and one that is not for
    /// the program: that may have hundreds of tickets for later sessions. The task gives way then.
    /// Returns how many bytes were taken.
    fn decrypt(&mut self, cx: &mut Context<'_>, records: &[u8]) -> io::Result<usize> {
        let (mut left, mut step) = (records, STEP);
        let mut decrypted = self.session.process_new_packets().map_or(0, plain);
        while !left.is_empty() && step > 0 {
            let now = &left[..self.records.clone().pass(left, &mut step.clone())];
            let mut rest = now;
            // This fails if decrypted bytes must be read first. After a close_notify it takes
            // nothing.
            match self.session.read_tls(&mut rest) {
                Ok(0) => return Ok(records.len()),
                Ok(_) => {}
                Err(_) => break,
            }
            let taken = now.len() - rest.len();
            let before = step;
            self.records.pass(&now[..taken], &mut step);
            left = &left[taken..];
            let in_handshake = self.session.is_handshaking();
            let processed = self.session.process_new_packets();
            if let Err(source) = processed {
                let error = ProtocolError {
                    in_handshake,
                    source,
                };
                self.failed = Some(error.clone());
                // Sends the alert, as far as that is possible without waiting.
                let _ = self.send(cx);
                return Err(error.into());
            }
            let all = processed.map_or(0, plain);
            if step < before && all == decrypted && !self.session.is_handshaking() {
                spend(STEP_COST * 4);
                break;
            }
            decrypted = all;
        }
        Ok(records.len() - left.len())
    }

    /// Takes what waits of a handshake, or receives more. Returns zero at the end of input.
    fn receive_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.is_empty() {
            return self.receive(cx, RECORD);
        }
        if !spend(STEP_COST) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.decrypt_input(cx) {
            Ok(true) => Poll::Ready(Ok(1)),
            Ok(false) => Poll::Ready(Err(too_long())),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Decrypts the records that had to wait. Returns false if there were none, or there is no room
    /// yet.
    fn decrypt_input(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.input.is_empty() {
            return Ok(false);
        }
        let mut input = std::mem::take(&mut self.input);
        let taken = self.decrypt(cx, &input)?;
        if taken < input.len() {
            input.drain(..taken);
            self.input = input;
        }
        Ok(taken > 0)
    }
}

impl ByteStream for TlsStream {
    forward_stream!(below: local_address, peer_address);

    fn poll_established(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.established {
            return Poll::Ready(Ok(()));
        }
        self.check()?;
        ready!(self.below.poll_established(cx))?;
        loop {
            // A peer that is gone may have sent the reason. Read that before reporting that sending
            // failed.
            let sent = self.send(cx);
            if !self.session.is_handshaking() {
                // What is left of the handshake is sent before the program can end the connection.
                if sent.is_pending() && !spend(0) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                self.established = true;
                return Poll::Ready(Ok(()));
            }
            let received = self.receive_next(cx);
            match (sent, received) {
                (_, Poll::Ready(Ok(1..))) => {}
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
        // A failure to send must not prevent reading.
        let _ = self.send(cx);
        let mut filled = 0;
        loop {
            match self.session.reader().read(&mut buffer[filled..]) {
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
                    if !self.input.is_empty() && self.failed.is_none() && !spend(STEP_COST) {
                        if filled > 0 {
                            return Poll::Ready(Ok(filled));
                        }
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    if self.failed.is_none() && self.decrypt_input(cx).is_ok_and(|some| some) {
                        continue;
                    }
                    if filled > 0 {
                        return Poll::Ready(Ok(filled));
                    }
                    self.check()?;
                    if !self.input.is_empty() {
                        // No decrypted bytes are left to be read, and still rustls takes no more.
                        return Poll::Ready(Err(too_long()));
                    }
                    ready!(self.receive(cx, buffer.len()))?;
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
        self.check()?;
        if self.closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut taken = write(&mut self.session)?;
        if self.send(cx)?.is_pending() && taken == 0 {
            return Poll::Pending;
        }
        if taken == 0 {
            // There was no room before; sending may have made some.
            taken = write(&mut self.session)?;
            let _ = self.send(cx)?;
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
            ready!(this.send(cx))?;
            Pin::new(&mut *this.below).poll_flush(cx)
        })
    }

    /// Sends a close_notify and closes the write direction below. Reading still works.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().waiting(cx, Side::Writer, |this, cx| {
            if !this.closing {
                // If sending what was written fails, so does the close. The close_notify is only a
                // courtesy.
                ready!(this.send(cx))?;
                this.closing = true;
                this.session.send_close_notify();
            }
            match ready!(this.send(cx)) {
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

/// The stream below, as a writer for rustls.
struct Below<'a, 'b> {
    stream: &'a mut dyn ByteStream,
    cx: &'a mut Context<'b>,
}

impl Write for Below<'_, '_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.stream).poll_write(self.cx, buffer))
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        now(Pin::new(&mut *self.stream).poll_write_vectored(self.cx, buffers))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn now<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// How many bytes may be queued for sending.
const OUTPUT: usize = 64 * 1024;

/// How many bytes have been decrypted for the program, and not read.
fn plain(state: rustls::IoState) -> usize {
    state.plaintext_bytes_to_read()
}

fn too_long() -> io::Error {
    let message = "the peer sent a TLS message that is too long";
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// How many records are decrypted in one step, and what a step takes from a task's share if records
/// had to wait for it. A record can be an update of keys, which has 27 bytes and takes some
/// microseconds, so 64 KiB of them would hold the thread for long.
const STEP: usize = 64;
const STEP_COST: u32 = 16;

/// How many bytes are received at a time, and how many may wait to be decrypted.
const INPUT: usize = Scratch::SIZE;

/// The largest record with its overhead: RFC 8446, section 5.2; RFC 5246, section 6.2.3.
const RECORD: usize = 5 + 16 * 1024 + 2048;
