//! Protocols over frames.

use super::{Connection, End, Held, Lost, Protocol};
use crate::{
    framing::{FrameError, Frames, Framing},
    share::spend_message,
};

/// A [`Protocol`] that receives frames instead of bytes; see [`Framed`].
pub trait FrameReceiver<F: Framing> {
    /// Called once the connection is ready.
    fn connection_made(&mut self, connection: &Connection) {
        let _ = connection;
    }

    /// Called for each frame. If it pauses or closes the connection, no more frames are delivered
    /// until reading resumes.
    ///
    /// It may change `framing`; the change applies from the next frame on.
    fn frame_received(&mut self, connection: &Connection, framing: &mut F, frame: &[u8]);

    /// Called when the peer's bytes do not follow the framing. By default the connection is
    /// aborted. An override may keep it open, but if the error is [fatal](FrameError::is_fatal) and
    /// the override has not closed it, it is aborted anyway.
    fn frame_failed(&mut self, connection: &Connection, error: &FrameError) {
        tracing::debug!(
            %error,
            peer = %connection.peer_address(),
            "a peer violated the framing"
        );
        connection.abort();
    }

    /// See [`Protocol::upgraded`].
    fn upgraded(&mut self, connection: &Connection) {
        let _ = connection;
    }

    /// The peer will send no more, and all its frames have been delivered. See
    /// [`Protocol::end_received`].
    fn end_received(&mut self, connection: &Connection) -> End {
        let _ = connection;
        End::Close
    }

    /// More bytes are queued for sending than the limit. See [`Protocol::pause_writing`].
    fn pause_writing(&mut self, connection: &Connection) {
        let _ = connection;
    }

    /// See [`Protocol::resume_writing`].
    fn resume_writing(&mut self, connection: &Connection) {
        let _ = connection;
    }

    /// Called instead of everything else. See [`Protocol::connection_failed`].
    fn connection_failed(&mut self, why: &Lost) {
        let _ = why;
    }

    /// Called last, when the connection is over.
    fn connection_lost(&mut self, why: &Lost) {
        let _ = why;
    }
}

/// Splits the received bytes into frames for a [`FrameReceiver`].
///
/// ```
/// use entwined::{framing::Lines, protocol::{FrameReceiver, Framed, Connection}};
///
/// struct Greeter;
///
/// impl FrameReceiver<Lines> for Greeter {
///     fn frame_received(&mut self, connection: &Connection, _: &mut Lines, name: &[u8]) {
///         connection.write_all(&[b"hello, ", name, b"\r\n"]);
///     }
/// }
///
/// let protocol = Framed::new(Lines::new(512), Greeter);
/// ```
///
/// If a frame makes the receiver [upgrade](Connection::upgrade) the connection, the bytes that the
/// peer sent after that frame are dropped: they arrived unencrypted.
#[derive(Debug)]
pub struct Framed<F, R> {
    frames: Frames<F>,
    receiver: R,
    held: Held,
}

impl<F: Framing, R: FrameReceiver<F>> Framed<F, R> {
    /// Delivers the frames of this framing to `receiver`.
    pub fn new(framing: F, receiver: R) -> Self {
        Framed {
            frames: Frames::new(framing),
            receiver,
            held: Held::default(),
        }
    }

    /// Delivers the frames in `data`, until reading is paused or others should have a turn.
    fn deliver(&mut self, connection: &Connection, data: &mut &[u8]) {
        while !connection.is_closing() && !connection.is_upgrading() {
            if connection.is_reading_paused() {
                return;
            }
            let has_more = !data.is_empty() || self.frames.pending() > 0;
            if has_more && !spend_message() {
                return connection.continue_later();
            }
            match self.frames.next_and_framing(data) {
                Ok(None) => return,
                Ok(Some((frame, framing))) => {
                    self.receiver.frame_received(connection, framing, frame)
                }
                Err(error) => self.fail(connection, &error),
            }
        }
        // What follows an end, or an upgrade, is not for this protocol.
        *data = &[];
    }

    fn fail(&mut self, connection: &Connection, error: &FrameError) {
        self.receiver.frame_failed(connection, error);
        if error.is_fatal() && !connection.is_closing() {
            connection.abort();
        }
    }
}

impl<F: Framing, R: FrameReceiver<F>> Protocol for Framed<F, R> {
    fn connection_made(&mut self, connection: &Connection) {
        self.receiver.connection_made(connection);
    }

    fn upgraded(&mut self, connection: &Connection) {
        self.frames.clear();
        self.held.clear();
        self.receiver.upgraded(connection);
    }

    fn data_received(&mut self, connection: &Connection, data: &[u8]) {
        let mut held = std::mem::take(&mut self.held);
        held.feed(data, |data| self.deliver(connection, data));
        self.held = held;
    }

    fn reading_resumed(&mut self, connection: &Connection) {
        self.data_received(connection, &[]);
    }

    fn end_received(&mut self, connection: &Connection) -> End {
        if !connection.is_closing() {
            match self.frames.finish().map(|frame| frame.map(<[u8]>::to_vec)) {
                Ok(None) => {}
                Ok(Some(frame)) => {
                    self.receiver
                        .frame_received(connection, self.frames.framing_mut(), &frame)
                }
                Err(error) => {
                    self.fail(connection, &error);
                    return End::Close;
                }
            }
        }
        self.receiver.end_received(connection)
    }

    fn pause_writing(&mut self, connection: &Connection) {
        self.receiver.pause_writing(connection);
    }

    fn resume_writing(&mut self, connection: &Connection) {
        self.receiver.resume_writing(connection);
    }

    fn connection_failed(&mut self, why: &Lost) {
        self.receiver.connection_failed(why);
    }

    fn connection_lost(&mut self, why: &Lost) {
        self.receiver.connection_lost(why);
    }
}
