//! The keys under which sources are watched: the slots of their table. A key must fit into a
//! pointer, because that is what selectors keep for each source.

use slotmap::{DefaultKey, Key as _, KeyData};

use crate::reactor::backend::Key;

#[cfg(not(target_pointer_width = "64"))]
pub(super) use self::narrow::Narrow as Keys;

#[cfg(target_pointer_width = "64")]
#[derive(Default)]
pub(super) struct Keys(());

#[cfg(target_pointer_width = "64")]
impl Keys {
    pub(super) fn key(&self, slot: DefaultKey) -> Key {
        Key::from_u64(slot.data().as_ffi())
    }

    /// The slot of a key. An old key's is empty, or another one.
    pub(super) fn slot(&self, key: Key) -> DefaultKey {
        KeyData::from_ffi(key.to_u64()).into()
    }
}

#[cfg(any(test, not(target_pointer_width = "64")))]
mod narrow {
    use std::cell::RefCell;

    use super::*;

    /// Bits for the number of a slot. The others tell its uses apart: an old event is one of the
    /// same turn.
    const NUMBER: u32 = 24;

    /// Keys of 32 bits.
    #[derive(Default)]
    pub(in crate::reactor::turn) struct Narrow {
        /// How often each slot was used, as its table counts that.
        versions: RefCell<Vec<u32>>,
    }

    impl Narrow {
        pub(in crate::reactor::turn) fn key(&self, slot: DefaultKey) -> Key {
            let (number, version) = parts(slot);
            let mut versions = self.versions.borrow_mut();
            if versions.len() <= number as usize {
                versions.resize(number as usize + 1, 0);
            }
            versions[number as usize] = version;
            Key::from_u64(narrowed(number, version).into())
        }

        pub(in crate::reactor::turn) fn slot(&self, key: Key) -> DefaultKey {
            let key = key.to_u64() as u32;
            let number = key & ((1 << NUMBER) - 1);
            let version = self.versions.borrow().get(number as usize).copied();
            match version.filter(|&version| narrowed(number, version) == key) {
                Some(version) => {
                    KeyData::from_ffi(u64::from(version) << 32 | u64::from(number)).into()
                }
                None => DefaultKey::null(),
            }
        }
    }

    fn parts(slot: DefaultKey) -> (u32, u32) {
        let number = slot.data().as_ffi();
        (number as u32, (number >> 32) as u32)
    }

    /// The lowest bit of a version says that the slot is used.
    fn narrowed(number: u32, version: u32) -> u32 {
        version >> 1 << NUMBER | number
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::narrow::Narrow;

    /// On such systems, a slot that was used again was never heard of.
    #[test]
    fn keys_of_32_bits_find_the_slots_that_are_used_again() {
        let (keys, mut slots) = (Narrow::default(), SlotMap::new());
        let stays = slots.insert(());
        let kept = keys.key(stays);
        let mut old = None;
        for _ in 0..1_000 {
            let slot = slots.insert(());
            let key = keys.key(slot);
            assert!(key.to_u64() <= u32::MAX.into());
            assert_eq!(keys.slot(key), slot);
            if let Some(old) = old.replace(key) {
                assert!(!slots.contains_key(keys.slot(old)));
            }
            slots.remove(slot);
        }
        assert_eq!(keys.slot(kept), stays);
    }
}
