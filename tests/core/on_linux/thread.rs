//! Threads of a pool, as Linux sees them.

use std::error::Error;

use entwined::{
    Standalone,
    deferred::Interrupted,
    thread::{Config, ThreadPool},
};

/// The nice value of this thread, as in proc_pid_stat(5).
fn nice() -> i32 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("proc(5)");
    let (_, fields) = stat.rsplit_once(')').expect("the name is in parentheses");
    let nice = fields.split_whitespace().nth(16).expect("field 19");
    nice.parse().expect("a number")
}

#[test]
fn a_pool_gives_way_to_other_threads_and_to_nobody_by_default() {
    let here = nice();
    for (nicer, seen) in [(0, here), (10, (here + 10).min(19)), (u8::MAX, 19)] {
        let config = Config {
            nice: nicer,
            ..Config::default()
        };
        let pool = ThreadPool::new("nice", config);
        let reactor = Standalone::new().expect("a reactor");
        let job = pool.defer(&reactor.handle(), |_| Ok::<_, Interrupted>(nice()));
        let there = reactor.block_on(async { Ok::<_, Box<dyn Error>>(job.await?) });
        let there = there.expect("a result");
        assert_eq!(there, seen, "with {nicer} more than {here}");
    }
    assert_eq!(nice(), here);
}
