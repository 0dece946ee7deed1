//! A connection: reads the peer's messages, and runs the methods that it calls.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
};

use super::{
    CallError, Config, Methods, Peer,
    incoming::{Credit, IncomingCall},
    message::{Code, HELLO, Message, Refusal, Wrong},
    methods::Call,
    shared::{Finishing, Inner, Waiting, end},
};
use crate::{
    framing::{FrameError, Frames, Prefixed, Width},
    protocol::{self, Connection, End, Held, Lost, Protocol},
    reactor::{Handle, Label, Origin},
    server::Permit,
    share::spend_message,
    transport::ByteStream,
};

/// Starts to answer a peer's calls with these methods. Returns a handle to call the peer.
///
/// The peer has 10 s to send its first bytes. The connection lasts until one side closes it, it
/// fails, or the reactor's run ends; dropping the [`Peer`] does not end it. To accept connections,
/// use [`serve`](super::serve), which counts them and limits their number.
#[track_caller]
pub fn start(handle: &Handle, stream: impl ByteStream, methods: Methods) -> Peer {
    start_with(handle, stream, methods, Config::default())
}

/// Like [`start`], with custom configuration.
#[track_caller]
pub fn start_with(
    handle: &Handle,
    stream: impl ByteStream,
    methods: Methods,
    config: Config,
) -> Peer {
    let origin = Origin::here(Label::CONNECTION);
    let (peer, place) = launch(handle, Box::new(stream), config, None, origin);
    *place.borrow_mut() = methods;
    peer
}

/// Starts a connection, and returns the place for its methods. Nothing of the peer is read before
/// the next turn.
pub(super) fn launch(
    handle: &Handle,
    stream: Box<dyn ByteStream>,
    config: Config,
    permit: Option<Permit>,
    origin: Origin,
) -> (Peer, Rc<RefCell<Methods>>) {
    let (inner, methods) = (Inner::new(handle, config, origin), Rc::default());
    let protocol = Speaker {
        inner: inner.clone(),
        methods: Rc::clone(&methods),
        hello: Vec::new(),
        frames: frames(config),
        held: Held::default(),
    };
    let connection =
        protocol::start_boxed(handle, stream, Box::new(protocol), permit, origin.location);
    let bounds = protocol::Config {
        max_queued: config
            .max_frame_size
            .saturating_mul(2)
            .saturating_add(config.max_waiting_bytes)
            .saturating_add(1024 * 1024),
        ..protocol::Config::default()
    };
    connection.set_config(bounds);
    connection.write(HELLO);
    let weak = Rc::downgrade(&inner);
    let deadline = handle.call_later(bounds.establish_timeout, move || {
        if let Some(inner) = weak.upgrade() {
            inner.when_quiet(|inner| {
                if !inner.greeted.get() {
                    inner.end("the peer sent no greeting in time");
                }
            });
        }
    });
    inner.deadline(Some(deadline));
    let _ = inner.connection.set(connection);
    inner.watch_idle();
    (Peer::from_inner(inner), methods)
}

fn frames(config: Config) -> Frames<Prefixed> {
    Frames::new(Prefixed::new(Width::U32, config.max_frame_size))
}

/// The protocol below: parses bytes into messages.
struct Speaker {
    inner: Rc<Inner>,
    methods: Rc<RefCell<Methods>>,
    /// The peer's first bytes, until they are complete.
    hello: Vec<u8>,
    frames: Frames<Prefixed>,
    held: Held,
}

impl Speaker {
    /// Handles the messages in `data`, until others should have a turn.
    fn take_frames(&mut self, connection: &Connection, data: &mut &[u8]) {
        while !connection.is_closing() {
            if self.inner.has_many_items() {
                // The rest is held until some are taken.
                return;
            }
            let has_more = !data.is_empty() || self.frames.pending() > 0;
            if has_more && !spend_message() {
                return connection.continue_later();
            }
            let taken = match self.frames.next(data) {
                Ok(None) => return,
                Ok(Some(frame)) => {
                    let parsed = Message::parse(frame);
                    parsed.and_then(|message| take(&self.inner, &self.methods, message))
                }
                Err(FrameError::TooLong { .. }) => Err("the peer sent a frame that is too long"),
                Err(_) => Err("the peer sent an invalid frame"),
            };
            if let Err(why) = taken {
                self.inner.end(why);
            }
        }
        *data = &[];
    }
}

impl Protocol for Speaker {
    fn data_received(&mut self, connection: &Connection, mut data: &[u8]) {
        if !data.is_empty() {
            self.inner.touch();
        }
        if self.hello.len() < HELLO.len() {
            let missing = data.len().min(HELLO.len() - self.hello.len());
            self.hello.extend_from_slice(&data[..missing]);
            data = &data[missing..];
            if !HELLO.starts_with(&self.hello) {
                let same = self.hello.starts_with(&HELLO[..HELLO.len() - 1]);
                return self.inner.end(if same {
                    "the peer uses another version of the RPC protocol"
                } else {
                    "the peer does not speak the RPC protocol"
                });
            }
            if self.hello.len() < HELLO.len() {
                return;
            }
            self.inner.greeted.set(true);
            if !self.inner.ended.get() {
                self.inner.deadline(None);
            }
        }
        let mut held = std::mem::take(&mut self.held);
        held.feed(data, |data| self.take_frames(connection, data));
        self.held = held;
    }

