//! Tests with threads and a small table.

use entwined::Standalone;

use super::{entries::entry, *};

const SOME: u32 = 5_000;

/// Runs `future` on a new reactor, with an archive of [`SOME`] entries.
fn run<F: Future<Output = ()> + 'static>(test: impl FnOnce(Handle, Archive) -> F) {
    let reactor = Standalone::new().unwrap();
    let handle = reactor.handle();
    let future = test(handle.clone(), Archive::with_entries(&handle, SOME));
    let ended = Rc::new(Cell::new(false));
    let test = handle.spawn({
        let ended = ended.clone();
        async move {
            future.await;
            ended.set(true);
        }
    });
    test.add_both(move |result| {
        handle.stop();
        result
    });
    reactor.run().unwrap();
    assert!(ended.get(), "the test panicked");
}

async fn last(mut running: Running) -> State {
    while running.next().await.is_some() {}
    running.state().clone()
}

#[test]
fn all_that_is_there_is_found() {
    run(|_, archive| async move {
        let expected = (1..=SOME)
            .filter(|number| entry(*number).1.contains("herring"))
            .count();
        let state = last(archive.search("herring~0".parse().unwrap())).await;
        assert_eq!(
            (state.phase(), state.hits() as usize),
            (Phase::Done, expected),
            "{state:?}"
        );
        assert!(
            state.first().len() == FIRST && state.first()[0].text.contains("herring"),
            "{state:?}"
        );
        assert_eq!(state.fraction(), 1.0);
        let nothing = last(archive.search("zeppelin~0".parse().unwrap())).await;
        assert_eq!((nothing.phase(), nothing.hits()), (Phase::Done, 0));
    });
}

#[test]
fn the_table_is_written_once_by_all_who_come_first() {
    run(|_, archive| async move {
        let (one, other) = (
            archive.search("fog".parse().unwrap()),
            archive.search("fog".parse().unwrap()),
        );
        let (one, other) = (last(one).await, last(other).await);
        assert!(one.hits() > 0);
        assert_eq!((one.hits(), one.phase()), (other.hits(), other.phase()));
    });
}

#[test]
fn one_that_is_cancelled_leaves_the_table_to_the_next() {
    run(|_, archive| async move {
        let mut first = archive.search("fog".parse().unwrap());
        first.next().await;
        drop(first);
        assert_eq!(
            last(archive.search("fog".parse().unwrap())).await.phase(),
            Phase::Done
        );
    });
}

#[test]
fn a_window_shows_one_at_a_time() {
    run(|handle, archive| async move {
        let search = Search::new(&handle, archive.clone());
        search.start("  ");
        assert_eq!(
            search.state().error(),
            Some(PatternError::Empty.to_string().as_str())
        );
        search.start("keeper");
        assert_eq!(
            (search.state().phase(), search.state().error()),
            (Phase::Waiting, None)
        );
        let before = search.version();
        search.cancel();
        assert_eq!(search.state().phase(), Phase::Cancelled);
        assert_ne!(search.version(), before);
        // One after the other; the first one reports nothing more.
        search.start("herring");
        search.start("fog");
        last(archive.search("fog".parse().unwrap())).await;
        let task = search.0.task.take().unwrap();
        task.await.unwrap();
        assert_eq!(
            (search.state().phase(), search.state().pattern()),
            (Phase::Done, "fog")
        );
        assert!(search.state().hits() > 0);
    });
}
