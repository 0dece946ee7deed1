//! Reading what is large on a thread, so that it does not hold the loop up.

use std::sync::{Arc, Mutex, PoisonError};

use entwined::{Handle, deferred::ChainError};

/// Makes a value on a thread of the [reactor's pool](Handle::defer_to_thread). If nobody waits for
/// it any more, it is dropped on a thread too: that takes long if it has many parts.
pub(crate) async fn on_thread<T, E>(
    handle: &Handle,
    make: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: ChainError + Send,
{
    let place = Place {
        value: Arc::default(),
        handle: handle.clone(),
    };
    let there = Arc::downgrade(&place.value);
    let made = handle.defer_to_thread(move |_| {
        let value = make()?;
        if let Some(there) = there.upgrade() {
            *there.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        }
        Ok::<_, E>(())
    });
    made.await?;
    Ok(place.take().expect("the place was there"))
}

/// Where a thread puts a value.
struct Place<T: Send + 'static> {
    value: Arc<Mutex<Option<T>>>,
    handle: Handle,
}

impl<T: Send + 'static> Place<T> {
    fn take(&self) -> Option<T> {
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        value.take()
    }
}

impl<T: Send + 'static> Drop for Place<T> {
    fn drop(&mut self) {
        if let Some(value) = self.take() {
            self.handle.drop_on_thread(value);
        }
    }
}
