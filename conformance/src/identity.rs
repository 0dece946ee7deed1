//! The identity of the peer: behaviour 47.

use std::{cell::Cell, rc::Rc};

use super::{
    carrier::Carrier,
    rig::{Scripted, read_to_end},
    streams::converse,
};

pub(super) fn b47_who_the_peer_is_can_be_asked_for<C: Carrier>() {
    let asked = Rc::new(Cell::new(false));
    let seen = asked.clone();
    let protocol = Scripted::new().made(move |connection| {
        C::ask_identity(connection);
        seen.set(true);
        connection.close();
    });
    converse::<C, _>(protocol, None, |mut stream| drop(read_to_end(&mut stream)));
    assert!(asked.get());
}
