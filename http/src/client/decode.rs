//! Decompresses response bodies.

use std::io::{self, ErrorKind, Read};

use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, enc::StandardAlloc};
use bytes::Buf;
use entwined::server::Scratch;

use crate::Bytes;

/// Decompresses a body as it arrives. The work of each call to [`read`](Decoder::read) is bounded,
/// and so is what it returns, however strongly the peer compressed the data.
///
/// The peer's bytes go to `flate2` and `brotli`. They promise to refuse what is not
/// valid. They do not promise bounds for the time of a call, and `brotli` takes windows of 1 GiB
/// unless it is told not to.
pub(super) enum Decoder {
    Gzip(Box<Gzip>),
    Brotli(Box<Brotli>),
}

/// What a call to [`Decoder::read`] brought.
pub(super) enum Step {
    /// The next bytes.
    Bytes(Bytes),
    /// Work was done, and there is more of it.
    More,
    /// There is nothing to do before more input comes.
    Hungry,
}

/// The most bytes that one call returns.
const PIECE: usize = Scratch::SIZE;

/// What a call takes from a task's share of 64 units: one unit, and one for so many compressed
/// bytes, and one for so many decompressed ones. A call that does all that it may takes half of
/// the share.
const TAKEN_A_UNIT: usize = BITE / 16;
const GIVEN_A_UNIT: usize = PIECE / 16;

/// The most compressed bytes that one call takes. Headers, tables and empty members take time and
/// give no output.
const BITE: usize = 2 * 1024;

/// The largest brotli window, as a power of two, that is unpacked on the reactor's thread. One call
/// may fill a whole window. Larger ones, up to the 16 MiB of RFC 7932, are for another thread.
const LIGHT_WINDOW: u8 = 18;

/// Compressed bytes that have arrived and are not decompressed yet.
#[derive(Default)]
pub(super) struct Source {
    bytes: Bytes,
    begun: bool,
    ended: bool,
    /// How many bytes the present call may still take.
    bite: usize,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() && self.ended {
            return Ok(0);
        }
        let count = self.bytes.len().min(buffer.len()).min(self.bite);
        if count == 0 && !buffer.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.bite -= count;
        self.bytes.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

impl Decoder {
    pub(super) fn new(coding: &str) -> Option<Self> {
        match coding.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Some(Decoder::Gzip(Box::new(Gzip {
                state: flate2::read::MultiGzDecoder::new(Source::default()),
                full: false,
                done: false,
            }))),
            "br" => Some(Decoder::Brotli(Box::new(Brotli::new()))),
            _ => None,
        }
    }

    fn source(&mut self) -> &mut Source {
        match self {
            Decoder::Gzip(decoder) => decoder.state.get_mut(),
            Decoder::Brotli(decoder) => &mut decoder.source,
        }
    }

    /// Whether [`read`](Decoder::read) has anything to do.
    pub(super) fn has_work(&self) -> bool {
        let (source, full, done) = match self {
            Decoder::Gzip(decoder) => (decoder.state.get_ref(), decoder.full, decoder.done),
            Decoder::Brotli(decoder) => (&decoder.source, decoder.full, decoder.done),
        };
        // A response to HEAD and a 304 name the coding of a body that they do not carry.
        source.begun && (full || source.ended && !done || !source.bytes.is_empty())
    }

    /// Adds compressed bytes. [`read`](Decoder::read) must have returned [`Step::Hungry`] before.
    pub(super) fn feed(&mut self, bytes: Bytes) {
        let source = self.source();
        debug_assert!(source.bytes.is_empty(), "what came before was read");
        source.begun |= !bytes.is_empty();
        source.bytes = bytes;
    }

    /// Marks the end of the compressed bytes.
    pub(super) fn end(&mut self) {
        self.source().ended = true;
    }

    /// Whether the next [`read`](Decoder::read) may take too long for the reactor's thread.
    pub(super) fn is_heavy(&self) -> bool {
        match self {
            Decoder::Gzip(_) => false,
            Decoder::Brotli(decoder) => decoder.is_heavy(),
        }
    }

