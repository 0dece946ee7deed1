//! Runs a test on a reactor of its own.

use std::{cell::RefCell, rc::Rc};

use entwined::{Handle, Standalone};

/// Runs a future to its end. A panic in it fails the test.
pub fn run<T: 'static, F: Future<Output = T> + 'static>(program: impl FnOnce(Handle) -> F) -> T {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let result = Rc::new(RefCell::new(None));
    let (slot, task) = (result.clone(), handle.spawn(program(handle.clone())));
    let watching = handle.clone().spawn(async move {
        *slot.borrow_mut() = Some(task.await);
        handle.stop().expect("it runs");
    });
    watching.detach();
    reactor.run().expect("a run");
    result.take().expect("an end").expect("no panic")
}
