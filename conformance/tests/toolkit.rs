//! The conformance suite on a loop as GUI toolkits have it.

#[path = "toolkit/mod.rs"]
mod host;

struct NoMistakes;

impl host::Mistakes for NoMistakes {}

entwined_conformance::conformance!(host::OnToolkit<NoMistakes>);
