//! What Windows can do with a child besides.

use super::Command;

impl Command {
    /// Sets whether the system ends the child when this program ends, in whatever way. The default
    /// is `false`.
    ///
    /// What the child has started ends with it only if it leads a [process
    /// group](Command::process_group), and as long as it runs itself.
    #[must_use]
    pub fn die_with_parent(mut self, die: bool) -> Self {
        self.plan.extras.die_with_parent = die;
        self
    }
}
