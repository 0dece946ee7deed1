//! Work besides requests.

use std::{
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use entwined::Handle;

use crate::Load;

/// Posted calls per second.
const POSTS: u32 = 200_000;

/// The length of a step of the task.
const STEP: Duration = Duration::from_micros(20);

/// Starts the load; it runs until the process ends.
pub fn begin(handle: &Handle, load: Load) {
    match load {
        Load::None => {}
        Load::Posts => {
            let remote = handle.remote();
            thread::spawn(move || {
                loop {
                    for _ in 0..POSTS {
                        if remote.post(|_| ()).is_err() {
                            return;
                        }
                    }
                    thread::sleep(Duration::from_secs(1));
                }
            });
        }
        Load::Task => {
            let busy = std::future::poll_fn::<(), _>(|cx| {
                let start = Instant::now();
                while start.elapsed() < STEP {}
                cx.waker().wake_by_ref();
                Poll::Pending
            });
            handle.spawn(busy);
        }
    }
}
