//! Calls between programs: a small protocol over any byte stream (feature `rpc`).
//!
//! Both sides are equal: each has methods that the other may call, and either may call while it
//! answers. Arguments and results are any types of [`serde`], in MessagePack.
//!
//! A build master, to which a worker connects; the master has the worker run something, and takes
//! its log as it is written:
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
//!     handle.stop().expect("the reactor runs");
//! }).detach();
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # On the wire
//!
//! Each side begins with 8 bytes: `entwrpc` and the version, which is 1. A side that reads
//! something else ends the connection. Then frames follow: a length in 4 bytes, big-endian, and so
//! many bytes, which are MessagePack values one after the other. The first is the kind, the second
//! the number of a call, which the caller chooses, never twice, from 0 up.
//!
//! | kind | from | then | |
//! |---|---|---|---|
//! | 0 call | caller | name, arguments | answered by 1 or 2 |
//! | 1 result | callee | the result | the call is over |
//! | 2 error | callee | code, message | the call is over |
//! | 3 cancel | caller | | nothing more about this call is wanted; it is over |
//! | 4 open | caller | name, arguments, credit | a call whose result is many items |
//! | 5 item | callee | an item | spends one of the credit |
//! | 6 end | callee | | there are no more items; the call is over |
//! | 7 credit | caller | a number | so many more items may be sent |
//! | 8 finish | either | | this side begins no more calls and answers none that come later; the number is 0 |
//!
//! The codes of errors: 0 failed (as the method says), 1 no such method, 2 wrong arguments, 3 too
//! many calls, 4 the method panicked, 5 the result is too long, 6 the callee has sent finish and
//! did not begin the call. A frame about a call that is over is ignored, since cancelling and
//! answering may cross. Anything else that is not described here ends the connection. Who has sent
//! finish closes the connection when all calls of both sides that were begun are over.
//!
//! # Bounds
//!
//! See [`Limits`]. A peer that does not read its answers is held by
//! [`protocol::Limits`](crate::protocol::Limits): methods that send items wait, and beyond twice
//! the longest frame and 1 MiB the connection ends. A handler runs as a task of its own, so one
//! that waits, or spins the loop, holds up no other call.

mod call;
mod connection;
mod message;
mod methods;

pub use call::{CallError, ItemStream};
pub use connection::{Peer, start, start_with};
pub use methods::{Call, Failure, Items, Methods};

/// What a peer may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a frame, in both directions. 1 MiB.
    pub frame: usize,
    /// Calls of the peer that are being answered at a time; more are refused. 256.
    pub calls: usize,
    /// Items of a stream that are on their way or wait to be taken. 16.
    pub window: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            frame: 1024 * 1024,
            calls: 256,
            window: 16,
        }
    }
}
