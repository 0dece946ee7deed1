//! Unix.

use std::fs;

/// Lets other threads have the processor first. (On Linux the value is the thread's, and its
/// children's.)
pub fn give_way() {
    let _ = rustix::process::nice(10);
}

/// For how many clock ticks (mostly 10 ms) another system has had this one's processors since they
/// started: `steal` in proc_stat(5), which only Linux has.
pub fn steal() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let all = text.lines().next().unwrap_or_default();
    let ticks = all.split_whitespace().nth(8);
    ticks.and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}
