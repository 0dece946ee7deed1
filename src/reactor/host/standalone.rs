//! The backend with its own loop.

use std::{cell::RefCell, future::Future, io, rc::Rc, time::Duration};

use super::{Driver, Selector};
use crate::{
    deferred::Interrupted,
    reactor::turn::{Handle, LifeError},
};

/// A reactor with its own loop, built on mio. The loop is [`run`](Standalone::run), on the thread
/// that calls it.
///
/// ```
/// use std::time::Duration;
///
/// let reactor = entwined::Standalone::new()?;
/// let handle = reactor.handle();
/// handle.call_later(Duration::from_millis(5), {
///     let handle = handle.clone();
///     move || handle.stop()
/// });
/// reactor.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Standalone {
    driver: Driver,
}

impl Standalone {
    /// Makes a reactor that is not running yet.
    ///
    /// # Errors
    /// Fails if the process or the system is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Standalone {
            driver: Driver::new(Rc::new(Selector::new()?), ()),
        })
    }

    /// The handle that the program uses.
    pub fn handle(&self) -> Handle {
        self.driver.handle()
    }

    /// Runs until [`Handle::stop`] is called and the shutdown is complete. May be called again
    /// after that.
    ///
    /// # Errors
    /// [`RunError::Life`] if the reactor is already running. [`RunError::Selector`] if the
    /// operating system cannot wait for events; this ends the run at once, without the shutdown
    /// phases (protocols still get `connection_lost`), and closes the reactor for good.
    pub fn run(&self) -> Result<(), RunError> {
        self.driver.start()?;
        self.finish()
    }

    fn finish(&self) -> Result<(), RunError> {
        while self.driver.is_running() {
            self.turn(None)?;
        }
        Ok(())
    }

    /// Runs `future` as the main task. When it completes, the reactor shuts down gracefully and the
    /// result is returned. Meanwhile, other tasks and connections continue as usual.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let reactor = entwined::Standalone::new()?;
    /// let handle = reactor.handle();
    /// let answer = reactor.block_on(async move {
    ///     handle.sleep(Duration::from_millis(5)).await;
    ///     Ok::<_, entwined::reactor::RunError>(42)
    /// })?;
    /// assert_eq!(answer, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns the future's own error, and the errors of [`run`](Standalone::run).
    /// [`RunError::Interrupted`] if the run ends before the future completes, for example because
    /// of [`Handle::stop`] or a signal, or if the future panics.
    #[track_caller]
    pub fn block_on<F, T, E>(&self, future: F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>> + 'static,
        T: 'static,
        E: From<RunError> + 'static,
    {
        // First, so that a run that goes on already gets nothing of it.
        self.driver.start().map_err(RunError::from)?;
        let handle = self.handle();
        let result = Rc::new(RefCell::new(None));
        let main = handle.spawn(future);
        handle.spawn({
            let (result, handle) = (result.clone(), handle.clone());
            async move {
                let ended = main.await;
                result.replace(Some(ended));
                handle.stop();
            }
        });
        self.finish()?;
        match result.take() {
            Some(Ok(result)) => result,
            Some(Err(why)) => Err(RunError::Interrupted(why).into()),
            None => Err(RunError::Interrupted(Interrupted::Cancelled).into()),
        }
    }

    /// Makes one turn by hand. Waits for something to do for at most `wait` (without limit if
    /// `None`). The first call starts the reactor, as [`run`](Standalone::run) would. To end the
    /// run, call [`Handle::stop`] and make a few more turns.
    ///
    /// # Errors
    /// As for [`run`](Standalone::run).
    pub fn turn(&self, wait: Option<Duration>) -> Result<(), RunError> {
        if !self.driver.is_running() {
            self.driver.start()?;
        }
        self.driver.turn(wait).map_err(|error| {
            // It would fail again, so the run could never end.
            self.driver.close();
            RunError::Selector(error)
        })
    }
}

/// Why a run could not start or continue.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The reactor is in the wrong state; see the inner error.
    Life(LifeError),
    /// The operating system could not wait for events.
    Selector(io::Error),
    /// The run ended before the main future completed, or the future panicked; see
    /// [`Standalone::block_on`].
    Interrupted(Interrupted),
}

impl From<RunError> for io::Error {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Selector(error) => error,
            error => io::Error::other(error),
        }
    }
}

