//! Readiness of what only Unix has: more of behaviour 30.

use std::{
    cell::Cell,
    io::{self, Read, Write},
    os::fd::AsRawFd,
    rc::Rc,
};

use super::{rig::Rig, sys, timers::assert_all_served};
use entwined::reactor::{Direction, Interest, Registration};

pub(super) fn b30_a_bad_fd_is_an_error_to_its_owner_and_the_loop_lives() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    let told = Rc::new(Cell::new(false));
    let seen = told.clone();
    // A backend may refuse it at once, or report it by an event.
    rig.handle.spawn(async move {
        let bad = sys::file_that_cannot_be_read();
        match Registration::new(&handle, bad, Interest::READABLE) {
            Err(refused) => assert!(refused.object.as_raw_fd() >= 0),
            Ok(source) => {
                let read = source
                    .io(Direction::Read, |mut file| file.read(&mut [0]))
                    .await;
                read.expect_err("it cannot be read");
            }
        }
        seen.set(true);
    });
    assert_all_served(&rig);
    assert!(told.get(), "the owner was not told");
}

pub(super) fn b30_a_broken_socket_is_an_error_to_its_owner_and_the_loop_lives() {
    let rig = Rig::new();
    let (ours, theirs) = sys::pair();
    ours.set_nonblocking(true).expect("an option");
    let source = Registration::new(&rig.handle, ours, Interest::BOTH).expect("it can be watched");
    drop(theirs);
    let told = Rc::new(Cell::new(None));
    let kept = told.clone();
    rig.handle.spawn(async move {
        let written = source
            .io(Direction::Write, |mut socket| socket.write(b"!"))
            .await;
        kept.set(Some(written.expect_err("nobody is there").kind()));
    });
    assert_all_served(&rig);
    assert_eq!(told.get(), Some(io::ErrorKind::BrokenPipe));
}
