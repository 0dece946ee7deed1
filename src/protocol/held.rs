//! Bytes that a protocol has received and handles later.

/// Received bytes that were not handled yet: the protocol paused reading between two messages, or
/// has used up its share of the turn.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    /// How many of them were handled.
    at: usize,
}

impl Held {
    /// Calls `handle` with the held bytes and those of `data` behind them. It moves the slice
    /// behind what it has handled; the rest is held.
    pub(crate) fn feed(&mut self, data: &[u8], handle: impl FnOnce(&mut &[u8])) {
        if self.bytes.is_empty() {
            let mut rest = data;
            handle(&mut rest);
            self.bytes.extend_from_slice(rest);
            return;
        }
        if !data.is_empty() {
            self.bytes.drain(..self.at);
            self.at = 0;
            self.bytes.extend_from_slice(data);
        }
        let mut rest = &self.bytes[self.at..];
        handle(&mut rest);
        self.at = self.bytes.len() - rest.len();
        if rest.is_empty() {
            *self = Held::default();
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Held::default();
    }
}
