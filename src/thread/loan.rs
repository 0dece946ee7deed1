//! Takes a value to a thread, and back.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    job::{Shared, State},
    pool::{Inner, Seat, ThreadPool},
};
use crate::panic::catch;

impl ThreadPool {
    /// Takes a value to a thread that does `work` with it, and back. This needs no reactor. If the
    /// system cannot start the thread after all, the value comes back as it was.
    ///
    /// # Errors
    /// Returns the value if there is no room, or no thread.
    pub(crate) fn lend<T, F>(&self, value: T, work: F) -> Result<Loan<T>, T>
    where
        T: Send + 'static,
        F: FnOnce(&mut T) + Send + 'static,
    {
        let Some(place) = self.inner().place() else {
            return Err(value);
        };
        let result = Arc::new(Shared::default());
        let mut debt = Debt {
            result: result.clone(),
            value: Some(value),
        };
        let number = place.put(Box::new(move |seat: &mut Seat<'_>| {
            let Some(mut value) = debt.value.take() else {
                return;
            };
            let done = match catch(|| work(&mut value)) {
                Ok(()) => Ok(value),
                Err(why) => Err(why),
            };
            drop(debt.result.put(done, || seat.vacate()));
        }));
        Ok(Loan {
            result,
            pool: self.inner().clone(),
            number,
        })
    }
}

/// A value on a thread. If it is dropped, so is the value: here, or when the thread has done its
/// work.
pub(crate) struct Loan<T> {
    result: Arc<Shared<Result<T, String>>>,
    pool: Arc<Inner>,
    number: u64,
}

impl<T> Loan<T> {
    /// Waits for the value. It comes once.
    ///
    /// # Errors
    /// What the work panicked with; the value is lost then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, String>> {
        self.result.poll(cx)
    }
}

impl<T> Drop for Loan<T> {
    fn drop(&mut self) {
        let before = std::mem::replace(&mut *self.result.lock(), State::Unwanted);
        drop(before);
        drop(self.pool.remove(self.number));
    }
}

/// The thread's side of a loan. If it is dropped before the work, the value comes back as it was.
struct Debt<T> {
    result: Arc<Shared<Result<T, String>>>,
    value: Option<T>,
}

impl<T> Drop for Debt<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            drop(self.result.put(Ok(value), || ()));
        }
    }
}
