//! Chains of callbacks on results that come later: counts the lines of files, all at once.
//!
//! ```text
//! cargo run --example deferred_chain -- README.md Cargo.toml missing
//! ```

use std::{env, error::Error, fs, io, time::Duration};

use entwined::{
    Handle, Standalone,
    deferred::{self, Deferred},
};

/// A chain's errors have one type. It must be convertible from those of the chain itself, such as
/// a timeout; `io::Error` is.
fn count(handle: &Handle, path: String) -> Deferred<usize, io::Error> {
    let (name, own) = (path.clone(), handle.clone());
    handle
        .defer_to_thread(|_| fs::read_to_string(path))
        // A callback may return another Deferred. The chain waits for it.
        .add_callback(move |text| own.defer_to_thread(move |_| Ok(text.lines().count())))
        .add_timeout(handle, Duration::from_secs(5))
        // An errback that returns `Ok` has recovered. With `Err`, the error goes on.
        .add_errback(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(0),
            _ => Err(error),
        })
        .map(move |lines| {
            println!("{lines} {name}");
            lines
        })
}

fn main() -> Result<(), Box<dyn Error>> {
    let reactor = Standalone::new()?;
    let handle = reactor.handle();
    let all = deferred::all(env::args().skip(1).map(|path| count(&handle, path)));
    let sum = all.map(|counts| counts.iter().sum::<usize>());
    println!(
        "{} total",
        reactor.block_on(async { Ok::<_, Box<dyn Error>>(sum.await?) })?
    );
    Ok(())
}
