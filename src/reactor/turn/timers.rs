//! The timer queue: a four-ary heap with direct access to its entries.
//!
//! - schedule, cancel, reset to earlier, expire: O(log n);
//! - reset to later: O(1). The entry keeps its place in the heap until it reaches the top, and is
//!   moved then. So a server that moves a connection's deadline on every request pays next to
//!   nothing.
//!
//! Entries that are due at the same instant expire in the order in which they were scheduled (or
//! last reset).

use std::time::Instant;

use slotmap::{DefaultKey, SlotMap};

const ARITY: usize = 4;

/// Order of expiry: by deadline, then by order of scheduling.
type Rank = (Instant, u64);

pub(crate) type TimerKey = DefaultKey;

struct Slot<T> {
    /// The entry's position in the heap.
    position: usize,
    /// When it is due. The heap may still hold an earlier rank; see `settle_top`.
    rank: Rank,
    value: T,
}

pub(crate) struct Timers<T> {
    slots: SlotMap<TimerKey, Slot<T>>,
    heap: Vec<(Rank, TimerKey)>,
    sequence: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Timers {
            slots: SlotMap::new(),
            heap: Vec::new(),
            sequence: 0,
        }
    }
}

impl<T> Timers<T> {
    /// The number that the next scheduled entry will get.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn insert(&mut self, at: Instant, value: T) -> TimerKey {
        let rank = self.next_rank(at);
        let position = self.heap.len();
        let key = self.slots.insert(Slot {
            position,
            rank,
            value,
        });
        self.heap.push((rank, key));
        self.sift_up(position);
        key
    }

    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<T> {
        let slot = self.slots.remove(key)?;
        self.remove_at(slot.position);
        Some(slot.value)
    }

    pub(crate) fn get_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        self.slots.get_mut(key).map(|slot| &mut slot.value)
    }

    /// Moves an entry to another instant. Returns false if the entry no longer exists.
    pub(crate) fn reset(&mut self, key: TimerKey, at: Instant) -> bool {
        let rank = self.next_rank(at);
        let Some(slot) = self.slots.get_mut(key) else {
            return false;
        };
        slot.rank = rank;
        let position = slot.position;
        if rank < self.heap[position].0 {
            self.heap[position].0 = rank;
            self.sift_up(position);
        }
        true
    }

    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        self.settle_top().map(|(rank, _)| rank.0)
    }

    /// Removes the first entry if it is due at `now`, and returns it with its deadline. Entries
    /// that were scheduled as number `before` or later are not removed.
    pub(crate) fn pop_due(&mut self, now: Instant, before: u64) -> Option<(Instant, T)> {
        let ((deadline, sequence), key) = self.settle_top()?;
        if deadline > now || sequence >= before {
            return None;
        }
        Some((deadline, self.remove(key)?))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = (Instant, &T)> {
        self.slots.values().map(|slot| (slot.rank.0, &slot.value))
    }

    /// Removes all entries, in no particular order.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        self.heap.clear();
        self.slots.drain().map(|(_, slot)| slot.value).collect()
    }

    fn next_rank(&mut self, at: Instant) -> Rank {
        let rank = (at, self.sequence);
        self.sequence += 1;
        rank
    }

    /// Moves entries that were reset to later down to their place, until the top entry is in its
    /// place.
    fn settle_top(&mut self) -> Option<(Rank, TimerKey)> {
        loop {
            let (rank, key) = *self.heap.first()?;
            let actual = self.slots[key].rank;
            if rank == actual {
                return Some((rank, key));
            }
            self.heap[0].0 = actual;
            self.sift_down(0);
        }
    }

    fn remove_at(&mut self, position: usize) {
        self.heap.swap_remove(position);
        if position < self.heap.len() {
            self.slots[self.heap[position].1].position = position;
            let settled = self.sift_up(position);
            self.sift_down(settled);
        }
    }

    fn sift_up(&mut self, mut position: usize) -> usize {
        let item = self.heap[position];
        while position > 0 {
            let parent = (position - 1) / ARITY;
            if self.heap[parent].0 <= item.0 {
                break;
            }
            self.place(position, self.heap[parent]);
            position = parent;
        }
        self.place(position, item);
        position
    }

    fn sift_down(&mut self, mut position: usize) {
        let item = self.heap[position];
        loop {
            let first = position * ARITY + 1;
            let children = first..(first + ARITY).min(self.heap.len());
            let Some(least) = children.min_by_key(|&child| self.heap[child].0) else {
                break;
            };
            if self.heap[least].0 >= item.0 {
                break;
            }
            self.place(position, self.heap[least]);
            position = least;
        }
        self.place(position, item);
    }

    fn place(&mut self, position: usize, item: (Rank, TimerKey)) {
        self.heap[position] = item;
        self.slots[item.1].position = position;
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;

    /// A small generator, so that a failing run can be repeated.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % limit
        }
    }

    #[test]
    fn agrees_with_an_ordered_map_over_random_operations() {
        let start = Instant::now();
        for seed in 1..50 {
            let mut random = Random(seed * 0x9E37_79B9);
            let mut timers = Timers::default();
            let mut model: BTreeMap<(Instant, u64), u64> = BTreeMap::new();
            let mut live: Vec<(TimerKey, (Instant, u64), u64)> = Vec::new();
            for step in 0..2_000 {
                let at = start + Duration::from_micros(random.below(500));
                match random.below(5) {
                    0 | 1 => {
                        let rank = (at, timers.sequence());
                        let key = timers.insert(at, step);
                        model.insert(rank, step);
                        live.push((key, rank, step));
                    }
                    2 if !live.is_empty() => {
                        let (key, rank, value) =
                            live.swap_remove(random.below(live.len() as u64) as usize);
                        let expected = model.remove(&rank);
                        assert_eq!(timers.remove(key), expected);
                        assert!(expected.is_none() || expected == Some(value));
                    }
                    3 if !live.is_empty() => {
                        let index = random.below(live.len() as u64) as usize;
                        let (key, rank, value) = live[index];
                        let new = (at, timers.sequence());
                        let there = model.remove(&rank).is_some();
                        assert_eq!(timers.reset(key, at), there);
                        if there {
                            model.insert(new, value);
                            live[index].1 = new;
                        }
                    }
                    _ => {
                        assert_eq!(
                            timers.next_deadline(),
                            model.keys().next().map(|rank| rank.0)
                        );
                        let due = model.keys().next().copied().filter(|rank| rank.0 <= at);
                        let expected = due.and_then(|rank| Some((rank.0, model.remove(&rank)?)));
                        assert_eq!(timers.pop_due(at, u64::MAX), expected);
                    }
                }
            }
            assert_eq!(timers.len(), model.len());
            let mut rest = timers.drain();
            let mut expected: Vec<_> = model.into_values().collect();
            rest.sort_unstable();
            expected.sort_unstable();
            assert_eq!(rest, expected);
        }
    }

    #[test]
    fn an_entry_scheduled_after_the_mark_waits() {
        let now = Instant::now();
        let mut timers = Timers::default();
        timers.insert(now, 'a');
        let mark = timers.sequence();
        timers.insert(now, 'b');
        assert_eq!(timers.pop_due(now, mark), Some((now, 'a')));
        assert_eq!(timers.pop_due(now, mark), None);
        assert_eq!(timers.pop_due(now, u64::MAX), Some((now, 'b')));
    }
}
