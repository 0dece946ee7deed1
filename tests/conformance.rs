//! The conformance suite on the standalone backend.

use entwined::{Standalone, testing::ByHand};

entwined::conformance!(ByHand<Standalone>);
