//! Protocols that speak in frames.

use super::{End, Lost, Protocol, Transport};
use crate::framing::{FrameError, Frames, Framing};

/// A [`Protocol`] that receives frames instead of bytes; see [`Framed`].
pub trait FrameReceiver<F: Framing> {
    /// The connection is there.
    fn connection_made(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// A frame has arrived. After it has paused or closed the transport, no more come until it
    /// resumes.
    ///
    /// `framing` may be changed; that holds from the next frame on.
    fn frame_received(&mut self, transport: &Transport, framing: &mut F, frame: &[u8]);

    /// What the peer sends is no frame. Unless it is overridden the connection is aborted; it is in
    /// any case when the error is [fatal](FrameError::is_fatal) and nothing was done about it.
    fn frame_failed(&mut self, transport: &Transport, error: &FrameError) {
        tracing::debug!(%error, peer = %transport.peer_address(), "a peer does not keep to the framing");
        transport.abort();
    }

    /// See [`Protocol::upgraded`].
    fn upgraded(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// The peer will send no more; all its frames have come. See [`Protocol::end_received`].
    fn end_received(&mut self, transport: &Transport) -> End {
        let _ = transport;
        End::Close
    }

    /// More waits to be sent than the limit: see [`Protocol::pause_writing`].
    fn pause_writing(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// See [`Protocol::resume_writing`].
    fn resume_writing(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// The connection is over.
    fn connection_lost(&mut self, why: &Lost) {
        let _ = why;
    }
}

/// Cuts what is received into frames for a [`FrameReceiver`].
///
/// ```
/// use entwined::{framing::Lines, protocol::{FrameReceiver, Framed, Transport}};
///
/// struct Greeter;
///
/// impl FrameReceiver<Lines> for Greeter {
///     fn frame_received(&mut self, transport: &Transport, _: &mut Lines, name: &[u8]) {
///         transport.write_all(&[b"hello, ", name, b"\r\n"]);
///     }
/// }
///
/// let protocol = Framed::new(Lines::new(512), Greeter);
/// ```
///
/// Bytes that a peer sent behind a frame which has the receiver [upgrade](Transport::upgrade) the
/// connection are dropped: they came in plain.
#[derive(Debug)]
pub struct Framed<F, R> {
    frames: Frames<F>,
    receiver: R,
    /// What came while reading was paused between two frames of one piece.
    held: Vec<u8>,
}

impl<F: Framing, R: FrameReceiver<F>> Framed<F, R> {
    /// Hands frames of this framing to `receiver`.
    pub fn new(framing: F, receiver: R) -> Self {
        Framed {
            frames: Frames::new(framing),
            receiver,
            held: Vec::new(),
        }
    }

    /// Hands on the frames in `data`, and keeps what is left when it has to rest.
    fn deliver(&mut self, transport: &Transport, mut data: &[u8]) {
        while !transport.is_closing() && !transport.is_upgrading() {
            if transport.is_reading_paused() {
                self.held.extend_from_slice(data);
                return;
            }
            match self.frames.next_and_framing(&mut data) {
                Ok(None) => return,
                Ok(Some((frame, framing))) => {
                    self.receiver.frame_received(transport, framing, frame)
                }
                Err(error) => self.fail(transport, &error),
            }
        }
    }

    fn fail(&mut self, transport: &Transport, error: &FrameError) {
        self.receiver.frame_failed(transport, error);
        if error.is_fatal() && !transport.is_closing() {
            transport.abort();
        }
    }
}

impl<F: Framing, R: FrameReceiver<F>> Protocol for Framed<F, R> {
    fn connection_made(&mut self, transport: &Transport) {
        self.receiver.connection_made(transport);
    }

    fn upgraded(&mut self, transport: &Transport) {
        self.frames.clear();
        self.held = Vec::new();
        self.receiver.upgraded(transport);
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        if self.held.is_empty() {
            self.deliver(transport, data);
        } else {
            let mut all = std::mem::take(&mut self.held);
            all.extend_from_slice(data);
            self.deliver(transport, &all);
        }
    }

    fn reading_resumed(&mut self, transport: &Transport) {
        self.data_received(transport, &[]);
    }

    fn end_received(&mut self, transport: &Transport) -> End {
        if !transport.is_closing() {
            match self.frames.finish().map(|frame| frame.map(<[u8]>::to_vec)) {
                Ok(None) => {}
                Ok(Some(frame)) => {
                    self.receiver
                        .frame_received(transport, self.frames.framing_mut(), &frame)
                }
                Err(error) => {
                    self.fail(transport, &error);
                    return End::Close;
                }
            }
        }
        self.receiver.end_received(transport)
    }

    fn pause_writing(&mut self, transport: &Transport) {
        self.receiver.pause_writing(transport);
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.receiver.resume_writing(transport);
    }

    fn connection_lost(&mut self, why: &Lost) {
        self.receiver.connection_lost(why);
    }
}
