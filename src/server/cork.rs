//! Small writes of many connections, sent in a row when the turn ends.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::VecDeque,
    fmt,
    io::IoSlice,
    rc::Rc,
};

use crate::reactor::{Handle, Label, Origin, TurnEnd};

/// Where corked bytes go.
pub trait Outlet {
    /// Sends as much of `bytes` as it can now, and keeps the rest. It is called at the end of a
    /// turn, with a fresh [share](Handle::spend). A panic in it is reported.
    fn send(&self, bytes: &[u8]);
}

/// Small pieces that connections have to send, collected during a turn and sent one after another
/// when it ends.
///
/// For a small request, the system call that sends a small piece takes longer than all our own
/// work. Made one after another, these calls cost a tenth less than with other requests in between,
/// because the code of each step is then in the processor's caches.
///
/// The price is that a piece waits for the other callbacks of its turn: at most for the turn's
/// budget and one callback. Large pieces are better sent directly.
#[derive(Default)]
pub struct Cork {
    /// What is pushed goes here. Nothing else refers to it.
    corked: RefCell<Rc<Batch>>,
    /// What is being sent, further up the stack.
    sending: RefCell<Rc<Batch>>,
    /// Memory for the next batch.
    spare: Cell<Option<Rc<Batch>>>,
    end: OnceCell<TurnEnd>,
}

/// Pieces that are sent together.
#[derive(Default)]
struct Batch {
    outlets: RefCell<VecDeque<Corked>>,
    bytes: Vec<u8>,
    /// How many of the bytes belong to outlets that were taken.
    taken: Cell<usize>,
}

/// An outlet, and how many bytes it has to send.
type Corked = (Rc<dyn Outlet>, Origin, usize);

impl Batch {
    fn is_empty(&self) -> bool {
        self.outlets.borrow().is_empty()
    }

    /// Sends the pieces that are left. One by one, because an outlet may run user code, which may
    /// even make a turn: the rest is then sent there.
    fn send(&self, handle: &Handle) {
        loop {
            let next = self.outlets.borrow_mut().pop_front();
            let Some((outlet, origin, length)) = next else {
                return;
            };
            let start = self.taken.get();
            self.taken.set(start + length);
            let piece = &self.bytes[start..start + length];
            let _share = handle.core().begin_share();
            handle.contain(origin, move || outlet.send(piece));
        }
    }
}

/// Pieces in one batch. A larger batch saves nothing further, and this many are sent within the
/// budget of a turn or shortly after it.
const MAX_PIECES: usize = 32;

impl Cork {
    /// Maximum bytes that one outlet may cork at a time: 16 KiB. With 32 pieces, that bounds the
    /// memory, and the work that one callback adds, to 512 KiB, which fits into the processor's
    /// second-level cache. The memory is kept. For 10 KiB responses, a request takes 5 % less time,
    /// including the copy.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// The cork of this reactor, shared by all servers.
    pub fn of(handle: &Handle) -> Rc<Self> {
        handle.extension(|| {
            let cork = Rc::new(Cork::default());
            let weak = Rc::downgrade(&cork);
            let origin = Origin::here(Label::new("corked send"));
            let end = handle.on_turn_end(origin, move |handle| {
                if let Some(cork) = weak.upgrade() {
                    cork.flush(handle);
                }
            });
            cork.end.get_or_init(|| end);
            cork
        })
    }

