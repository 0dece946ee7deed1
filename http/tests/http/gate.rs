//! Values whose reading waits, and which say where they are dropped.

use std::{
    sync::{Mutex, mpsc},
    thread::{self, ThreadId},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::IgnoredAny};

const LIMIT: Duration = Duration::from_secs(10);

/// Where one value is read.
pub struct Gate(Mutex<Option<Inside>>);

struct Inside {
    begun: mpsc::Sender<()>,
    open: mpsc::Receiver<()>,
    dropped: mpsc::Sender<ThreadId>,
}

/// The other side of a gate.
pub struct Keys {
    begun: mpsc::Receiver<()>,
    open: mpsc::Sender<()>,
    dropped: mpsc::Receiver<ThreadId>,
}

/// A value that has come through a gate.
#[derive(Debug)]
pub struct Gated(mpsc::Sender<ThreadId>);

impl Gate {
    pub const fn new() -> Self {
        Gate(Mutex::new(None))
    }

    pub fn keys(&self) -> Keys {
        let (begin, begun) = mpsc::channel();
        let (open, opened) = mpsc::channel();
        let (drop, dropped) = mpsc::channel();
        *self.0.lock().expect("no panic") = Some(Inside {
            begun: begin,
            open: opened,
            dropped: drop,
        });
        Keys {
            begun,
            open,
            dropped,
        }
    }

    pub fn read<'de, D: Deserializer<'de>>(&self, from: D) -> Result<Gated, D::Error> {
        let inside = self.0.lock().expect("no panic").take().expect("keys");
        inside.begun.send(()).expect("somebody waits");
        inside.open.recv_timeout(LIMIT).expect("it is opened");
        IgnoredAny::deserialize(from)?;
        Ok(Gated(inside.dropped))
    }
}

impl Keys {
    /// Waits until the value is being read.
    pub fn until_begun(&self) {
        self.begun.recv_timeout(LIMIT).expect("it is read");
    }

    /// Lets the value be read, and returns where it is dropped.
    pub fn dropped(&self) -> ThreadId {
        self.open.send(()).expect("it waits");
        self.dropped.recv_timeout(LIMIT).expect("it is dropped")
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        let _ = self.0.send(thread::current().id());
    }
}