    fn reading_resumed(&mut self, connection: &Connection) {
        if self.hello.len() == HELLO.len() {
            self.data_received(connection, &[]);
        }
    }

    fn end_received(&mut self, _: &Connection) -> End {
        End::Close
    }

    fn resume_writing(&mut self, _: &Connection) {
        self.inner.full.set(false);
        for credit in self.inner.incoming.credits() {
            credit.wake();
        }
    }

    /// Calls can be made before the connection is established, and wait for it.
    fn connection_failed(&mut self, why: &Lost) {
        self.end(&why.to_string(), false);
    }

    fn connection_lost(&mut self, why: &Lost) {
        self.end(&why.to_string(), matches!(why, Lost::Closed));
    }
}

impl Speaker {
    /// Tells everybody who waits for the peer that the connection is over.
    fn end(&self, why: &str, closed: bool) {
        let inner = &self.inner;
        inner.rest();
        inner
            .lost
            .borrow_mut()
            .get_or_insert_with(|| why.to_owned());
        let error = inner.is_lost().expect("just set");
        let orderly = closed && inner.finishing.get().here && inner.is_idle();
        for finished in inner.finished.take() {
            finished.settle(if orderly { Ok(()) } else { Err(error.clone()) });
        }
        // Tasks are cancelled and callers told while nothing is borrowed.
        for call in inner.incoming.take() {
            if let Some(task) = call.task {
                task.cancel();
            }
        }
        for waiting in inner.take_calls() {
            waiting.fail(error.clone());
        }
    }
}

fn take(inner: &Rc<Inner>, methods: &RefCell<Methods>, message: Message<'_>) -> Result<(), Wrong> {
    let answers = matches!(
        message,
        Message::Result { .. } | Message::Error { .. } | Message::End { .. }
    );
    heed(inner, methods, message)?;
    if answers {
        inner.close_if_finished();
    }
    Ok(())
}

fn heed(inner: &Rc<Inner>, methods: &RefCell<Methods>, message: Message<'_>) -> Result<(), Wrong> {
    match message {
        Message::Call {
            id,
            name,
            arguments,
        } => answer(inner, methods, id, name, arguments, None)?,
        Message::Open {
            id,
            credit,
            name,
            arguments,
        } => {
            let allowed = Rc::new(Credit::default());
            allowed.left.set(credit);
            answer(inner, methods, id, name, arguments, Some(allowed))?;
        }
        Message::Cancel { id } => {
            let call = inner.incoming.remove(id);
            if let Some(task) = call.and_then(|call| call.task) {
                task.cancel();
            }
            inner.close_if_finished();
        }
        Message::Finish => inner.finishing.set(Finishing {
            there: true,
            ..inner.finishing.get()
        }),
        Message::Credit { id, more } => {
            if let Some(credit) = inner.incoming.credit_of(id) {
                credit.add(more);
            }
        }
        Message::Result { id, value } => match inner.answered(id)? {
            Some(Waiting::One(resolve)) => resolve(Ok(value)),
            Some(Waiting::Many(shared)) => end(
                &shared,
                Err(CallError::WrongResult(
                    "the method returned one value instead of a stream".to_owned(),
                )),
            ),
            None => {}
        },
        Message::Error { id, code, message } => {
            if let Some(waiting) = inner.answered(id)? {
                waiting.fail(Refusal(code, message.to_owned()).into());
            }
        }
        Message::End { id } => match inner.answered(id)? {
            Some(Waiting::Many(shared)) => end(&shared, Ok(())),
            Some(one) => one.fail(CallError::WrongResult(
                "the method returned a stream instead of one value".to_owned(),
            )),
            None => {}
        },
        Message::Item { id, value } => inner.item(id, value)?,
    }
    Ok(())
}

fn answer(
    inner: &Rc<Inner>,
    methods: &RefCell<Methods>,
    id: u64,
    name: &str,
    arguments: &[u8],
    credit: Option<Rc<Credit>>,
) -> Result<(), Wrong> {
    if inner.incoming.contains(id) {
        return Err("the peer gave two calls the same number");
    }
    if inner.finishing.get().here {
        inner.refuse(id, &Refusal(Code::Finishing, String::new()));
        return Ok(());
    }
    if !inner.incoming.admits(arguments.len(), &inner.config) {
        inner.refuse(id, &Refusal(Code::TooMany, String::new()));
        return Ok(());
    }
    let many = credit.is_some();
    let call = IncomingCall {
        task: None,
        credit,
        bytes: arguments.len(),
    };
    inner.incoming.insert(id, call);
    let handle = &inner.handle;
    let method = methods.borrow().find(name);
    let begun = method.and_then(|method| {
        let call = Call {
            id,
            inner: Rc::downgrade(inner),
        };
        handle
            .contain(inner.origin, || method(call, arguments))
            .unwrap_or_else(|| Err(panicked()))
    });
    match begun {
        Err(refusal) => inner.finish(id, many, Err(refusal)),
        Ok(future) => {
            let task = handle.spawn_as(inner.origin, future);
            inner.incoming.set_task(id, task.canceller());
            let weak = Rc::downgrade(inner);
            task.add_both(move |result| {
                if let Some(inner) = Weak::upgrade(&weak) {
                    inner.finish(id, many, result.unwrap_or_else(|_| Err(panicked())));
                }
                Ok::<_, crate::deferred::Interrupted>(())
            });
        }
    }
    Ok(())
}

fn panicked() -> Refusal {
    Refusal(Code::Panicked, String::new())
}
