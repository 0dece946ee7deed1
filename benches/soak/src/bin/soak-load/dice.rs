//! A small generator of numbers (xorshift), so that two runs have the same peers.

use std::cell::Cell;

pub struct Dice(Cell<u64>);

impl Dice {
    pub fn new() -> Self {
        Dice(Cell::new(0x9e37_79b9_7f4a_7c15))
    }

    /// Returns a number below `count`.
    pub fn below(&self, count: usize) -> usize {
        let mut number = self.0.get();
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        self.0.set(number);
        (number >> 16) as usize % count
    }

    /// Returns true once in `of` times.
    pub fn chance(&self, of: usize) -> bool {
        self.below(of) == 0
    }

    /// Returns one of these.
    pub fn one<T: Copy>(&self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Returns bytes without any order.
    pub fn bytes(&self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}