    /// Copies the pieces, and sends them at the end of the turn. Consecutive pieces of one outlet
    /// are sent together. `origin` is for the report if the outlet panics.
    ///
    /// An outlet must not have more than [`MAX_BYTES`](Cork::MAX_BYTES) corked. It counts them
    /// itself, because it knows what was sent.
    pub fn push(&self, outlet: Rc<dyn Outlet>, origin: Origin, pieces: &[IoSlice<'_>]) {
        let mut corked = self.corked.borrow_mut();
        let Some(batch) = Rc::get_mut(&mut corked) else {
            unreachable!("it is shared only while it is sent");
        };
        let (outlets, bytes) = (batch.outlets.get_mut(), &mut batch.bytes);
        let start = bytes.len();
        for piece in pieces {
            bytes.extend_from_slice(piece);
        }
        let length = bytes.len() - start;
        match outlets.back_mut() {
            Some((last, _, before)) if std::ptr::addr_eq(Rc::as_ptr(last), Rc::as_ptr(&outlet)) => {
                *before += length;
            }
            _ => outlets.push_back((outlet, origin, length)),
        }
        let count = outlets.len();
        drop(corked);
        // Each time, because the end of a run withdraws the request and leaves the pieces.
        if let Some(end) = self.end.get() {
            if count >= MAX_PIECES {
                end.request_now();
            } else {
                end.request();
            }
        }
    }

    /// Sends everything that is corked now. If this is called while an outlet sends, the rest of
    /// the pieces that were corked with that outlet's comes first.
    pub fn flush(&self, handle: &Handle) {
        let outer = self.sending.borrow().clone();
        outer.send(handle);
        drop(outer);
        if self.corked.borrow().is_empty() {
            return;
        }
        let mut batch = self.corked.replace(self.spare.take().unwrap_or_default());
        let outer = self.sending.replace(batch.clone());
        batch.send(handle);
        self.sending.replace(outer);
        if let Some(empty) = Rc::get_mut(&mut batch) {
            empty.bytes.clear();
            empty.taken.set(0);
            self.spare.set(Some(batch));
        }
    }
}

impl fmt::Debug for Cork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let corked = self.corked.borrow();
        f.debug_struct("Cork")
            .field("pieces", &corked.outlets.borrow().len())
            .field("bytes", &corked.bytes.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Weak;

    use super::*;
    use crate::Standalone;

    #[derive(Default)]
    struct Log(RefCell<Vec<String>>);

    impl Outlet for Log {
        fn send(&self, bytes: &[u8]) {
            assert_ne!(bytes, b"panic");
            self.0
                .borrow_mut()
                .push(String::from_utf8(bytes.to_vec()).expect("text"));
        }
    }

    #[test]
    fn each_outlet_gets_its_pieces_in_order_whatever_the_others_do() {
        let reactor = Standalone::new().expect("a reactor");
        let handle = reactor.handle();
        let cork = Cork::of(&handle);
        let origin = Origin::here(Label::CONNECTION);
        let (one, other) = (Rc::new(Log::default()), Rc::new(Log::default()));
        let push = |log: &Rc<Log>, pieces: &[&str]| {
            let pieces: Vec<_> = pieces
                .iter()
                .map(|piece| IoSlice::new(piece.as_bytes()))
                .collect();
            cork.push(log.clone(), origin, &pieces);
        };
        push(&one, &["a", "bc"]);
        push(&one, &["d"]);
        push(&other, &["panic"]);
        push(&one, &["e"]);
        push(&other, &["f"]);
        cork.flush(&handle);
        cork.flush(&handle);
        assert_eq!(
            (one.0.take(), other.0.take()),
            (
                vec!["abcd".to_owned(), "e".to_owned()],
                vec!["f".to_owned()]
            )
        );
    }

    /// Makes a turn of its own, in which something is corked and sent.
    struct Nested {
        cork: Weak<Cork>,
        handle: Handle,
        other: Rc<Log>,
    }

    impl Outlet for Nested {
        fn send(&self, _: &[u8]) {
            let cork = self.cork.upgrade().expect("it is kept");
            let origin = Origin::here(Label::CONNECTION);
            cork.push(self.other.clone(), origin, &[IoSlice::new(b"second")]);
            cork.flush(&self.handle);
        }
    }

    /// What was corked later was sent first.
    #[test]
    fn the_order_is_kept_if_an_outlet_makes_a_turn() {
        let reactor = Standalone::new().expect("a reactor");
        let handle = reactor.handle();
        let cork = Cork::of(&handle);
        let origin = Origin::here(Label::CONNECTION);
        let other = Rc::new(Log::default());
        let nested = Nested {
            cork: Rc::downgrade(&cork),
            handle: handle.clone(),
            other: other.clone(),
        };
        cork.push(Rc::new(nested), origin, &[IoSlice::new(b"x")]);
        cork.push(other.clone(), origin, &[IoSlice::new(b"first")]);
        cork.flush(&handle);
        assert_eq!(other.0.take(), ["first", "second"]);
    }

    /// Corks something when it is dropped.
    struct Last(Rc<Cork>, Rc<Log>);

    impl Drop for Last {
        fn drop(&mut self) {
            let origin = Origin::here(Label::CONNECTION);
            let piece = IoSlice::new(b"late");
            self.0.push(self.1.clone(), origin, &[piece]);
        }
    }

    /// Nothing was sent in the next run.
    #[test]
    fn what_is_left_of_a_run_does_not_hold_up_the_next() {
        let reactor = Standalone::new().expect("a reactor");
        let handle = reactor.handle();
        let (cork, log) = (Cork::of(&handle), Rc::new(Log::default()));
        let last = Last(cork.clone(), log.clone());
        let timer = handle.call_later(std::time::Duration::from_secs(60), move || drop(last));
        handle.call_soon_with(Handle::stop);
        reactor.run().expect("a run");
        drop(timer);
        handle.call_soon_with({
            let log = log.clone();
            move |handle| {
                let origin = Origin::here(Label::CONNECTION);
                cork.push(log, origin, &[IoSlice::new(b"answer")]);
                handle.call_later_with(std::time::Duration::from_millis(1), Handle::stop);
            }
        });
        reactor.run().expect("a run");
        assert_eq!(log.0.take().concat(), "lateanswer");
    }
}
