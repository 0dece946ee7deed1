//! Where TLS records begin and end.

/// Follows the records in a stream of bytes: RFC 8446, section 5.1.
#[derive(Clone, Default)]
pub(super) struct Records {
    /// How many bytes of the current header have passed, and the length that it tells.
    header: usize,
    length: usize,
    /// How many bytes of its content have passed.
    content: usize,
}

impl Records {
    /// Lets bytes pass until `most` records have ended, which it counts down. Returns how many
    /// bytes have passed.
    pub(super) fn pass(&mut self, bytes: &[u8], most: &mut usize) -> usize {
        let mut passed = 0;
        while passed < bytes.len() && *most > 0 {
            if self.header < HEADER {
                if self.header >= HEADER - 2 {
                    self.length = self.length << 8 | usize::from(bytes[passed]);
                }
                (self.header, passed) = (self.header + 1, passed + 1);
            } else {
                let count = (bytes.len() - passed).min(self.length - self.content);
                (self.content, passed) = (self.content + count, passed + count);
            }
            if self.header == HEADER && self.content == self.length {
                *self = Records::default();
                *most -= 1;
            }
        }
        passed
    }
}

/// The bytes of a record's header: type, version, length.
const HEADER: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_however_their_bytes_come() {
        let mut bytes = Vec::new();
        for length in [0_u16, 1, 22, 300, 16_384] {
            bytes.extend([23, 3, 3]);
            bytes.extend(length.to_be_bytes());
            bytes.extend(vec![0xff; usize::from(length)]);
        }
        for piece in [1, 2, 7, 4096, bytes.len()] {
            let (mut records, mut most) = (Records::default(), 10);
            for piece in bytes.chunks(piece) {
                assert_eq!(records.pass(piece, &mut most), piece.len());
            }
            assert_eq!(most, 5);
        }
        assert_eq!(Records::default().pass(&bytes, &mut 2), 5 + 6);
    }
}
