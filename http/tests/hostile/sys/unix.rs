//! Unix.

/// Lets other threads have the processor first. (On Linux the value is the thread's, and its
/// children's.)
pub fn give_way() {
    let _ = rustix::process::nice(10);
}
