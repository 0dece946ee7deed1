//! The conformance suite in a Win32 message loop.
#![cfg(windows)]

mod message_loop;

use message_loop::MessageLoop;

entwined_conformance::conformance!(MessageLoop);
