//! Remote procedure calls between programs: a small protocol over any byte stream (feature `rpc`).
//!
//! The two sides are equal: each has methods that the other may call, and each may make calls while
//! it answers others. Arguments and results can be of any [`serde`] type; they are encoded as
//! MessagePack.
//!
//! In this example a worker connects to a build master. The master runs a job on the worker and
//! reads its log as it is written:
//!
//! ```
//! use std::pin::pin;
//! use entwined::{Standalone, rpc::{self, CallError, Failure, Methods}, transport::memory};
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let (to_worker, to_master) = memory::pair(&handle);
//!
//! // The worker.
//! let mut methods = Methods::new();
//! methods.add("version", |_call, (): ()| async { Ok::<_, Failure>((1, 7)) });
//! methods.add_stream("run", |_call, program: String, log: rpc::Items<String>| async move {
//!     for line in 1..=3 {
//!         log.send(&format!("{program}: line {line}")).await?;
//!     }
//!     Ok(())
//! });
//! rpc::start(&handle, to_master, methods);
//!
//! // The master.
//! let worker = rpc::start(&handle, to_worker, Methods::new());
//! handle.clone().spawn(async move {
//!     let version: (u32, u32) = worker.call("version", &()).await.expect("an answer");
//!     assert_eq!(version, (1, 7));
//!     let mut log = worker.stream::<String>("run", &"make");
//!     while let Some(line) = log.next().await {
//!         println!("{}", line.expect("a line"));
//!     }
//!     let error = worker.call::<()>("versoin", &()).await.unwrap_err();
//!     assert_eq!(error.to_string(), "the peer has no method \"versoin\"; it has \"version\"");
//!     handle.stop();
//! });
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # On the wire
//!
//! Each side starts by sending 8 bytes: `entwrpc` and the version, which is 1. A side that reads
//! anything else ends the connection. Then frames follow. A frame is a length in 4 bytes,
//! big-endian, and that many bytes of MessagePack values, one after the other. The first value is
//! the kind. The second is the number of a call; the caller counts up from 0 and never reuses a
//! number.
//!
//! | kind | from | then | |
//! |---|---|---|---|
//! | 0 call | caller | name, arguments | answered by 1 or 2 |
//! | 1 result | callee | the result | ends the call |
//! | 2 error | callee | code, message | ends the call |
//! | 3 cancel | caller | | ends the call; no answer is wanted |
//! | 4 open | caller | credit, name, arguments | a call with many items as its result |
//! | 5 item | callee | an item | uses one unit of credit |
//! | 6 end | callee | | no more items; ends the call |
//! | 7 credit | caller | a number | allows this many more items |
//! | 8 finish | either | | no more calls are made or answered; the number is 0 |
//!
//! The error codes are: 0 failed (reported by the method), 1 no such method, 2 wrong arguments, 3
//! too many calls, 4 the method panicked, 5 the result is too long, 6 the callee has sent finish
//! and did not start the call, 7 the result cannot be serialized. A frame about a call that has
//! ended is ignored, because a cancel and an answer may cross. Anything not described here ends the
//! connection. A side that has sent finish closes the connection when all started calls of both
//! sides have ended.
//!
//! # Bounds
//!
//! See [`Config`]. A peer that does not read its answers is limited by
//! [`protocol::Config`](crate::protocol::Config): methods that send items wait, and the connection
//! ends if more than twice the longest frame, [`max_waiting_bytes`](Config::max_waiting_bytes) and
//! 1 MiB are queued. Each method runs as a task of
//! its own, so one that waits, or spins the loop, does not hold up other calls.

use std::time::Duration;

mod call;
mod connection;
mod error;
mod incoming;
mod message;
mod methods;
mod peer;
mod server;
mod shared;

pub use call::ItemStream;
pub use connection::{start, start_with};
pub use error::{CallError, Failure};
pub use methods::{Call, Items, Methods};
pub use peer::Peer;
pub use server::{Server, serve};

/// Limits on the resources that a peer may use.
///
/// All fields are public, so that a value can be written as
/// `Config { max_calls: 16, ..Config::default() }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Maximum bytes of a frame, in both directions. Default: 1 MiB.
    pub max_frame_size: usize,
    /// Maximum number of the peer's calls that are answered at a time; more are refused.
    /// Default: 256.
    pub max_calls: usize,
    /// Maximum bytes of the arguments of all the peer's calls that are answered at a time; more
    /// are refused, unless it is the only call. Decoded they may take several times as much
    /// memory. Default: 4 MiB.
    pub max_call_bytes: usize,
    /// Maximum number of our own calls that wait for their answer. A stream counts until it has
    /// ended. Further calls fail at once with [`CallError::TooManyWaiting`]. Default: 1,024.
    pub max_waiting: usize,
    /// Maximum bytes of our own calls, as they are sent, that wait for their answer, and of what
    /// waits to be sent. Further calls fail at once with [`CallError::TooManyWaiting`], unless
    /// nothing waits. Default: 4 MiB.
    pub max_waiting_bytes: usize,
    /// How long the peer may send nothing while no call is open in either direction. After that the
    /// connection is aborted. For calls that the peer does not answer, see
    /// [`Deferred::add_timeout`](crate::deferred::Deferred::add_timeout). `None` is for ever: a
    /// peer that is silent keeps its place. Default: `None`.
    pub idle_timeout: Option<Duration>,
    /// Maximum number of items of a stream that are in flight or not yet taken; zero counts as
    /// one. Default: 16.
    pub window: u32,
    /// Maximum bytes of items of all streams that have not been taken; one frame may exceed it.
    /// Above it, nothing is read from the peer: no items of other streams, and no answers. The
    /// connection's window of HTTP/2 does the same. So take the items of a stream while you wait
    /// for something else, or drop the stream. Default: 16 MiB.
    pub max_item_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_frame_size: 1024 * 1024,
            max_calls: 256,
            max_call_bytes: 4 * 1024 * 1024,
            max_waiting: 1_024,
            max_waiting_bytes: 4 * 1024 * 1024,
            idle_timeout: None,
            window: 16,
            max_item_bytes: 16 * 1024 * 1024,
        }
    }
}