    /// Decompresses. Truncated or invalid input is an error, and so are bytes behind its end. The
    /// number is what the work costs, in units of a task's share.
    pub(super) fn read(&mut self) -> (io::Result<Step>, u32) {
        if !self.has_work() {
            return (Ok(Step::Hungry), 0);
        }
        self.source().bite = BITE;
        let mut scratch = Scratch::take();
        let read = match self {
            Decoder::Gzip(decoder) => decoder.read(&mut scratch),
            Decoder::Brotli(decoder) => decoder.read(&mut scratch),
        };
        let taken = BITE - self.source().bite;
        let given = *read.as_ref().unwrap_or(&0);
        let units = 1 + taken / TAKEN_A_UNIT + given / GIVEN_A_UNIT;
        let step = read.map(|count| match count {
            0 if self.has_work() => Step::More,
            0 => Step::Hungry,
            // Exactly as large as what is in it: a peer chooses how many small pieces there are.
            count => Step::Bytes(Bytes::copy_from_slice(&scratch[..count])),
        });
        (step, units as u32)
    }
}

/// RFC 1952. Several members are one content.
pub(super) struct Gzip {
    state: flate2::read::MultiGzDecoder<Source>,
    /// Whether decompressed bytes may wait in the state.
    full: bool,
    /// Whether the end has been read.
    done: bool,
}

impl Gzip {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        match self.state.read(piece) {
            Ok(count) => {
                (self.full, self.done) = (count > 0, count == 0);
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.full = false;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }
}

/// RFC 7932.
pub(super) struct Brotli {
    source: Source,
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    /// The size of the window as a power of two, once it is known.
    window: Option<u8>,
    /// Whether decompressed bytes wait in the state.
    full: bool,
    done: bool,
}

impl Brotli {
    fn new() -> Self {
        let (bytes, tables) = (StandardAlloc::default(), StandardAlloc::default());
        Brotli {
            source: Source::default(),
            // Strict: without large windows.
            state: BrotliState::new_strict(bytes, tables, StandardAlloc::default()),
            window: None,
            full: false,
            done: false,
        }
    }

    fn is_heavy(&self) -> bool {
        let window = self
            .window
            .or_else(|| window(*self.source.bytes.first()?).ok());
        let works = self.full || !self.source.bytes.is_empty();
        works && !self.done && window.is_some_and(|window| window > LIGHT_WINDOW)
    }

    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let wrong = |what: &str| io::Error::new(ErrorKind::InvalidData, what);
        if self.done {
            return Err(wrong("there are bytes behind the end of the brotli stream"));
        }
        if let (None, Some(first)) = (self.window, self.source.bytes.first()) {
            self.window = Some(window(*first).map_err(wrong)?);
        }
        if self.source.bytes.is_empty() && !self.full {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let input = &self.source.bytes[..self.source.bytes.len().min(self.source.bite)];
        let (mut left, mut taken) = (input.len(), 0);
        let (mut room, mut filled, mut total) = (piece.len(), 0, 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut taken,
            input,
            &mut room,
            &mut filled,
            piece,
            &mut total,
            &mut self.state,
        );
        self.source.bytes.advance(taken);
        self.source.bite -= taken;
        self.full = false;
        match result {
            BrotliResult::ResultSuccess => self.done = true,
            BrotliResult::NeedsMoreOutput => self.full = true,
            BrotliResult::NeedsMoreInput => {}
            BrotliResult::ResultFailure => return Err(wrong("the brotli stream is not valid")),
        }
        Ok(filled)
    }
}

/// The size of the window as a power of two, from the first byte of a stream: WBITS of RFC 7932,
/// 9.1. The value that is reserved there begins a "large window" stream, whose window may have 1
/// GiB. The content coding `br` does not allow that.
fn window(first: u8) -> Result<u8, &'static str> {
    match (first & 1, (first >> 1) & 7, (first >> 4) & 7) {
        (0, ..) => Ok(16),
        (_, 0, 0) => Ok(17),
        (_, 0, 1) => Err("the window of the brotli stream is too large"),
        (_, 0, bits) => Ok(8 + bits),
        (_, bits, _) => Ok(17 + bits),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn unpack(coding: &str, packed: &[u8], step: usize) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(coding).expect("a known coding");
        let mut all = Vec::new();
        let mut drain = |decoder: &mut Decoder| {
            loop {
                match decoder.read().0? {
                    Step::Bytes(bytes) => {
                        assert!(bytes.len() <= PIECE);
                        all.extend_from_slice(&bytes);
                    }
                    Step::More => {}
                    Step::Hungry => return Ok::<_, io::Error>(()),
                }
            }
        };
        for piece in packed.chunks(step) {
            decoder.feed(Bytes::copy_from_slice(piece));
            drain(&mut decoder)?;
        }
        decoder.end();
        drain(&mut decoder)?;
        Ok(all)
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(content).expect("in memory");
        gzip.finish().expect("in memory")
    }

