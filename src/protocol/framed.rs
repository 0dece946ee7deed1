//! Protocols over frames.

use super::{End, Lost, Protocol, Transport};
use crate::framing::{FrameError, Frames, Framing};

/// A [`Protocol`] that receives frames instead of bytes; see [`Framed`].
pub trait FrameReceiver<F: Framing> {
    /// Called once the connection is ready.
    fn connection_made(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// Called for each frame. If it pauses or closes the transport, no more frames are delivered
    /// until reading resumes.
    ///
    /// It may change `framing`; the change applies from the next frame on.
    fn frame_received(&mut self, transport: &Transport, framing: &mut F, frame: &[u8]);

    /// Called when the peer's bytes do not follow the framing. By default the connection is
    /// aborted. An override may keep it open, but if the error is [fatal](FrameError::is_fatal) and
    /// the override has not closed it, it is aborted anyway.
    fn frame_failed(&mut self, transport: &Transport, error: &FrameError) {
        tracing::debug!(
            %error,
            peer = %transport.peer_address(),
            "a peer violated the framing"
        );
        transport.abort();
    }

    /// See [`Protocol::upgraded`].
    fn upgraded(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// The peer will send no more, and all its frames have been delivered. See
    /// [`Protocol::end_received`].
    fn end_received(&mut self, transport: &Transport) -> End {
        let _ = transport;
        End::Close
    }

    /// More bytes are queued for sending than the limit. See [`Protocol::pause_writing`].
    fn pause_writing(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// See [`Protocol::resume_writing`].
    fn resume_writing(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// Called last, when the connection is over.
    fn connection_lost(&mut self, why: &Lost) {
        let _ = why;
    }
}

/// Splits the received bytes into frames for a [`FrameReceiver`].
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
/// If a frame makes the receiver [upgrade](Transport::upgrade) the connection, the bytes that the
/// peer sent after that frame are dropped: they arrived unencrypted.
#[derive(Debug)]
pub struct Framed<F, R> {
    frames: Frames<F>,
    receiver: R,
    /// Bytes that arrived while reading was paused between two frames of one read.
    held: Vec<u8>,
}

impl<F: Framing, R: FrameReceiver<F>> Framed<F, R> {
    /// Delivers the frames of this framing to `receiver`.
    pub fn new(framing: F, receiver: R) -> Self {
        Framed {
            frames: Frames::new(framing),
            receiver,
            held: Vec::new(),
        }
    }

    /// Delivers the frames in `data`. If reading is paused, keeps the rest.
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
