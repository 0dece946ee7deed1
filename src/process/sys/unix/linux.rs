//! What only Linux can do for a child.

use entwined_spawn::Spawn;

#[derive(Debug, Default)]
pub(in crate::process) struct More {
    pub(in crate::process) die_with_parent: bool,
}

impl More {
    pub(super) fn add_to(self, spawn: Spawn) -> Spawn {
        match self.die_with_parent {
            true => spawn.die_with_parent(),
            false => spawn,
        }
    }
}
