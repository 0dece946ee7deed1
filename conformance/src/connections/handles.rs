//! Windows, where handles do not run out: behaviour 43 has nothing to show.

use crate::carrier::Carrier;

/// Never run: this system has a reason.
pub(crate) fn b43_out_of_fds_nobody_hangs_nothing_spins_and_accepting_goes_on<C: Carrier>() {
    unreachable!("see `sys`");
}
