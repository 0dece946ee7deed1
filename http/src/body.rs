//! Bodies of responses.

use std::{
    borrow::Cow,
    cell::Cell,
    error::Error,
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Frame, SizeHint};

use super::pace::{Upgrade, Watch};

type BoxError = Box<dyn Error + Send + Sync>;
type BoxFrames = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError>>>;
type BoxStream = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>>>>;

/// The body of a response: bytes in memory, or a stream of them.
///
/// A stream is polled only as fast as the peer reads.
#[derive(Default)]
pub struct Body {
    content: Content,
    /// Reports the body's progress and end to the connection.
    watch: Option<Watch>,
}

#[derive(Default)]
enum Content {
    #[default]
    Empty,
    Bytes(Bytes),
    Stream(BoxStream),
    /// A stream without an end of its own. The server's shutdown ends it.
    Live(BoxStream, Ending),
    /// A stream made of a live body. When the server shuts down, the live body ends, and this one
    /// finishes: a compressed stream has an end that decoders want.
    #[cfg_attr(not(feature = "compression"), expect(dead_code))]
    AroundLive(BoxFrames, Ending),
    /// Frames: data, and trailers behind them.
    Frames(BoxFrames),
    /// The rest of a frame that was too large to be given at once, and what follows it.
    Rest(Bytes, Box<Content>),
    /// The end of HTTP on this connection: it is handed over (101).
    Upgrade(Upgrade),
}

/// Whether the server's shutdown has ended a live body. A body shares it with those around it.
type Ending = Rc<Cell<bool>>;

impl Body {
    /// An empty body.
    pub fn empty() -> Self {
        Body::default()
    }

