//! A map for a few entries.

use std::borrow::Borrow;

/// A map of a few entries, sorted by key, in one piece of memory. `BTreeMap` would do as well, but
/// each kind of it is 7,000 lines for the compiler, and all who build this crate wait for them.
#[derive(Clone, Debug)]
pub(crate) struct Table<K, V>(Vec<(K, V)>);

impl<K, V> Table<K, V> {
    pub(crate) const fn new() -> Self {
        Table(Vec::new())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub(crate) fn retain(&mut self, mut stays: impl FnMut(&K) -> bool) {
        self.0.retain(|(key, _)| stays(key));
    }
}

impl<K: Ord, V> Table<K, V> {
    /// Returns where the key is, or where it belongs.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0
            .binary_search_by(|(present, _)| present.borrow().cmp(key))
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// Returns what was there before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.find(key).ok().map(|at| self.0.remove(at).1)
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Table::new()
    }
}

impl<K, V> IntoIterator for Table<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_replaced_and_removed_by_key() {
        let mut table = Table::new();
        for key in [5, 1, 9, 3] {
            assert_eq!(table.insert(key, key * 10), None);
        }
        assert_eq!(table.insert(9, 91), Some(90));
        assert_eq!(table.keys().copied().collect::<Vec<_>>(), [1, 3, 5, 9]);
        assert_eq!(table.get(&9), Some(&91));
        assert_eq!(table.remove(&3), Some(30));
        assert_eq!(table.remove(&3), None);
        table.retain(|key| *key != 5);
        assert!(table.contains(&1) && !table.contains(&5));
        assert_eq!(table.into_iter().collect::<Vec<_>>(), [(1, 10), (9, 91)]);
    }
}
