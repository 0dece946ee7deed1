//! What Linux can do with a child besides.

use super::Command;

impl Command {
    /// Sets whether the system kills the child (SIGKILL) when this program dies, in whatever way.
    /// The default is `false`.
    ///
    /// On Linux the parent of a child is the thread that started it: the child is killed when that
    /// thread ends, even if the program goes on. What the child has started is not killed, and the
    /// setting is lost if the child changes its user (PR_SET_PDEATHSIG(2const)).
    #[must_use]
    pub fn die_with_parent(mut self, die: bool) -> Self {
        self.plan.extras.more.die_with_parent = die;
        self
    }
}
