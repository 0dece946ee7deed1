//! Pairs the people of all processes that use the same Redis.
//!
//! - `chat:waiting` is a list of those who wait.
//! - `chat:alive:PROCESS` exists as long as a process lives, and for [`LIFE`] after.
//! - `chat:to:PROCESS` is the channel on which a process is sent [`Message`]s. Everything that it
//!   hears comes on this one channel, so that nothing overtakes the news of a pair.

use std::{
    cell::Cell,
    error::Error,
    fmt,
    future::Future,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    str::FromStr,
    task::Poll,
    time::{Duration, Instant},
};

use entwined::{
    Handle,
    deferred::{Deferred, Interrupted, Resolver},
    protocol::{self, Connection, FrameReceiver, Framed, Lost},
    service::Backoff,
    transport::{connect_host, unix},
};
use percent_encoding::percent_decode_str;

use crate::{
    hall::{Event, Hall, Hub, Id, Message},
    resp::{Resp, command},
};

/// How long after its last sign of life a process counts as dead.
const LIFE: Duration = Duration::from_secs(3);

/// How often a process gives a sign of life, and looks for those of its neighbours.
const SIGN: Duration = Duration::from_secs(1);

/// How long Redis may say nothing before it is given up: it, or the way to it, may be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// If more bytes than this wait for Redis, what people say is left out, so that none of them fills
/// the way that all need: much more would end the connection.
const MAX_WAITING: usize = 256 * 1024;

/// Longer messages end the connection to Redis. Those of this program are much shorter.
const MAX_MESSAGE: usize = 256 * 1024;

/// Takes somebody from the list whose process lives, and tells both processes; if there is nobody,
/// puts `ARGV[1]` into the list. The list may have remains of processes that died.
const FIND: &str = "
    local me = cjson.decode(ARGV[1])
    redis.call('LREM', KEYS[1], 0, ARGV[1])
    while true do
        local found = redis.call('LPOP', KEYS[1])
        if not found then
            return redis.call('RPUSH', KEYS[1], ARGV[1])
        end
        local other = cjson.decode(found)
        if redis.call('EXISTS', 'chat:alive:' .. other.process) == 1 then
            local pair = '{\"pair\":[' .. ARGV[1] .. ',' .. found .. ']}'
            redis.call('PUBLISH', 'chat:to:' .. me.process, pair)
            if other.process ~= me.process then
                redis.call('PUBLISH', 'chat:to:' .. other.process, pair)
            end
            return 0
        end
    end";

/// Removes people of the process `ARGV[1]` from the list: some may have gone while Redis was away.
const RETURN: &str = "
    for _, found in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
        if cjson.decode(found).process == ARGV[1] then
            redis.call('LREM', KEYS[1], 0, found)
        end
    end
    return 0";

/// Tells the process `ARGV[1]` which of the others are dead.
const CHECK: &str = "
    for at = 2, #ARGV do
        if redis.call('EXISTS', 'chat:alive:' .. ARGV[at]) == 0 then
            redis.call('PUBLISH', 'chat:to:' .. ARGV[1], '{\"dead\":\"' .. ARGV[at] .. '\"}')
        end
    end
    return 0";

const WAITING: &str = "chat:waiting";

/// Where Redis is, and as whom to use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    place: Place,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Host(String, u16),
    /// A Unix socket.
    Path(String),
}

#[derive(Debug)]
pub struct BadUrl;

impl FromStr for Url {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        if let Some(path) = text.strip_prefix("unix://") {
            return Ok(Url {
                place: Place::Path(path.to_owned()),
                user: None,
                password: None,
                database: None,
            });
        }
        let rest = text.strip_prefix("redis://").ok_or(BadUrl)?;
        let (rest, database) = match rest.split_once('/') {
            Some((rest, "")) => (rest, None),
            Some((rest, database)) => (rest, Some(database.to_owned())),
            None => (rest, None),
        };
        let (login, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| BadUrl)?),
            _ => (place, 6379),
        };
        let some = |text: &str| {
            let text = percent_decode_str(text).decode_utf8().map_err(|_| BadUrl)?;
            Ok((!text.is_empty()).then(|| text.into_owned()))
        };
        Ok(Url {
            place: Place::Host(some(host)?.ok_or(BadUrl)?, port),
            user: some(user)?,
            password: some(password)?,
            database,
        })
    }
}

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is not a URL like redis://localhost:6379 or unix:///run/redis.sock")
    }
}

