//! Compares every small input, split at every position, with the reference; and also longer random
//! inputs.

use std::fmt::Debug;

use entwined::framing::{Delimited, FrameError, Lines, Netstrings, Prefixed, Width};

use crate::framing::reference::{self, Event, Tested, found, round};

/// A simple generator of bytes from a small alphabet, so that they often look like frames.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    fn bytes(&mut self, alphabet: &[u8], most: usize) -> Vec<u8> {
        (0..self.next(most))
            .map(|_| alphabet[self.next(alphabet.len())])
            .collect()
    }

    fn cut<'a>(&mut self, mut rest: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, other) = rest.split_at(self.next(rest.len()) + 1);
            pieces.push(piece);
            rest = other;
        }
        pieces
    }
}

/// Calls `call` with every input of up to `most` bytes of this alphabet.
fn every(alphabet: &[u8], most: u32, mut call: impl FnMut(&[u8])) {
    for length in 0..=most {
        for number in 0..alphabet.len().pow(length) {
            let mut left = number;
            let next = |_| {
                let byte = alphabet[left % alphabet.len()];
                left /= alphabet.len();
                byte
            };
            call(&(0..length).map(next).collect::<Vec<_>>());
        }
    }
}

/// Checks all inputs of up to `most` bytes of `alphabet`, and longer random inputs. `around` is the
/// most bytes that a frame has around its content.
fn check<F: Tested + Debug>(
    framing: &F,
    (limit, around): (usize, usize),
    (alphabet, most): (&[u8], u32),
    reference: impl Fn(&[u8]) -> Vec<Event>,
) {
    let bound = limit + around;
    every(alphabet, most, |input| {
        let expected = reference(input);
        for cut in 0..=input.len() {
            let (front, back) = input.split_at(cut);
            assert_eq!(
                found(framing, bound, &[front, back]),
                expected,
                "{framing:?} on {input:?}, cut at {cut}"
            );
        }
        let bytes: Vec<_> = input.chunks(1).collect();
        assert_eq!(
            found(framing, bound, &bytes),
            expected,
            "{framing:?} on {input:?}, a byte at a time"
        );
        round(framing, input);
    });
    let mut random = Random(1);
    for _ in 0..3_000 {
        let input = random.bytes(alphabet, 60);
        let pieces = random.cut(&input);
        assert_eq!(
            found(framing, bound, &pieces),
            reference(&input),
            "{framing:?} on {pieces:?}"
        );
        round(framing, &input);
    }
}

#[test]
fn lines_are_what_the_reference_says() {
    for limit in [0, 2, 3, 6] {
        check(&Lines::new(limit), (limit, 1), (b"r2R\r\n", 6), |input| {
            reference::lines(limit, input)
        });
    }
}

#[test]
fn netstrings_are_what_the_reference_says() {
    for limit in [0, 1, 3, 11] {
        check(
            &Netstrings::new(limit),
            (limit, 4),
            (b"012:,", 6),
            |input| reference::netstrings(limit, input),
        );
    }
}

#[test]
fn lengths_in_front_are_what_the_reference_says() {
    for (width, bytes) in [(Width::U8, 1), (Width::U16, 2), (Width::U32, 4)] {
        for limit in [0, 1, 3, 600] {
            let framing = Prefixed::new(width, limit);
            let most = limit.min(if bytes == 1 { 255 } else { limit });
            check(&framing, (most, bytes), (b"\x00\x01\x02\x07", 6), |input| {
                reference::prefixed(bytes, most, input)
            });
        }
    }
}

#[test]
fn delimiters_are_what_the_reference_says() {
    for delimiter in [&b"a"[..], b"aa", b"aab", b"aba", b"abab"] {
        for limit in [0, 1, 3, 6] {
            let framing = Delimited::new(delimiter, limit);
            check(&framing, (limit, delimiter.len()), (b"abc", 8), |input| {
                reference::delimited(delimiter, limit, input)
            });
        }
    }
}

/// A length as large as the integer's maximum was added to, and overflowed.
#[test]
fn netstrings_without_a_limit_take_no_length_beyond_memory() {
    let netstrings = Netstrings::new(usize::MAX);
    for rest in [":", ":,", ":abc,", ""] {
        let all = found(
            &netstrings,
            usize::MAX,
            &[format!("{}{rest}", usize::MAX).as_bytes()],
        );
        assert!(
            matches!(all[..], [Event::Error(FrameError::TooLong { .. })]),
            "{all:?}"
        );
        let all = found(
            &netstrings,
            usize::MAX,
            &[format!("{}{rest}", usize::MAX / 2).as_bytes()],
        );
        assert_eq!(all, [Event::Error(FrameError::Unfinished)]);
    }
}
