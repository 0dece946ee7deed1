//! The conformance suite on a loop as GUI toolkits have it. It finds the mistakes that are easy to
//! make in a backend, and says which it is.
#![cfg(target_os = "linux")]

use entwined_conformance::verdict;

#[path = "toolkit/mod.rs"]
mod host;

use host::{Mistake, OnToolkit};

entwined_conformance::conformance!(OnToolkit);

/// Checks that the test fails on a backend with this mistake, and that its message has this in it.
#[track_caller]
fn assert_finds(mistake: Mistake, test: &str, message: &str) {
    let said = verdict::<OnToolkit>(test, move || mistake.make());
    let said = said.expect_err("the suite is content");
    assert!(said.contains(message), "it says: {said}");
}

#[test]
fn a_backend_that_does_not_ask_before_it_sleeps() {
    assert_finds(
        Mistake::NoLookBeforeSleep,
        "b58_what_waits_behind_a_callback_is_done_in_the_dialog_that_it_opens",
        "only `Driver::next_turn` tells of what is left",
    );
}

#[test]
fn a_backend_that_wakes_nobody_when_the_run_ends() {
    assert_finds(
        Mistake::SilentEnd,
        "b59_who_waits_in_the_hosts_loop_for_the_end_is_woken",
        "see `Host::ended`",
    );
}

#[test]
fn a_backend_that_watches_the_selector_when_the_run_is_over() {
    assert_finds(
        Mistake::WatchesOn,
        "b59_a_host_whose_run_is_over_sleeps",
        "the host still watches the selector",
    );
}

#[test]
fn a_backend_whose_events_make_slices_for_work_that_is_done() {
    assert_finds(
        Mistake::BlindEvents,
        "b60_what_a_slice_asks_for_and_does_costs_no_slice",
        "found nothing to do",
    );
}

#[test]
fn a_backend_that_makes_two_slices_in_an_iteration() {
    assert_finds(
        Mistake::TwoSlices,
        "b60_a_timer_that_is_overdue_costs_one_slice",
        "found nothing to do",
    );
}
