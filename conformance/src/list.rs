//! The list of all tests.

use super::{
    behaviours::{BEHAVIOURS, number},
    calls,
    carrier::{self, Carrier},
    connecting, connections, endings, identity, leftovers, life, readiness, reentrancy, seam,
    sharing, streams, threads, timers,
};
#[cfg(unix)]
use super::{connecting_unix, readiness_unix, signals, sockets};

/// Calls the given macro with the tokens in brackets followed by all tests in groups. The tests are
/// listed only here.
///
/// `alone` after a name means that the test measures time or changes the process, so no other test
/// may run at the same time.
#[doc(hidden)]
#[macro_export]
macro_rules! __for_each_conformance_test {
    ($($callback:ident)::* ! [$($args:tt)*]) => {
        $($callback)::* ! { [$($args)*]
            life {
                b01_stop_before_run_is_refused,
                b01_run_while_running_is_refused,
                b01_a_second_stop_is_refused,
                b02_a_reactor_that_has_stopped_runs_again,
                b02_one_reactor_after_another,
                b02_two_reactors_beside_each_other,
                b03_calls_made_before_run_happen_in_order,
                b03_nothing_runs_before_run,
                b04_stop_from_a_timer,
                b04_stop_from_a_posted_call,
                b04_stop_from_a_connection_callback,
                b04_stop_from_a_failed_connect,
                b04_stop_from_a_task,
                b05_phases_run_in_order_and_before_may_wait,
                b05_connections_are_lost_between_during_and_after,
                b05_a_failing_phase_is_reported_and_the_rest_still_run,
                b05_each_hook_runs_once,
                b05_a_hook_can_be_removed_from_inside_another,
                b06_each_open_connection_hears_connection_lost_once,
                b06_no_user_code_runs_after_the_end,
                b07_a_failing_connection_lost_does_not_keep_the_others_from_theirs,
                b08_a_turn_without_a_wait_returns_at_once,
                b08_a_turn_with_a_wait_returns_when_something_happened,
                b09_attach_to_a_loop_that_already_runs_and_again_after_a_stop,
                b09_detach_ends_the_reactor_and_leaves_the_host_to_another,
                b09_quitting_the_host_does_not_end_the_run,
            }
            signals when unix {
                b10_a_reactor_that_was_not_asked_leaves_signals_to_the_host alone,
                b10_sigint_and_sigterm_stop_a_run_in_order alone,
                b10_a_signal_before_the_run_is_kept_for_it alone,
                b10_sigchld_reaps,
                b10_each_who_watches_a_signal_hears_of_it alone,
            }
            timers {
                b11_never_early,
                b11_late_by_less_than_a_millisecond_on_an_idle_loop alone,
                b12_due_at_the_same_instant_in_the_order_scheduled,
                b13_cancel_prevents_the_call,
                b13_a_second_cancel_says_so,
                b13_a_cancel_inside_or_after_its_own_call_says_so,
                b14_reset_to_later_from_a_timer,
                b14_reset_to_later_from_a_connection_callback,
                b14_reset_to_later_from_a_host_callback,
                b14_reset_to_earlier_from_a_timer,
                b14_reset_to_earlier_from_a_connection_callback,
                b14_reset_to_earlier_from_a_host_callback,
                b15_a_timer_set_from_a_host_callback_fires_on_time alone,
                b16_a_delay_of_centuries_is_harmless,
                b16_zero_runs_on_the_next_turn_and_not_in_this_one,
                b17_a_timer_that_reschedules_itself_at_zero_starves_nobody,
                b18_after_a_stall_each_timer_fires_once,
                b18_what_arrived_during_a_stall_is_read_before_deadlines_are_judged,
                b18_a_looping_call_skips_what_it_missed_and_says_how_many,
                b18_a_looping_call_ends_from_inside_itself,
                b18_a_looping_call_that_is_always_late_starves_nobody,
                b19_an_idle_reactor_makes_no_wake_ups,
                b20_cancel_and_reset_stay_cheap_with_a_million_timers,
            }
            calls {
                b21_a_posted_call_runs_on_the_loops_thread,
                b21_calls_of_one_thread_run_in_order,
                b21_posted_from_the_loops_own_thread_it_runs_on_the_next_turn,
                b22_a_post_wakes_a_loop_that_sleeps_without_timers,
                b22_a_burst_of_100_000_from_8_threads_all_run_once,
                b23_a_call_that_posts_itself_starves_neither_timers_nor_io,
                b23_a_call_soon_that_asks_for_itself_starves_neither_timers_nor_io,
                b24_posting_to_a_reactor_that_is_gone_gives_the_closure_back,
                b24_closures_never_run_are_dropped_on_the_loops_thread,
                b25_a_blocking_call_gets_the_result,
                b25_a_blocking_call_gets_the_error,
                b25_a_blocking_call_gets_the_outcome_of_a_future,
                b25_a_blocking_call_that_panics_says_so_and_the_loop_lives,
                b25_a_blocking_call_on_the_loops_own_thread_is_refused,
                b25_a_blocking_call_ends_when_the_run_does,
                b25_a_blocking_call_ends_when_the_reactor_is_gone,
            }
            threads {
                b26_the_result_of_a_job_arrives_on_the_loops_thread,
                b26_a_panicking_job_is_an_error_and_the_pool_lives,
                b26_the_pool_grows_to_its_limit_and_not_beyond,
                b26_ten_thousand_jobs_leave_nothing_behind,
                b26_what_has_a_pool_of_its_own_waits_behind_nobody,
                b26_stopping_does_not_wait_for_an_abandoned_job,
                b26_a_job_that_the_shutdown_waits_for_is_waited_for,
                b26_cancelling_takes_back_a_job_that_has_not_begun_and_tells_one_that_runs,
                b26_progress_comes_while_the_job_runs,
            }
            readiness {
                b27_readable_is_delivered,
                b27_writable_is_delivered,
                b27_both_directions_at_once_lose_no_wake_up,
                b28_after_deregistering_nothing_more_comes_though_it_was_taken_already,
                b28_a_source_given_back_is_silent,
                b29_a_reused_fd_never_gets_the_old_ones_events,
                b31_data_left_after_its_share_is_served_without_a_new_event,
                b32_an_always_ready_source_starves_no_timer_call_peer_or_host,
                b32_always_ready_sources_share,
            }
            readiness_unix when unix {
                b30_a_bad_fd_is_an_error_to_its_owner_and_the_loop_lives,
                b30_a_broken_socket_is_an_error_to_its_owner_and_the_loop_lives,
            }
            streams over carriers {
                b33_made_first_data_in_order_lost_once_and_last,
                b33_lost_says_why,
                b34_writes_after_the_end_are_no_ops,
                b34_a_write_never_blocks_and_never_calls_back_into_the_writer,
                b35_close_flushes_what_was_written,
                b35_close_flushes_though_the_peer_has_sent_what_nobody_reads,
                b35_abort_drops_what_was_written_and_resets,
                b35_abort_twice_or_abort_then_close_is_harmless,
                b36_a_peer_that_closes_while_we_are_paused_is_noticed_at_resume_with_its_data,
                b37_pause_in_connection_made_holds,
                b37_pause_and_resume_over_and_over_lose_and_repeat_nothing,
                b38_a_full_buffer_pauses_the_producer_and_draining_resumes_it,
                b38_a_writer_without_regard_is_told_bounded_and_ended,
                b38_a_writer_without_regard_over_many_turns_is_ended_too,
                b39_after_a_half_close_the_peer_hears_the_end_and_can_still_send,
                b39_when_the_peer_half_closes_we_can_still_send,
                b39_a_protocol_without_support_for_it_closes,
            }
            connecting {
                b40_connect_refused_says_so_over_tcp,
                b40_connect_unreachable_says_so_over_tcp,
                b40_connect_timed_out_says_so_over_tcp,
                b40_connect_cancelled_before_or_during_leaves_nothing_over_tcp,
            }
            connecting_unix when unix {
                b40_connect_refused_says_so_over_unix,
                b40_connect_unreachable_says_so_over_unix,
            }
            leftovers {
                b40_a_program_that_is_missing_says_so_over_pipes,
            }
            connecting when tls {
                b40_a_handshake_that_fails_or_takes_too_long_says_so_over_tls,
            }
            connections over carriers {
                b41_connect_again_from_inside_connection_lost,
                b42_a_factory_that_refuses_a_connection_closes_it_cleanly,
                b42_a_factory_that_panics_ends_that_connection_only,
                b43_out_of_fds_nobody_hangs_nothing_spins_and_accepting_goes_on alone,
                b44_a_reset_is_an_error_with_its_kind,
                b44_a_broken_pipe_is_an_error_with_its_kind_and_no_signal,
                b44_a_peer_that_takes_nothing_any_more_does_not_hold_a_closed_connection,
                b45_a_panic_in_a_callback_ends_that_connection_and_nothing_else,
                b46_the_last_reference_to_a_protocol_goes_with_its_connection,
                b46_thousands_of_connections_leave_nothing_behind alone,
            }
            identity over carriers {
                b47_who_the_peer_is_can_be_asked_for,
            }
            sockets when unix {
                b47_features_are_found_below_the_layers_and_what_is_lacking_is_an_answer_over_unix,
                b48_fds_arrive_with_their_bytes_over_unix,
                b48_unclaimed_fds_are_closed_over_unix alone,
            }
            reentrancy {
                b49_others_go_on_inside_a_timer,
                b49_others_go_on_inside_a_call,
                b49_others_go_on_inside_a_posted_call,
                b49_others_go_on_inside_connection_made,
                b49_others_go_on_inside_data_received,
                b49_others_go_on_inside_connection_lost,
                b49_others_go_on_inside_accept,
                b49_others_go_on_inside_a_task,
                b49_others_go_on_inside_a_shutdown_hook,
                b49_others_go_on_inside_handle_wait,
                b49_the_host_goes_on_inside_the_nested_loop,
                b50_data_received_on_the_stack_is_not_entered_again_and_its_events_come_afterwards,
                b50_what_the_connection_on_the_stack_writes_meanwhile_is_sent_afterwards,
                b50_a_task_on_the_stack_is_not_polled_again_and_its_wake_ups_come_afterwards,
                b50_readiness_that_comes_meanwhile_is_not_lost,
                b51_each_call_runs_once_and_none_is_lost,
                b52_stop_inside_ends_both_from_a_timer,
                b52_stop_inside_ends_both_from_a_call,
                b52_stop_inside_ends_both_from_data_received,
                b52_stop_inside_ends_both_from_connection_lost,
                b52_stop_inside_ends_both_from_accept,
                b52_stop_inside_ends_both_from_a_task,
                b52_what_a_callback_asks_for_after_the_end_waits_for_the_next_run,
                b52_the_connection_on_the_stack_is_lost_once_it_returns,
                b52_a_dialog_in_connection_lost_does_not_hold_the_end_for_ever,
                b53_three_levels_deep_others_go_on,
                b53_three_levels_deep_each_call_runs_once,
                b53_three_levels_deep_stop_ends_all,
                b53_waits_inside_of_each_other_are_bounded,
            }
            reentrancy when http {
                b49_others_go_on_inside_an_http_handler,
            }
            sharing {
                b54_a_turn_full_of_calls_ends_within_its_budget alone,
                b54_a_turn_full_of_timers_ends_within_its_budget alone,
                b54_a_turn_full_of_tasks_ends_within_its_budget alone,
                b55_with_200_000_posted_calls_queued_the_host_draws_60_frames_a_second alone,
                b55_with_64_busy_connections_the_host_draws_60_frames_a_second alone,
                b56_with_a_host_that_is_always_busy_the_network_gets_turns alone,
                b57_a_callback_over_the_stall_threshold_is_reported_once_with_name_and_time alone,
            }
            seam {
                b58_what_a_callback_queues_is_done_in_the_dialog_that_it_opens,
                b58_what_waits_behind_a_callback_is_done_in_the_dialog_that_it_opens,
                b59_who_waits_in_the_hosts_loop_for_the_end_is_woken,
                b59_a_host_whose_run_is_over_sleeps alone,
                b60_a_timer_costs_one_slice alone,
                b60_a_timer_that_is_overdue_costs_one_slice alone,
                b60_a_wake_up_costs_one_slice alone,
                b60_a_readable_socket_costs_one_slice alone,
                b60_a_callback_of_the_host_costs_one_slice alone,
                b60_what_a_slice_asks_for_and_does_costs_no_slice alone,
            }
            leftovers {
                b63_children_end_with_the_run,
            }
            sockets when unix {
                b63_socket_files_end_with_the_run,
            }
            endings {
                b62_a_reactor_that_goes_while_others_wake_and_post_drops_everything_on_its_thread,
                b64_dropping_a_task_cancels_what_it_awaits,
                b65_a_panic_while_accepting_is_reported_and_costs_one_connection,
                b65_a_service_that_panics_has_failed_and_the_next_run_starts_as_new,
                b66_starts_and_stops_are_done_in_order_or_refused,
                b66_a_run_that_ends_while_services_start_leaves_the_next_as_new,
            }
        }
    };
}

