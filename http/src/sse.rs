//! Server-sent events: the `text/event-stream` of the HTML standard, section 9.2.

use std::{
    fmt::Write,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;

use super::{
    Body, Request, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use entwined::{
    broadcast::{Broadcast, Received, Subscriber},
    reactor::Handle,
    task::Sleep,
};

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    text: String,
}

impl Event {
    /// Makes an event with this data, which may have several lines.
    pub fn data(data: &str) -> Self {
        let mut event = Event::default();
        // In this format CR, LF and CR LF all end a line.
        for line in data.replace("\r\n", "\n").split(['\n', '\r']) {
            event.field("data", line);
        }
        event
    }

    /// Sets the event's type. The default is `message`.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.field("event", name);
        self
    }

    /// Sets the event's id. A client that reconnects sends the last one as `Last-Event-ID`.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.field("id", id);
        self
    }

    /// Tells the client how long to wait before it reconnects. Sent in whole milliseconds.
    #[must_use]
    pub fn retry(mut self, wait: Duration) -> Self {
        self.field("retry", &wait.as_millis().to_string());
        self
    }

    fn field(&mut self, name: &str, value: &str) {
        // A line end would start another field.
        let value: String = value
            .chars()
            .filter(|character| !matches!(character, '\r' | '\n' | '\0'))
            .collect();
        writeln!(self.text, "{name}: {value}").expect("a string takes everything");
    }

    fn into_bytes(mut self) -> Bytes {
        self.text.push('\n');
        self.text.into()
    }
}

/// After this much silence we send a comment, so that a write fails if the peer is gone.
const SILENCE: Duration = Duration::from_secs(15);

/// Makes a response that sends the items of `events` as they come, as fast as the client reads. It
/// ends with the stream or with the reactor's run.
///
/// A stream of states should skip states that nobody has read. Then a slow client costs no memory.
pub fn response(handle: &Handle, events: impl Stream<Item = Event> + 'static) -> Response {
    let stream = Lines {
        events: Box::pin(events),
        silence: handle.sleep(SILENCE),
        handle: handle.clone(),
    };
    let mut response = Response::new(Body::live(stream));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Makes a response that sends the messages of a channel as events, starting with the oldest one
/// kept. Each event has an id, so a client that reconnects gets the messages it has not seen, as
/// far as they are kept.
///
/// `event` turns a message into an event. It may also make an event for messages that were
/// [missed](Received::Missed). If it returns `None`, nothing is sent. A slow client misses messages
/// and costs no memory.
///
/// ```
/// use entwined::broadcast::{Broadcast, Received};
/// use entwined_http::{Request, Router, sse};
///
/// let news = Broadcast::<String>::new(100);
/// let router = Router::new().get("/news", {
///     let news = news.clone();
///     move |request: Request| {
///         sse::follow(&request, &news, |received| match received {
///             Received::Message { message, .. } => Some(sse::Event::data(&message)),
///             Received::Missed(count) => {
///                 Some(sse::Event::data(&count.to_string()).name("missed"))
///             }
///         })
///     }
/// });
/// # drop(router);
/// ```
pub fn follow<T: 'static>(
    request: &Request,
    channel: &Broadcast<T>,
    event: impl FnMut(Received<T>) -> Option<Event> + Unpin + 'static,
) -> Response {
    let epoch = channel.epoch();
    let last = request.header("last-event-id").and_then(|text| {
        let (of, number) = text.split_once('-')?;
        (u64::from_str_radix(of, 16) == Ok(epoch)).then(|| number.parse().ok())?
    });
    let subscriber = match last {
        Some(last) => channel.subscribe_after(last),
        None => channel.subscribe_to_kept(),
    };
    response(
        request.handle(),
        Followed {
            subscriber,
            epoch,
            event,
        },
    )
}

struct Followed<T, F> {
    subscriber: Subscriber<T>,
    epoch: u64,
    event: F,
}

impl<T, F: FnMut(Received<T>) -> Option<Event> + Unpin> Stream for Followed<T, F> {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let this = &mut *self;
        loop {
            let Some(received) = ready!(Pin::new(&mut this.subscriber).poll_next(cx)) else {
                return Poll::Ready(None);
            };
            let id = match &received {
                Received::Message { id, .. } => Some(*id),
                Received::Missed(_) => None,
            };
            if let Some(event) = (this.event)(received) {
                return Poll::Ready(Some(match id {
                    Some(id) => event.id(&format!("{:x}-{id}", this.epoch)),
                    None => event,
                }));
            }
        }
    }
}

struct Lines {
    events: Pin<Box<dyn Stream<Item = Event>>>,
    silence: Sleep,
    handle: Handle,
}

impl Stream for Lines {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let item = match this.events.as_mut().poll_next(cx) {
            Poll::Ready(event) => event.map(|event| Ok(event.into_bytes())),
            Poll::Pending => match Pin::new(&mut this.silence).poll(cx) {
                Poll::Ready(()) => Some(Ok(Bytes::from_static(b":\n\n"))),
                Poll::Pending => return Poll::Pending,
            },
        };
        this.silence.reset(this.handle.now() + SILENCE);
        Poll::Ready(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_written_as_the_standard_says() {
        let event = Event::data("a\nb\r\nc")
            .name("state\nid: 7")
            .id("1")
            .retry(Duration::from_secs(2));
        let expected = "data: a\ndata: b\ndata: c\nevent: stateid: 7\nid: 1\nretry: 2000\n\n";
        assert_eq!(event.into_bytes(), expected.as_bytes());
    }
}
