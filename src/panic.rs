//! Panics of the user's code are caught here, and nowhere else.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Calls `function`. A panic becomes an error with the panic's message.
pub(crate) fn catch<R>(function: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(function)).map_err(message_of)
}

/// A function of its own, because there is one `catch` for each closure.
#[cold]
fn message_of(payload: Box<dyn Any + Send>) -> String {
    let message = panic_message(&*payload);
    // The payload's destructor may panic too. What that throws is forgotten: its destructor may do
    // the same.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(payload);
    }
    message
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    #[test]
    fn the_message_of_a_panic_is_its_text() {
        assert_eq!(catch(|| 7), Ok(7));
        assert_eq!(catch(|| panic!("plain")), Err::<(), _>("plain".into()));
        assert_eq!(
            catch(|| panic!("number {}", 7)),
            Err::<(), _>("number 7".into())
        );
    }

    /// Each payload panics with another one when it is dropped.
    #[test]
    fn a_payload_that_panics_when_dropped_goes_no_further() {
        struct Bomb(u32);
        impl Drop for Bomb {
            fn drop(&mut self) {
                if self.0 > 0 {
                    panic_any(Bomb(self.0 - 1));
                }
            }
        }
        let message = catch(|| panic_any(Bomb(3)));
        assert_eq!(message, Err::<(), _>("a panic without a message".into()));
    }
}