impl Error for BadUrl {}

/// Connects the hall with Redis, and again whenever the connection is lost.
pub fn join(handle: &Handle, hall: &Rc<Hall>, url: Url) {
    let (task, hall) = (handle.clone(), hall.clone());
    handle.spawn(async move {
        let mut backoff = Backoff::default();
        backoff.max = Duration::from_secs(5);
        loop {
            match connect(&task, &hall, &url, &mut backoff).await {
                Ok(why) => tracing::warn!(%why, "the connection to Redis is lost"),
                Err(error) => tracing::warn!(%error, "no connection to Redis"),
            }
            hall.disconnected();
            task.sleep(backoff.next(0.5)).await;
        }
    });
}

/// Stays until one of the two connections is lost.
async fn connect(
    handle: &Handle,
    hall: &Rc<Hall>,
    url: &Url,
    backoff: &mut Backoff,
) -> Result<String, Box<dyn Error>> {
    // A connection that listens to a channel can do nothing else.
    let (hearing, mut deaf, heard, listening) = open(handle, hall, url).await?;
    let _hears = Ends(hearing.clone());
    let (commands, mut lost, answered, _) = open(handle, hall, url).await?;
    let _commands = Ends(commands.clone());
    let link = Rc::new(Link {
        own: hall.process().clone(),
        commands,
    });
    hearing.write(&command(&["SUBSCRIBE", &channel(hall.process())]));
    // What is sent before is lost, and Redis may hear the other connection first.
    listening
        .add_timeout(handle, PATIENCE)
        .await
        .map_err(|_| "Redis does not listen")?;
    link.command(&["EVAL", RETURN, "1", WAITING, hall.process()]);
    link.sign(hall);
    tracing::info!("connected to Redis");
    backoff.reset();
    hall.connected(link.clone());
    let signs = handle.call_every(SIGN, {
        let (link, hall, handle) = (link.clone(), hall.clone(), handle.clone());
        let hearing = hearing.clone();
        move |_missed| {
            // Each of them answers something every second.
            hearing.write(&command(&["PING"]));
            link.sign(&hall);
            let late = |heard: &Heard| handle.now() - heard.get() > PATIENCE;
            if late(&heard) || late(&answered) {
                tracing::warn!("Redis does not answer");
                link.commands.abort();
            }
        }
    });
    let why = poll_fn(|cx| {
        for end in [&mut deaf, &mut lost] {
            if let Poll::Ready(why) = Pin::new(end).poll(cx) {
                return Poll::Ready(why);
            }
        }
        Poll::Pending
    })
    .await;
    signs.cancel();
    Ok(why?)
}

/// Ends a connection when it is dropped.
struct Ends(Connection);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// When something has come last.
type Heard = Rc<Cell<Instant>>;

/// A connection, why it is lost, when something has come, and that the channel is listened to.
type Opened = (
    Connection,
    Deferred<String, Interrupted>,
    Heard,
    Deferred<(), Interrupted>,
);

async fn open(handle: &Handle, hall: &Rc<Hall>, url: &Url) -> Result<Opened, Box<dyn Error>> {
    let stream = match &url.place {
        Place::Host(host, port) => connect_host(handle, host, *port).await?,
        Place::Path(path) => unix::connect(handle, path).await?,
    };
    let (lost, why) = Deferred::new();
    let (listens, listening) = Deferred::new();
    let heard = Rc::new(Cell::new(handle.now()));
    let receiver = Receiver {
        hall: hall.clone(),
        handle: handle.clone(),
        heard: heard.clone(),
        listens: Some(listens),
        lost: Some(lost),
    };
    let connection = protocol::start(
        handle,
        stream,
        Framed::new(Resp::new(MAX_MESSAGE), receiver),
    );
    if let Some(password) = &url.password {
        let user = url.user.as_deref().unwrap_or("default");
        connection.write(&command(&["AUTH", user, password]));
    }
    if let Some(database) = &url.database {
        connection.write(&command(&["SELECT", database]));
    }
    Ok((connection, why, heard, listening))
}

