//! A thread that posts calls a little later.

use std::{io, sync::mpsc, thread, time::Duration};

use entwined::reactor::HostCall;

/// How long the network gives way: enough for the loop to hand out what waits.
const GIVE_WAY: Duration = Duration::from_millis(1);

/// Gives calls to the thread, which ends when this is dropped.
pub(crate) struct Later(mpsc::Sender<HostCall>);

impl Later {
    pub(crate) fn spawn(post: impl Fn(HostCall) + Send + 'static) -> io::Result<Self> {
        let (sender, calls) = mpsc::channel();
        thread::Builder::new()
            .name("entwined-give-way".to_owned())
            .spawn(move || {
                for call in calls {
                    thread::sleep(GIVE_WAY);
                    post(call);
                }
            })?;
        Ok(Later(sender))
    }

    pub(crate) fn post(&self, call: HostCall) {
        // The thread has the other end until this is dropped.
        let _ = self.0.send(call);
    }
}