    fn brotli(content: &[u8], window: u32) -> Vec<u8> {
        let mut brotli = brotli::CompressorWriter::new(Vec::new(), 4096, 5, window);
        brotli.write_all(content).expect("in memory");
        brotli.into_inner()
    }

    fn content() -> Vec<u8> {
        (0..300_000_u32)
            .flat_map(|number| (number / 1_000).to_le_bytes())
            .collect()
    }

    #[test]
    fn what_comes_in_any_pieces_is_unpacked_in_bounded_ones_and_cut_off_it_is_an_error() {
        let content = content();
        for (coding, packed) in [("gzip", gzip(&content)), ("br", brotli(&content, 22))] {
            for step in [1, 7, 4096, packed.len()] {
                assert!(
                    unpack(coding, &packed, step).expect("unpacked") == content,
                    "{coding} by {step}"
                );
            }
            for cut in [1, 11, packed.len() / 2, packed.len() - 1] {
                assert!(
                    unpack(coding, &packed[..cut], 100).is_err(),
                    "{coding} cut at {cut}"
                );
            }
            assert_eq!(unpack(coding, b"", 1).expect("nothing"), b"");
            assert!(
                unpack(coding, &[0xff; 100], 10).is_err(),
                "{coding} of something else"
            );
        }
    }

    /// A peer that sends a byte at a time must not fill memory, and must not be slow for that.
    #[test]
    fn small_pieces_are_small_and_cost_little() {
        let content: Vec<u8> = (0..1000_u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        let stored = {
            let level = flate2::Compression::none();
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
            gzip.write_all(&content).expect("in memory");
            gzip.finish().expect("in memory")
        };
        for (coding, packed) in [("gzip", stored), ("br", brotli(&content, 16))] {
            let mut decoder = Decoder::new(coding).expect("a known coding");
            assert!(!decoder.has_work());
            let (mut pieces, mut cost) = (Vec::new(), 0);
            for byte in &packed {
                decoder.feed(Bytes::copy_from_slice(&[*byte]));
                while decoder.has_work() {
                    let (step, units) = decoder.read();
                    cost += units;
                    if let Step::Bytes(bytes) = step.expect("it is valid") {
                        pieces.push(bytes);
                    }
                }
            }
            let kept: usize = pieces
                .into_iter()
                .map(|piece| Vec::from(piece).capacity())
                .sum();
            assert_eq!(kept, content.len(), "{coding}");
            assert!(cost as usize <= 3 * packed.len(), "{coding}: {cost}");
        }
    }

    #[test]
    fn bytes_behind_the_end_are_an_error_and_more_members_are_not() {
        let content = content();
        for (coding, packed) in [("gzip", gzip(&content)), ("br", brotli(&content, 16))] {
            for behind in [&b"x"[..], &[0; 100], &[0xff; 10_000]] {
                for step in [1, 100, usize::MAX] {
                    let all = [&packed, behind].concat();
                    assert!(unpack(coding, &all, step).is_err(), "{coding} by {step}");
                }
            }
        }
        let two = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
        for step in [1, 10, usize::MAX] {
            assert_eq!(unpack("gzip", &two, step).expect("unpacked"), b"one two");
        }
    }

    #[test]
    fn brotli_windows_are_those_of_rfc_7932() {
        for bits in 10..=24 {
            let packed = brotli(b"some words, some words", bits);
            assert_eq!(window(packed[0]), Ok(bits as u8));
            let unpacked = unpack("br", &packed, 1).expect("unpacked");
            assert_eq!(unpacked, b"some words, some words");
        }
        // Large windows: the pattern of eight bits, then six for the size.
        for first in [0x11, 0x91] {
            for size in 0..=255 {
                assert!(unpack("br", &[first, size, 0x03], 1).is_err());
            }
        }
    }

    /// Any input ends in bytes or in an error, without a panic.
    #[test]
    fn damaged_streams_end() {
        let content = &content()[..20_000];
        for (coding, packed) in [("gzip", gzip(content)), ("br", brotli(content, 18))] {
            for place in 0..packed.len() {
                for flip in [1, 0x10, 0x80, 0xff] {
                    let mut damaged = packed.clone();
                    damaged[place] ^= flip;
                    let _ = unpack(coding, &damaged, 64);
                }
            }
        }
    }
}