impl From<LifeError> for RunError {
    fn from(error: LifeError) -> Self {
        RunError::Life(error)
    }
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RunError::Life(error) => error.fmt(f),
            RunError::Interrupted(Interrupted::Cancelled) => {
                f.write_str("the run ended before its main future did")
            }
            RunError::Interrupted(why) => write!(f, "the main future: {why}"),
            RunError::Selector(_) => f.write_str("the operating system refused to wait for events"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Life(_) | RunError::Interrupted(_) => None,
            RunError::Selector(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::Arc, time::Instant};

    use super::*;
    use crate::reactor::{Event, Interest, Key, Notify, Reactor, Source};

    /// A selector that can fail.
    struct Fragile {
        selector: Rc<Selector>,
        broken: Rc<Cell<bool>>,
    }

    impl Reactor for Fragile {
        fn watch(&self, source: Source<'_>, key: Key, interest: Interest) -> io::Result<()> {
            Reactor::watch(&self.selector, source, key, interest)
        }

        fn rearm(&self, source: Source<'_>, key: Key, interest: Interest) -> io::Result<()> {
            Reactor::rearm(&self.selector, source, key, interest)
        }

        fn unwatch(&self, source: Source<'_>, key: Key) -> io::Result<()> {
            Reactor::unwatch(&self.selector, source, key)
        }

        fn select(&self, wait: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
            if self.broken.get() {
                return Err(io::Error::other("broken"));
            }
            Reactor::select(&self.selector, wait, events)
        }

        fn set_deadline(&self, deadline: Option<Instant>) {
            Reactor::set_deadline(&self.selector, deadline);
        }

        fn notifier(&self) -> Arc<dyn Notify> {
            Reactor::notifier(&self.selector)
        }

        fn now(&self) -> Instant {
            Reactor::now(&self.selector)
        }
    }

    /// A reactor whose selector fails once the flag is set.
    fn fragile() -> (Standalone, Rc<Cell<bool>>) {
        let broken = Rc::new(Cell::new(false));
        let selector = Fragile {
            selector: Rc::new(Selector::new().expect("a selector")),
            broken: broken.clone(),
        };
        let driver = Driver::new(selector, ());
        (Standalone { driver }, broken)
    }

    fn is_broken<T: std::fmt::Debug>(result: Result<T, RunError>) -> bool {
        matches!(result, Err(RunError::Selector(_)))
    }

    #[test]
    fn a_selector_that_fails_ends_the_run() {
        for by_hand in [false, true] {
            let (reactor, broken) = fragile();
            let handle = reactor.handle();
            let kept = Rc::new(());
            handle.call_soon({
                let broken = broken.clone();
                move || broken.set(true)
            });
            let task = handle.spawn({
                let kept = kept.clone();
                async move {
                    std::future::pending::<()>().await;
                    drop(kept);
                }
            });
            if by_hand {
                reactor.turn(Some(Duration::ZERO)).expect("it works yet");
                assert!(is_broken(reactor.turn(Some(Duration::ZERO))));
            } else {
                assert!(is_broken(reactor.run()));
            }
            assert!(!handle.is_running(), "by hand: {by_hand}");
            assert_eq!(Rc::strong_count(&kept), 1, "the task is gone");
            assert_eq!(task.take().ok(), Some(Err(Interrupted::Cancelled)));
            assert!(matches!(
                reactor.run(),
                Err(RunError::Life(LifeError::Closed))
            ));
        }
    }

    #[test]
    fn a_selector_that_fails_ends_the_main_future() {
        let (reactor, broken) = fragile();
        let kept = Rc::new(());
        let main = {
            let kept = kept.clone();
            async move {
                broken.set(true);
                std::future::pending::<()>().await;
                drop(kept);
                Ok::<_, RunError>(())
            }
        };
        assert!(is_broken(reactor.block_on(main)));
        assert!(!reactor.handle().is_running());
        assert_eq!(Rc::strong_count(&kept), 1);
    }

    #[test]
    fn a_selector_that_fails_while_a_callback_waits_ends_the_run() {
        let (reactor, broken) = fragile();
        let handle = reactor.handle();
        let waited = Rc::new(Cell::new(false));
        handle.call_soon_with({
            let waited = waited.clone();
            move |handle| {
                broken.set(true);
                assert!(handle.wait(std::future::pending::<()>()).is_err());
                waited.set(true);
            }
        });
        assert!(is_broken(reactor.run()));
        assert!(waited.get() && !handle.is_running());
    }
}
