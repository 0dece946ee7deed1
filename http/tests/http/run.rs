//! A program on a reactor of its own.

use entwined::{Handle, Standalone, reactor::RunError};

/// Runs a program to its end. A panic in it is one of the test.
pub fn run<T: 'static, F: Future<Output = T> + 'static>(program: impl FnOnce(Handle) -> F) -> T {
    let reactor = Standalone::new().expect("a reactor");
    let main = program(reactor.handle());
    reactor
        .block_on(async move { Ok::<_, RunError>(main.await) })
        .expect("a run without a panic")
}
