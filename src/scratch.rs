//! Memory for the time of one call.

use std::{
    cell::RefCell,
    fmt,
    ops::{Deref, DerefMut},
};

/// How many buffers a thread keeps. Calls nest as deep as streams are wrapped, and a dialog in a
/// callback nests them once more.
const MAX_KEPT: usize = 4;

/// A buffer of [`Scratch::SIZE`] initialized bytes for the time of one call.
///
/// Everything on the thread shares a few of them, so no connection keeps memory while it waits.
/// Dropping a buffer gives it back.
pub struct Scratch(Vec<u8>);

impl Scratch {
    /// The number of bytes of a buffer.
    pub const SIZE: usize = 64 * 1024;

    /// Takes a buffer. Its bytes are those of an earlier use. Calls may nest: each gets a buffer of
    /// its own.
    pub fn take() -> Self {
        let kept = KEPT.try_with(|kept| kept.borrow_mut().pop()).ok().flatten();
        Scratch(kept.unwrap_or_else(|| vec![0; Scratch::SIZE]))
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The bytes may be somebody's secret.
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // Fails when the thread is ending, and the list with it.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < MAX_KEPT {
                kept.push(buffer);
            }
        });
    }
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_nest_and_are_used_again() {
        let mut outer = Scratch::take();
        outer[0] = 1;
        let place = outer.as_ptr();
        let inner = Scratch::take();
        assert_ne!(inner.as_ptr(), place);
        drop(inner);
        drop(outer);
        let again = Scratch::take();
        assert_eq!((again.as_ptr(), again.len()), (place, Scratch::SIZE));
    }
}
