//! The conformance suite on the standalone backend.

use entwined::Standalone;
use entwined_conformance::ByHand;

entwined_conformance::conformance!(ByHand<Standalone>);
