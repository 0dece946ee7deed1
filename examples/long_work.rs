//! Work that takes long, on a thread, with progress. The loop goes on meanwhile.
//!
//! ```text
//! cargo run --example long_work -- 5000000       Ctrl-C cancels it
//! ```

use std::{env, error::Error, time::Duration};

use entwined::signal::{self, Signal};
use entwined::thread::{self, Job, Sender, WhenFull};
use entwined::{Standalone, deferred::Interrupted};

/// Runs on the thread. Looks now and then whether anybody still wants the result.
fn count_primes(limit: u64, job: &Job, progress: &Sender<u64>) -> Result<usize, Interrupted> {
    let mut primes = 0;
    for number in 2..limit {
        if number % 1_000 == 0 {
            job.check()?;
            // An error means that nobody reads the progress.
            let _ = progress.send(number * 100 / limit);
        }
        let mut divisors = (2..).take_while(|divisor| divisor * divisor <= number);
        primes += usize::from(divisors.all(|divisor| number % divisor != 0));
    }
    Ok(primes)
}

fn main() -> Result<(), Box<dyn Error>> {
    let limit = env::args()
        .nth(1)
        .map_or(Ok(1_000_000), |text| text.parse())?;
    let reactor = Standalone::new()?;
    let handle = reactor.handle();
    signal::stop_on(&handle, [Signal::INT, Signal::TERM])?.keep();
    // Holds the newest value only, which is what a progress bar needs.
    let (sender, mut progress) = thread::channel(1, WhenFull::DropOldest);
    let counted = handle.defer_to_thread(move |job| count_primes(limit, job, &sender));
    handle.clone().spawn(async move {
        while let Some(percent) = progress.next().await {
            eprintln!("{percent} %");
            // As often as one can see.
            handle.sleep(Duration::from_millis(100)).await;
        }
    });
    let primes = reactor.block_on(async { Ok::<_, Box<dyn Error>>(counted.await?) })?;
    println!("{primes} primes below {limit}");
    Ok(())
}
