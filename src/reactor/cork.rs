//! What is sent when the turn ends.

// Only the HTTP server corks.
#![cfg_attr(not(feature = "http"), expect(dead_code))]

use std::{cell::RefCell, io::IoSlice, rc::Rc};

use super::{Core, Moment, Origin};

/// Where corked bytes go.
pub(crate) trait Outlet {
    /// Sends them as far as that is possible now, and keeps the rest.
    fn send(&self, bytes: &[u8]);
}

/// Small pieces that connections have to send, collected for the time of a turn and sent one after
/// another.
///
/// To send one takes the kernel longer than all the rest of a small request takes us. In a row
/// these calls cost less by a tenth than each of them between two requests, as the processor then
/// has the kernel's code in its caches, and ours before and after.
#[derive(Default)]
pub(crate) struct Cork(RefCell<Corked>);

#[derive(Default)]
struct Corked {
    outlets: Vec<(Rc<dyn Outlet>, Origin, usize)>,
    bytes: Vec<u8>,
}

/// Pieces in a row: more of them cost no less, and all that are there are sent within the budget of
/// a turn, or just after it.
const MOST_PIECES: usize = 32;

/// Bytes that may be corked at a time by one outlet: so all of them together are 512 KiB, and what
/// one callback adds, which fits into the processor's second cache, where they are copied to and
/// sent from. The memory is kept, at most twice as much. Where answers have 10 KiB, a request takes
/// 5 % less for it, the copy included.
pub(crate) const MOST_BYTES: usize = 16 * 1024;

impl Cork {
    pub(crate) fn is_full(&self) -> bool {
        self.0.borrow().outlets.len() >= MOST_PIECES
    }

    /// Takes a copy of the pieces. What one outlet has in a row is sent as one.
    pub(crate) fn push(&self, outlet: Rc<dyn Outlet>, origin: Origin, pieces: &[IoSlice<'_>]) {
        let Corked { outlets, bytes } = &mut *self.0.borrow_mut();
        let start = bytes.len();
        for piece in pieces {
            bytes.extend_from_slice(piece);
        }
        let length = bytes.len() - start;
        match outlets.last_mut() {
            Some((last, _, before)) if std::ptr::addr_eq(Rc::as_ptr(last), Rc::as_ptr(&outlet)) => {
                *before += length
            }
            _ => outlets.push((outlet, origin, length)),
        }
    }
}

impl Core {
    /// Sends what is corked. A panic of a stream is reported.
    pub(crate) fn uncork(&self) {
        if self.cork.0.borrow().outlets.is_empty() {
            return;
        }
        // Taken out, since a layer of the program's may do anything, even make a turn.
        let mut corked = self.cork.0.take();
        let (mut rest, waited) = (&corked.bytes[..], self.meter.waited());
        let mut last = None;
        for (outlet, origin, length) in corked.outlets.drain(..) {
            let (piece, after) = rest.split_at(length);
            rest = after;
            self.contain(origin, || outlet.send(piece));
            last = Some(origin);
        }
        if let Some(origin) = last {
            let duration = self.meter.account(origin.kind, 0, Moment::now());
            self.meter.record(origin, duration, waited);
        }
        corked.bytes.clear();
        let mut present = self.cork.0.borrow_mut();
        if present.outlets.is_empty() {
            *present = corked;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::*;
    use crate::{Standalone, reactor::Kind};

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
        let core = reactor.handle().core().clone();
        let origin = Origin {
            kind: Kind::Http,
            location: Location::caller(),
        };
        let (one, other) = (Rc::new(Log::default()), Rc::new(Log::default()));
        let push = |log: &Rc<Log>, pieces: &[&str]| {
            let pieces: Vec<_> = pieces
                .iter()
                .map(|piece| IoSlice::new(piece.as_bytes()))
                .collect();
            core.cork.push(log.clone(), origin, &pieces);
        };
        push(&one, &["a", "bc"]);
        push(&one, &["d"]);
        push(&other, &["panic"]);
        push(&one, &["e"]);
        push(&other, &["f"]);
        core.uncork();
        core.uncork();
        assert_eq!(
            (one.0.take(), other.0.take()),
            (
                vec!["abcd".to_owned(), "e".to_owned()],
                vec!["f".to_owned()]
            )
        );
    }
}
