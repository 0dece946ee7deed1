//! What the targets share. The reference is the one that the tests use.

mod peer;
#[path = "../../tests/core/framing/reference.rs"]
pub mod reference;

use arbitrary::Arbitrary;
pub use peer::{answer, ask, connection, peer, say};
use reference::{Event, Tested, found, round};

/// Bytes, where they are split, and the frame limit.
#[derive(Arbitrary, Debug)]
pub struct Case<'a> {
    pub limit: Limit,
    /// The length of each piece, less one; used again from the first when it runs out.
    pub cuts: Vec<u8>,
    pub input: &'a [u8],
}

/// Usually a small limit.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Limit {
    Small(u8),
    Medium(u16),
    None,
}

impl Limit {
    pub fn bytes(self) -> usize {
        match self {
            Limit::Small(limit) => limit.into(),
            Limit::Medium(limit) => limit.into(),
            Limit::None => usize::MAX,
        }
    }
}

impl Case<'_> {
    /// Compares what is found in the pieces and in the whole with the reference. A frame of at most
    /// `limit` bytes has at most `around` bytes around it.
    ///
    /// # Panics
    /// Panics if something else is found, if more than that is buffered, or if an encoded frame is
    /// not found again.
    pub fn check<F: Tested>(
        &self,
        framing: &F,
        limit: usize,
        around: usize,
        reference: Vec<Event>,
    ) {
        let bound = limit.saturating_add(around);
        assert_eq!(
            found(framing, bound, &[self.input]),
            reference,
            "in one piece"
        );
        assert_eq!(
            found(framing, bound, &self.pieces()),
            reference,
            "in pieces"
        );
        round(framing, self.input);
        for event in &reference {
            if let Event::Frame(frame) = event {
                round(framing, frame);
            }
        }
    }

    fn pieces(&self) -> Vec<&[u8]> {
        let mut lengths = self.cuts.iter().cycle();
        let mut rest = self.input;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let length = lengths
                .next()
                .map_or(rest.len(), |&cut| rest.len().min(usize::from(cut) + 1));
            let (piece, other) = rest.split_at(length);
            pieces.push(piece);
            rest = other;
        }
        pieces
    }
}
