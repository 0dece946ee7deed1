//! FLTK holds a thousand calls of `Fl::awake`, and refuses more. Needs a display.

use std::{cell::Cell, rc::Rc, time::Duration};

#[test]
fn work_is_done_though_the_ring_of_awake_was_full() {
    let attachment = on_fltk::attach_stopped().expect("a reactor");
    attachment.start().expect("it starts");
    let handle = attachment.handle();
    let serve = |count: usize| {
        for _ in 0..count {
            on_fltk::iterate(Some(Duration::from_millis(50)));
        }
    };
    serve(3);
    let calls = Rc::new(Cell::new(0));
    let call = || {
        let calls = calls.clone();
        handle.call_soon(move || calls.set(calls.get() + 1));
    };
    on_fltk::fill_ring();
    call();
    serve(3);
    assert_eq!(calls.get(), 1);
    call();
    serve(3);
    assert_eq!(calls.get(), 2);
    // What keeps the loop from its sleep when a run ends.
    on_fltk::fill_ring();
    handle.stop();
    serve(3);
    assert!(!handle.is_running());
    attachment.start().expect("it starts again");
    call();
    serve(3);
    assert_eq!(calls.get(), 3);
}