    /// Sends the items of `stream` as they come. An error closes the connection, so that the peer
    /// notices that the body is incomplete.
    pub fn stream<S, E>(stream: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + 'static,
        E: Into<BoxError>,
    {
        Content::Stream(Box::pin(Mapped { stream })).into()
    }

    /// Like [`stream`](Body::stream), for a stream that has no end of its own. When the reactor
    /// stops, the body ends at once, as a complete response.
    pub fn live<S, E>(stream: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + 'static,
        E: Into<BoxError>,
    {
        Content::Live(Box::pin(Mapped { stream }), Ending::default()).into()
    }

    /// Makes a body of this one. The new one is live if this one is.
    #[cfg(feature = "compression")]
    pub(super) fn around<B>(self, make: impl FnOnce(Body) -> B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = BoxError> + 'static,
    {
        let ending = self.content.ending().cloned();
        let frames = Box::pin(make(self));
        match ending {
            Some(ending) => Content::AroundLive(frames, ending).into(),
            None => Content::Frames(frames).into(),
        }
    }

    /// Sends the frames of a body of the [`http_body`] kind: data, and [trailers](Frame::trailers).
    /// HTTP/2 sends trailers as they are; HTTP/1.1 only those that the response announces in
    /// `Trailer`, and only to a client that takes them (`TE: trailers`).
    pub fn frames<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        Content::Frames(Box::pin(MappedFrames { body })).into()
    }

    /// Returns the bytes if they are all in memory.
    #[cfg(feature = "client")]
    pub(super) fn into_bytes(mut self) -> Result<Bytes, Self> {
        match std::mem::take(&mut self.content) {
            Content::Empty => Ok(Bytes::new()),
            Content::Bytes(bytes) => Ok(bytes),
            content => Err(content.into()),
        }
    }

    pub(super) fn upgrade(take_over: Upgrade) -> Self {
        Content::Upgrade(take_over).into()
    }

    /// Whether it is this text, in memory.
    pub(super) fn is_text(&self, text: &str) -> bool {
        matches!(&self.content, Content::Bytes(bytes) if *bytes == text)
    }

    /// Whether it stands for an upgrade.
    pub(super) fn is_upgrade(&self) -> bool {
        matches!(self.content, Content::Upgrade(_))
    }

    /// Attaches `watch`, which learns when the body begins and ends.
    pub(super) fn watch(&mut self, watch: Watch) {
        if self.is_upgrade() {
            if let Content::Upgrade(take_over) = std::mem::take(&mut self.content) {
                watch.upgrade(take_over);
            }
        }
        let live = self.content.ending().is_some();
        watch.response_begins(live);
        self.watch = Some(watch);
    }
}

impl Drop for Body {
    /// What is dropped is the program's. If that panics, it must not take the connection with it:
    /// the end of the response may still be on its way, and others come after it.
    fn drop(&mut self) {
        let content = std::mem::take(&mut self.content);
        if let (Some(watch), false) = (&self.watch, content.is_plain()) {
            watch.contain(|| drop(content));
        }
    }
}

impl From<Content> for Body {
    fn from(content: Content) -> Self {
        Body {
            content,
            watch: None,
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Content::Bytes(bytes).into()
    }
}

macro_rules! owned {
    ($($type:ty)*) => {
        $(impl From<$type> for Body {
            fn from(owned: $type) -> Self {
                Bytes::from(owned).into()
            }
        })*
    };
}

owned! { Vec<u8> Box<[u8]> String }

impl From<Box<str>> for Body {
    fn from(text: Box<str>) -> Self {
        String::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        text.as_bytes().into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

impl<T> From<Cow<'static, T>> for Body
where
    T: ToOwned + ?Sized,
    &'static T: Into<Body>,
    T::Owned: Into<Body>,
{
    fn from(cow: Cow<'static, T>) -> Self {
        match cow {
            Cow::Borrowed(borrowed) => borrowed.into(),
            Cow::Owned(owned) => owned.into(),
        }
    }
}

/// The empty body.
impl From<()> for Body {
    fn from((): ()) -> Self {
        Body::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Empty => f.write_str("Body(empty)"),
            Content::Upgrade(_) => f.write_str("Body(upgrade)"),
            Content::Bytes(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Content::Stream(_) | Content::Live(..) => f.write_str("Body(stream)"),
            Content::Frames(_) | Content::AroundLive(..) => f.write_str("Body(frames)"),
            Content::Rest(..) => f.write_str("Body(rest)"),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(ending) = this.content.ending() {
            let closing = this
                .watch
                .as_ref()
                .is_some_and(|watch| watch.is_closing(cx));
            if closing {
                ending.set(true);
            }
        }
        let Some(watch) = &this.watch else {
            return this.content.poll_frame(cx);
        };
        // hyper asks again and again for what comes after empty pieces.
        let frame = loop {
            match this.content.poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) if is_empty(&frame) => {
                    if !watch.spend() {
                        cx.waker().wake_by_ref();
                        break Poll::Pending;
                    }
                }
                frame => break frame,
            }
        };
        let frame = match (frame, watch.max_piece()) {
            (Poll::Ready(Some(Ok(frame))), Some(most)) => {
                let frame = this.content.keep_rest(frame, most);
                Poll::Ready(Some(Ok(frame.map_data(|bytes| watch.count(bytes)))))
            }
            (frame, _) => frame,
        };
        watch.body_polled(match &frame {
            Poll::Pending => None,
            Poll::Ready(Some(Ok(frame))) => Some(frame.data_ref().map_or(0, Bytes::len)),
            Poll::Ready(_) => Some(0),
        });
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

/// Whether this is a piece without a byte.
pub(super) fn is_empty(frame: &Frame<Bytes>) -> bool {
    frame.data_ref().is_some_and(Bytes::is_empty)
}

impl Content {
    /// Whether there is nothing of the program's to be dropped.
    fn is_plain(&self) -> bool {
        matches!(self, Content::Empty | Content::Bytes(_))
    }

    /// How a live body learns that it must end.
    fn ending(&self) -> Option<&Ending> {
        match self {
            Content::Live(_, ending) | Content::AroundLive(_, ending) => Some(ending),
            Content::Rest(_, next) => next.ending(),
            _ => None,
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Content::Empty | Content::Upgrade(_) => Poll::Ready(None),
            Content::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Content::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Content::Rest(bytes, next) => {
                let bytes = std::mem::take(bytes);
                *self = std::mem::take(&mut **next);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Content::Live(_, ending) if ending.get() => {
                *self = Content::Empty;
                Poll::Ready(None)
            }
            Content::Stream(stream) | Content::Live(stream, _) => {
                let item = ready!(stream.as_mut().poll_next(cx));
                Poll::Ready(item.map(|result| result.map(Frame::data)))
            }
            Content::Frames(body) | Content::AroundLive(body, _) => body.as_mut().poll_frame(cx),
        }
    }

    /// Shortens a frame to `most` bytes. The rest is the next one.
    fn keep_rest(&mut self, frame: Frame<Bytes>, most: usize) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(mut bytes) => {
                if bytes.len() > most {
                    let rest = bytes.split_off(most);
                    *self = match std::mem::take(self) {
                        Content::Empty => Content::Bytes(rest),
                        next => Content::Rest(rest, Box::new(next)),
                    };
                }
                Frame::data(bytes)
            }
            Err(other) => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Content::Empty | Content::Upgrade(_) => true,
            Content::Bytes(bytes) => bytes.is_empty(),
            Content::Stream(_) | Content::Live(..) | Content::Rest(..) => false,
            Content::Frames(body) | Content::AroundLive(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Empty | Content::Upgrade(_) => SizeHint::with_exact(0),
            Content::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(_) | Content::Live(..) => SizeHint::default(),
            Content::Frames(body) | Content::AroundLive(body, _) => body.size_hint(),
            Content::Rest(bytes, next) => {
                let (rest, next) = (bytes.len() as u64, next.size_hint());
                let mut hint = SizeHint::new();
                hint.set_lower(rest + next.lower());
                if let Some(upper) = next.upper() {
                    hint.set_upper(rest + upper);
                }
                hint
            }
        }
    }
}

pin_project_lite::pin_project! {
    /// A stream with its errors boxed.
    struct Mapped<S> {
        #[pin]
        stream: S,
    }
}

impl<S, E> Stream for Mapped<S>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: Into<BoxError>,
{
    type Item = Result<Bytes, BoxError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.project()
            .stream
            .poll_next(cx)
            .map(|item| item.map(|result| result.map_err(Into::into)))
    }
}

pin_project_lite::pin_project! {
    /// Frames with their errors boxed.
    struct MappedFrames<B> {
        #[pin]
        body: B,
    }
}

impl<B> http_body::Body for MappedFrames<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.project()
            .body
            .poll_frame(cx)
            .map(|frame| frame.map(|result| result.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