/// Whether a test can share the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Demand {
    Shared,
    Alone,
}

pub(super) struct Test {
    pub(super) name: &'static str,
    pub(super) demand: Demand,
    pub(super) function: fn(),
    /// Why the transport under test cannot pass it.
    pub(super) lacks: Option<&'static str>,
}

macro_rules! demand {
    () => {
        Demand::Shared
    };
    (alone) => {
        Demand::Alone
    };
}

macro_rules! tests_of {
    ([] $(
        $group:ident $(over $carriers:ident)? $(when $feature:ident)?
        { $($tests:tt)* }
    )*) => {{
        let mut all: Vec<Test> = Vec::with_capacity(300);
        $(tests_of_group! {
            all $group $($carriers)? $(when $feature)? { $($tests)* }
        })*
        all
    }};
}

macro_rules! tests_of_group {
    ($all:ident $group:ident { $($name:ident $($demand:ident)?,)* }) => {
        $($all.push(Test {
            name: stringify!($name),
            demand: demand!($($demand)?),
            function: $group::$name,
            lacks: None,
        });)*
    };
    ($all:ident $group:ident when http $tests:tt) => {
        crate::__with_http! { tests_of_group! { $all $group $tests } }
    };
    ($all:ident $group:ident when tls $tests:tt) => {
        crate::__with_tls! { tests_of_group! { $all $group $tests } }
    };
    ($all:ident $group:ident when unix $tests:tt) => {
        crate::__on_unix! { tests_of_group! { $all $group $tests } }
    };
    ($all:ident $group:ident carriers $tests:tt) => {
        tests_over! { $all $group Tcp "_over_tcp" $tests }
        crate::__on_unix! { tests_over! { $all $group Unix "_over_unix" $tests } }
        crate::__with_tls! { tests_over! { $all $group Tls "_over_tls" $tests } }
        crate::__on_unix! { tests_over! { $all $group Pipes "_over_pipes" $tests } }
        tests_over! { $all $group Memory "_over_memory" $tests }
    };
}