fn channel(process: &str) -> String {
    format!("chat:to:{process}")
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("it is JSON")
}

/// A connection on which Redis answers.
struct Receiver {
    hall: Rc<Hall>,
    handle: Handle,
    heard: Heard,
    /// Hears when the channel is listened to.
    listens: Option<Resolver<(), Interrupted>>,
    lost: Option<Resolver<String, Interrupted>>,
}

impl FrameReceiver<Resp> for Receiver {
    fn frame_received(&mut self, connection: &Connection, _: &mut Resp, frame: &[u8]) {
        self.heard.set(self.handle.now());
        match frame.first() {
            // No answer of Redis is needed, but all should be good.
            Some(b'-') => {
                tracing::error!(error = %String::from_utf8_lossy(frame), "Redis refused");
                connection.abort();
            }
            Some(b'{') => match serde_json::from_slice(frame) {
                Ok(message) => self.hall.receive(message),
                Err(error) => tracing::warn!(%error, "a message that is not understood"),
            },
            _ if frame == b"subscribe" => {
                if let Some(listens) = self.listens.take() {
                    listens.resolve(());
                }
            }
            _ => {}
        }
    }

    fn connection_lost(&mut self, why: &Lost) {
        self.listens = None;
        if let Some(lost) = self.lost.take() {
            lost.resolve(why.to_string());
        }
    }
}

/// The way to Redis.
struct Link {
    own: Rc<str>,
    commands: Connection,
}

impl Link {
    fn command(&self, words: &[&str]) {
        self.commands.write(&command(words));
    }

    fn sign(&self, hall: &Hall) {
        let life = LIFE.as_millis().to_string();
        let alive = format!("chat:alive:{}", self.own);
        self.command(&["SET", &alive, "1", "PX", &life]);
        let neighbours = hall.neighbours();
        if !neighbours.is_empty() {
            let mut check = vec!["EVAL", CHECK, "0", &*self.own];
            check.extend(neighbours.iter().map(|process| &**process));
            self.command(&check);
        }
    }
}

impl Hub for Link {
    fn find(&self, who: &Id) {
        self.command(&["EVAL", FIND, "1", WAITING, &json(who)]);
    }

    fn forget(&self, who: &Id) {
        self.command(&["LREM", WAITING, "0", &json(who)]);
    }

    fn send(&self, process: &str, message: &Message) {
        let is_said = |event: &Event| matches!(event, Event::Said { .. } | Event::Typing);
        let said = matches!(message, Message::Event { event, .. } if is_said(event));
        if said && self.commands.unsent() > MAX_WAITING {
            return;
        }
        self.command(&["PUBLISH", &channel(process), &json(message)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let url: Url = "redis://localhost".parse().expect("a URL");
        assert_eq!(url.place, Place::Host("localhost".into(), 6379));
        let url: Url = "redis://me:se:cret@[::1]:7/3".parse().expect("a URL");
        assert_eq!(url.place, Place::Host("[::1]".into(), 7));
        assert_eq!(url.user.as_deref(), Some("me"));
        assert_eq!(url.password.as_deref(), Some("se:cret"));
        assert_eq!(url.database.as_deref(), Some("3"));
        // What would end the password, or the host, is encoded (RFC 3986, 2.4).
        let url: Url = "redis://:p%40ss%2f%25@a".parse().expect("a URL");
        assert_eq!(url.password.as_deref(), Some("p@ss/%"));
        let url: Url = "unix:///run/redis.sock".parse().expect("a URL");
        assert_eq!(url.place, Place::Path("/run/redis.sock".into()));
        for text in [
            "localhost",
            "redis://",
            "redis://host:port",
            "redis://:%ff@a",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }
}
