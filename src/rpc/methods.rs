//! The callee's side.

use std::{
    cell::Cell,
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    future::{Future, poll_fn},
    marker::PhantomData,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Poll, Waker},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Peer,
    connection::Inner,
    message::{self, TooLong},
};

/// The methods that a peer may call.
#[derive(Default)]
pub struct Methods {
    methods: BTreeMap<String, Method>,
}

pub(super) type Method = Rc<dyn Fn(Call, &[u8]) -> Result<Answering, Refusal>>;

/// A call that is being answered.
pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Answer, Refusal>>>>;

/// The result of a call, if it is one value and not a stream's end, ready to be sent.
pub(super) type Answer = Option<Box<dyn Fn(&mut Vec<u8>) -> message::Encoded>>;

/// An error of the wire: its code and its words.
pub(super) struct Refusal(pub(super) u8, pub(super) String);

/// What a method says when it has failed. Any error becomes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(error.to_string())
    }
}

/// What a method is told of the call besides its arguments.
#[derive(Clone, Debug)]
pub struct Call {
    pub(super) id: u64,
    pub(super) inner: Weak<Inner>,
}

impl Call {
    /// The peer that calls, to be called back. None when the connection is over.
    pub fn peer(&self) -> Option<Peer> {
        self.inner.upgrade().map(Peer::from_inner)
    }
}

impl Methods {
    /// None.
    pub fn new() -> Self {
        Methods::default()
    }

    /// Adds a method, or replaces it. It is given the arguments, of any type that serde can read;
    /// what it returns is awaited as a task of its own, which is dropped when the caller cancels or
    /// is gone. A [`Deferred`](crate::deferred::Deferred) will do.
    pub fn add<A, R, F>(&mut self, name: impl Into<String>, method: impl Fn(Call, A) -> F + 'static)
    where
        A: DeserializeOwned,
        R: Serialize + 'static,
        F: Future<Output = Result<R, Failure>> + 'static,
    {
        let method: Method = Rc::new(move |call, arguments| {
            let arguments = message::read(arguments).map_err(|error| Refusal(2, error))?;
            let answer = method(call, arguments);
            Ok(Box::pin(async move {
                let result = answer.await.map_err(|failure| Refusal(0, failure.0))?;
                let answer: Answer = Some(Box::new(move |bytes| message::put(bytes, &result)));
                Ok(answer)
            }))
        });
        self.methods.insert(name.into(), method);
    }

    /// Adds a method whose result is many items. It sends them as it has them, and ends with its
    /// return.
    pub fn add_stream<A, T, F>(
        &mut self,
        name: impl Into<String>,
        method: impl Fn(Call, A, Items<T>) -> F + 'static,
    ) where
        A: DeserializeOwned,
        T: Serialize + 'static,
        F: Future<Output = Result<(), Failure>> + 'static,
    {
        let method: Method = Rc::new(move |call, arguments| {
            let arguments = message::read(arguments).map_err(|error| Refusal(2, error))?;
            let Some(items) = Items::of(&call) else {
                return Err(Refusal(
                    2,
                    "this method has many results; call it as a stream".to_owned(),
                ));
            };
            let answer = method(call, arguments, items);
            Ok(Box::pin(async move {
                answer.await.map_err(|failure| Refusal(0, failure.0))?;
                Ok(None)
            }))
        });
        self.methods.insert(name.into(), method);
    }

    pub(super) fn find(&self, name: &str) -> Result<Method, Refusal> {
        self.methods.get(name).cloned().ok_or_else(|| {
            let alike: Vec<_> = self
                .methods
                .keys()
                .filter(|other| are_alike(name, other))
                .take(3)
                .collect();
            let alike = alike
                .iter()
                .map(|name| format!("{name:?}"))
                .collect::<Vec<_>>()
                .join(", ");
            let hint = if alike.is_empty() {
                String::new()
            } else {
                format!("; it has {alike}")
            };
            Refusal(1, format!("{name:?}{hint}"))
        })
    }
}

/// Whether one may have been meant by the other: the same letters but for two, in whatever order,
/// or the one is a part of the other.
fn are_alike(name: &str, other: &str) -> bool {
    let (name, other) = (name.to_ascii_lowercase(), other.to_ascii_lowercase());
    let mut counts = [0_i32; 256];
    name.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    other
        .bytes()
        .for_each(|byte| counts[usize::from(byte)] -= 1);
    let differences: u32 = counts.iter().map(|count| count.unsigned_abs()).sum();
    differences <= 2 || (!name.is_empty() && (other.contains(&name) || name.contains(&other)))
}

impl fmt::Debug for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.methods.keys()).finish()
    }
}

/// Where a method sends its items.
pub struct Items<T> {
    id: u64,
    inner: Weak<Inner>,
    credit: Rc<Credit>,
    item: PhantomData<fn(T)>,
}

/// How many items a caller can take.
#[derive(Default)]
pub(super) struct Credit {
    pub(super) left: Cell<u32>,
    waiting: RefCell<Option<Waker>>,
}

impl Credit {
    pub(super) fn add(&self, more: u32) {
        self.left.set(self.left.get().saturating_add(more));
        self.wake();
    }

    pub(super) fn wake(&self) {
        let waker = self.waiting.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T: Serialize> Items<T> {
    fn of(call: &Call) -> Option<Self> {
        let credit = call.inner.upgrade()?.credit_of(call.id)?;
        Some(Items {
            id: call.id,
            inner: call.inner.clone(),
            credit,
            item: PhantomData,
        })
    }

    /// Sends an item, as soon as the caller can take one and the connection too.
    ///
    /// # Errors
    /// When it is longer than a frame may be, or the connection is over.
    pub async fn send(&self, item: &T) -> Result<(), Failure> {
        let lost = || Failure("the connection is over".to_owned());
        poll_fn(|cx| {
            let Some(inner) = self.inner.upgrade() else {
                return Poll::Ready(Err(lost()));
            };
            if self.credit.left.get() > 0 && !inner.is_full() {
                return Poll::Ready(Ok(()));
            }
            *self.credit.waiting.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await?;
        let inner = self.inner.upgrade().ok_or_else(lost)?;
        let frame = message::frame(inner.limits.frame, 5, self.id, |bytes| {
            message::put(bytes, item)
        });
        let frame = frame.map_err(|error| Failure(too_long(&error, inner.limits.frame)))?;
        self.credit.left.set(self.credit.left.get() - 1);
        inner.write(&frame);
        Ok(())
    }
}

pub(super) fn too_long(error: &TooLong, limit: usize) -> String {
    match error {
        TooLong::Bytes(count) => format!("it has {count} bytes, and {limit} are allowed"),
        TooLong::Value(what) => what.clone(),
    }
}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items")
            .field("credit", &self.credit.left.get())
            .finish_non_exhaustive()
    }
}
