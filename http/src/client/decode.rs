//! Decompresses response bodies.

use std::io::{self, ErrorKind, Read};

use crate::Bytes;

/// Decompresses a body as it arrives. Each call to [`read`](Decoder::read) returns a bounded piece,
/// however strongly the peer compressed the data.
pub(super) enum Decoder {
    Gzip(Box<flate2::read::MultiGzDecoder<Source>>),
    Brotli(Box<brotli::Decompressor<Source>>),
}

/// The most bytes that one call decompresses.
const PIECE: usize = 64 * 1024;

/// Compressed bytes that have arrived and are not decompressed yet.
#[derive(Default)]
pub(super) struct Source {
    bytes: Bytes,
    begun: bool,
    ended: bool,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() && !self.ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = self.bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.bytes.split_to(count));
        Ok(count)
    }
}

impl Decoder {
    pub(super) fn new(coding: &str) -> Option<Self> {
        match coding.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Some(Decoder::Gzip(Box::new(flate2::read::MultiGzDecoder::new(
                Source::default(),
            )))),
            "br" => Some(Decoder::Brotli(Box::new(brotli::Decompressor::new(
                Source::default(),
                4096,
            )))),
            _ => None,
        }
    }

    fn source(&mut self) -> &mut Source {
        match self {
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Brotli(decoder) => decoder.get_mut(),
        }
    }

    /// Adds compressed bytes. Everything before them must have been read.
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

    /// Returns the next bytes, or `None` if it needs more input or has reached the end. Truncated
    /// or invalid input is an error.
    pub(super) fn read(&mut self) -> io::Result<Option<Bytes>> {
        // A response to HEAD and a 304 name the coding of a body that they do not carry.
        if !self.source().begun {
            return Ok(None);
        }
        let mut piece = vec![0; PIECE];
        let read = match self {
            Decoder::Gzip(decoder) => decoder.read(&mut piece),
            Decoder::Brotli(decoder) => decoder.read(&mut piece),
        };
        match read {
            Ok(0) => Ok(None),
            Ok(count) => {
                piece.truncate(count);
                Ok(Some(piece.into()))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn unpack(coding: &str, packed: &[u8], step: usize) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(coding).expect("a known coding");
        let mut all = Vec::new();
        for piece in packed.chunks(step) {
            decoder.feed(Bytes::copy_from_slice(piece));
            while let Some(bytes) = decoder.read()? {
                assert!(bytes.len() <= PIECE);
                all.extend_from_slice(&bytes);
            }
        }
        decoder.end();
        while let Some(bytes) = decoder.read()? {
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    #[test]
    fn what_comes_in_any_pieces_is_unpacked_in_bounded_ones_and_cut_off_it_is_an_error() {
        let content: Vec<u8> = (0..300_000_u32)
            .flat_map(|number| (number / 1_000).to_le_bytes())
            .collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&content).expect("in memory");
        let mut brotli = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
        brotli.write_all(&content).expect("in memory");
        for (coding, packed) in [
            ("gzip", gzip.finish().expect("in memory")),
            ("br", brotli.into_inner()),
        ] {
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
}
