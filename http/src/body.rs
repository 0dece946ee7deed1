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
    AroundLive(BoxStream, Ending),
    /// Frames: data, and trailers behind them.
    Frames(BoxFrames),
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
    pub(super) fn around<S, E>(self, make: impl FnOnce(Body) -> S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + 'static,
        E: Into<BoxError>,
    {
        let ending = match &self.content {
            Content::Live(_, ending) | Content::AroundLive(_, ending) => Some(ending.clone()),
            _ => None,
        };
        let stream = Box::pin(Mapped { stream: make(self) });
        match ending {
            Some(ending) => Content::AroundLive(stream, ending).into(),
            None => Content::Stream(stream).into(),
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
    pub(super) fn into_bytes(self) -> Result<Bytes, Self> {
        match self.content {
            Content::Empty => Ok(Bytes::new()),
            Content::Bytes(bytes) => Ok(bytes),
            content => Err(content.into()),
        }
    }

    pub(super) fn upgrade(take_over: Upgrade) -> Self {
        Content::Upgrade(take_over).into()
    }

    /// Attaches `watch`, which learns when the body begins and ends.
    pub(super) fn watch(&mut self, watch: Watch) {
        if matches!(self.content, Content::Upgrade(_)) {
            if let Content::Upgrade(take_over) = std::mem::take(&mut self.content) {
                watch.upgrade(take_over);
            }
        }
        let live = matches!(self.content, Content::Live(..) | Content::AroundLive(..));
        watch.response_begins(live);
        self.watch = Some(watch);
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
            Content::Stream(_) | Content::Live(..) | Content::AroundLive(..) => {
                f.write_str("Body(stream)")
            }
            Content::Frames(_) => f.write_str("Body(frames)"),
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
        if let Content::Live(_, ending) | Content::AroundLive(_, ending) = &this.content {
            let closing = this
                .watch
                .as_ref()
                .is_some_and(|watch| watch.is_closing(cx));
            if closing {
                ending.set(true);
            }
        }
        let stream = match &mut this.content {
            Content::Empty | Content::Upgrade(_) => return Poll::Ready(None),
            Content::Frames(body) => {
                let frame = body.as_mut().poll_frame(cx);
                if let Some(watch) = &this.watch {
                    watch.body_polled(frame.is_ready());
                }
                return frame;
            }
            Content::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                this.content = Content::Empty;
                if let Some(watch) = &this.watch {
                    watch.body_polled(true);
                }
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Content::Live(_, ending) if ending.get() => {
                this.content = Content::Empty;
                return Poll::Ready(None);
            }
            Content::Stream(stream) | Content::Live(stream, _) | Content::AroundLive(stream, _) => {
                stream
            }
        };
        let item = stream.as_mut().poll_next(cx);
        if let Some(watch) = &this.watch {
            watch.body_polled(item.is_ready());
        }
        let item = ready!(item);
        Poll::Ready(item.map(|result| result.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty | Content::Upgrade(_) => true,
            Content::Bytes(bytes) => bytes.is_empty(),
            Content::Stream(_) | Content::Live(..) | Content::AroundLive(..) => false,
            Content::Frames(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty | Content::Upgrade(_) => SizeHint::with_exact(0),
            Content::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(_) | Content::Live(..) | Content::AroundLive(..) => SizeHint::default(),
            Content::Frames(body) => body.size_hint(),
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
