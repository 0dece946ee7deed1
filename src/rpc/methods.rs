//! The callee's side: methods.

use std::{
    collections::BTreeMap,
    fmt,
    future::{Future, poll_fn},
    marker::PhantomData,
    mem,
    pin::Pin,
    rc::{Rc, Weak},
    task::Poll,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Failure, Peer,
    incoming::Credit,
    message::{self, Answer, Code, Kind, Refusal},
    shared::Inner,
};
use crate::share::{spend, spend_message};

/// The methods that a peer may call.
#[derive(Default)]
pub struct Methods {
    methods: BTreeMap<String, Method>,
}

pub(super) type Method = Rc<dyn Fn(Call, &[u8]) -> Result<Answering, Refusal>>;

/// A call that is being answered.
pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Answer, Refusal>>>>;

/// The call that a method is answering.
#[derive(Clone, Debug)]
pub struct Call {
    pub(super) id: u64,
    pub(super) inner: Weak<Inner>,
}

impl Call {
    /// The calling peer, for example to call it back. `None` if the connection is over.
    pub fn peer(&self) -> Option<Peer> {
        self.inner.upgrade().map(Peer::from_inner)
    }
}

impl Methods {
    /// Creates an empty set of methods.
    pub fn new() -> Self {
        Methods::default()
    }

    /// Adds or replaces a method. It gets the arguments as any type that serde can deserialize. The
    /// future that it returns runs as a task of its own, which is dropped if the caller cancels or
    /// disconnects. The future may be a [`Deferred`](crate::deferred::Deferred).
    pub fn add<A, R, F>(&mut self, name: impl Into<String>, method: impl Fn(Call, A) -> F + 'static)
    where
        A: DeserializeOwned,
        R: Serialize + 'static,
        F: Future<Output = Result<R, Failure>> + 'static,
    {
        let method: Method = Rc::new(move |call, arguments| {
            let arguments =
                message::read(arguments).map_err(|error| Refusal(Code::WrongArguments, error))?;
            let answer = method(call, arguments);
            Ok(Box::pin(async move {
                let result = answer
                    .await
                    .map_err(|failure| Refusal(Code::Failed, failure.0))?;
                let answer: Answer = Some(Box::new(move |bytes| message::put(bytes, &result)));
                Ok(answer)
            }))
        });
        self.methods.insert(name.into(), method);
    }

    /// Adds a method whose result is a stream of items. The method sends items as they become
    /// available; the stream ends when the method returns.
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
            let arguments =
                message::read(arguments).map_err(|error| Refusal(Code::WrongArguments, error))?;
            let Some(items) = Items::of(&call) else {
                return Err(Refusal(
                    Code::WrongArguments,
                    "this method returns many results; call it as a stream".to_owned(),
                ));
            };
            let answer = method(call, arguments, items);
            Ok(Box::pin(async move {
                answer
                    .await
                    .map_err(|failure| Refusal(Code::Failed, failure.0))?;
                Ok(None)
            }))
        });
        self.methods.insert(name.into(), method);
    }

    pub(super) fn find(&self, name: &str) -> Result<Method, Refusal> {
        self.methods.get(name).cloned().ok_or_else(|| {
            // Comparing takes longer than other messages do: about half a microsecond a name.
            spend(1 + self.methods.len() as u32 / 100);
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
            Refusal(Code::NoSuchMethod, format!("{name:?}{hint}"))
        })
    }
}

/// Whether one name may be a typo of the other: at most two letters differ, in any order, or one
/// name contains the other.
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

/// Sends the items of a method's result.
pub struct Items<T> {
    id: u64,
    inner: Weak<Inner>,
    credit: Rc<Credit>,
    item: PhantomData<fn(T)>,
}

impl<T: Serialize> Items<T> {
    fn of(call: &Call) -> Option<Self> {
        let credit = call.inner.upgrade()?.incoming.credit_of(call.id)?;
        Some(Items {
            id: call.id,
            inner: call.inner.clone(),
            credit,
            item: PhantomData,
        })
    }

    /// Sends an item as soon as the caller accepts one and the connection has room.
    ///
    /// # Errors
    /// Fails if the item is longer than a frame may be, or the call is over: its method has
    /// returned, the caller wants no more, or the connection has ended. Another task may learn of
    /// that here.
    pub async fn send(&self, item: &T) -> Result<(), Failure> {
        let mut place = self.credit.place();
        poll_fn(|cx| {
            let inner = self.open()?;
            if self.credit.left.get() > 0 && !inner.is_full() {
                // A caller that takes as many as there are does not hold the thread.
                if spend_message() {
                    return Poll::Ready(Ok::<_, Failure>(()));
                }
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            place.wait(cx);
            Poll::Pending
        })
        .await?;
        drop(place);
        let inner = self.open()?;
        // Before the item is encoded, which calls the program's code: that may send another.
        let credit = Spent::one_of(&self.credit);
        let frame = message::frame(inner.config.max_frame_size, Kind::Item, self.id, |bytes| {
            message::put(bytes, item)
        })?;
        credit.keep();
        inner.write(&frame);
        Ok(())
    }

    /// The connection, as long as the caller waits for items.
    fn open(&self) -> Result<Rc<Inner>, Failure> {
        let inner = self.inner.upgrade();
        inner
            .filter(|inner| {
                let credit = inner.incoming.credit_of(self.id);
                credit.is_some_and(|credit| Rc::ptr_eq(&credit, &self.credit))
            })
            .ok_or_else(|| Failure("the call is over".to_owned()))
    }
}

/// A unit of credit that was taken. It goes back if no item is sent for it.
struct Spent<'a>(&'a Credit);

impl<'a> Spent<'a> {
    fn one_of(credit: &'a Credit) -> Self {
        credit.left.set(credit.left.get() - 1);
        Spent(credit)
    }

    fn keep(self) {
        mem::forget(self);
    }
}

impl Drop for Spent<'_> {
    fn drop(&mut self) {
        self.0.add(1);
    }
}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items")
            .field("credit", &self.credit.left.get())
            .finish_non_exhaustive()
    }
}
