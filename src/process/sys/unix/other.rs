//! macOS and FreeBSD can do no more for a child.

use entwined_spawn::Spawn;

#[derive(Debug, Default)]
pub(in crate::process) struct More;

impl More {
    pub(super) fn add_to(self, spawn: Spawn) -> Spawn {
        spawn
    }
}