macro_rules! tests_over {
    ($all:ident $group:ident $carrier:ident $suffix:literal
        { $($name:ident $($demand:ident)?,)* }) => {
        $($all.push(Test {
            name: concat!(stringify!($name), $suffix),
            demand: demand!($($demand)?),
            function: $group::$name::<carrier::$carrier>,
            lacks: lacks::<carrier::$carrier>(stringify!($name)),
        });)*
    };
}

fn lacks<C: Carrier>(name: &str) -> Option<&'static str> {
    C::LACKS
        .iter()
        .find(|lack| lack.0 == name)
        .map(|lack| lack.1)
}

pub(super) fn tests() -> Vec<Test> {
    crate::__for_each_conformance_test! { tests_of ! [] }
}

pub(super) fn find(name: &str) -> Test {
    let found = tests().into_iter().find(|test| test.name == name);
    found.unwrap_or_else(|| panic!("the suite has no test {name}"))
}

/// One test of the suite.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The number of the behaviour that it checks.
    pub number: u8,
    /// Its name, which says what broke if it fails.
    pub name: &'static str,
    /// The text of the behaviour.
    pub text: &'static str,
}

/// Returns all tests, in order.
pub fn list() -> Vec<Entry> {
    let entry = |test: Test| {
        let number = number(test.name);
        let text = BEHAVIOURS
            .iter()
            .find(|behaviour| behaviour.0 == number)
            .expect("a behaviour")
            .1;
        Entry {
            number,
            name: test.name,
            text,
        }
    };
    tests().into_iter().map(entry).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::behaviours::{NOT_COVERED, STREAMS, carrier_of};

    #[test]
    fn what_a_transport_lacks_is_a_test_and_each_test_of_a_stream_names_its_transport() {
        let all = list();
        for entry in all.iter().filter(|entry| STREAMS.contains(&entry.number)) {
            assert!(
                carrier_of(entry.name).is_some(),
                "{} is over what?",
                entry.name
            );
        }
        for (lack, _) in [carrier::Pipes::LACKS, carrier::Memory::LACKS].concat() {
            assert!(
                all.iter().any(|entry| entry.name.starts_with(lack)),
                "there is no {lack}"
            );
        }
    }

    #[test]
    fn each_behaviour_has_a_test_or_a_reason() {
        for (behaviour, _) in BEHAVIOURS {
            let covered = list().iter().any(|entry| entry.number == *behaviour);
            let excused = NOT_COVERED.iter().any(|excuse| excuse.0 == *behaviour);
            assert!(covered != excused, "behaviour {behaviour}");
        }
    }
}
