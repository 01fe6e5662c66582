//! The keys of a list of attributes in the order in which they are written, as JSON.
//!
//! Most lists of a request have the keys of a list before them. A few layouts are kept, so that equal keys are neither
//! sorted nor escaped again.
//!
//! **Invariant:** a layout depends on the keys alone; it has each key once and in order, and of equal keys the last.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::decode::json::json_writer;
use crate::decode::otlp::column_keys::is_column_key;
use crate::decode::otlp::key_values::KeyValue;

/// Number of layouts that are kept.
const LAYOUTS: usize = 16;

/// Maximum number of keys of a layout that is kept.
const KEPT_KEYS: usize = 256;

/// Maximum number of bytes of the keys of a layout that is kept, as sent and as JSON.
const KEPT_BYTES: usize = 8 << 10;

/// An order of an object's keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::decode) enum KeyOrder {
    /// Shorter keys first, then by bytes.
    #[default]
    Jsonb,
    Bytewise,
}

impl KeyOrder {
    pub(in crate::decode) fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Self::Jsonb => json_writer::key_order(a, b),
            Self::Bytewise => a.cmp(b),
        }
    }

    /// Returns a number that orders most keys. If it is equal for two keys, their bytes decide.
    fn rank(self, key: &[u8]) -> u64 {
        let mut first_bytes = [0; 8];
        for (to, from) in first_bytes.iter_mut().zip(key) {
            *to = *from;
        }
        let first_bytes = u64::from_be_bytes(first_bytes);
        match self {
            Self::Jsonb => (key.len().min(0xffff) as u64) << 48 | first_bytes >> 16,
            Self::Bytewise => first_bytes,
        }
    }
}

/// The order of a list's keys, and their JSON.
#[derive(Debug, Default)]
pub(in crate::decode) struct KeyLayout {
    order: KeyOrder,
    /// The keys that count, in order.
    keys: Vec<PlacedKey>,
    /// The keys that count, in order, each as the JSON `"key": `.
    json: Vec<u8>,
    /// Its place among the layouts that are kept.
    slot: usize,
    /// A key is not UTF-8, so the JSON lacks it.
    pub(in crate::decode) has_invalid_key: bool,
    /// A key names a column.
    pub(in crate::decode) has_column_key: bool,
    /// Of a layout that is kept, all keys as sent, one behind the other.
    sent: Vec<u8>,
    /// The end of each key in `sent`.
    ends: Vec<usize>,
}

/// The place of a key among the others.
#[derive(Clone, Copy, Debug)]
struct PlacedKey {
    rank: u64,
    /// Index of its pair in the list as sent.
    index: usize,
    /// End of its JSON.
    json_end: usize,
}

impl KeyLayout {
    /// Returns the layout of the pairs' keys.
    pub(super) fn of(pairs: &[KeyValue<'_>], order: KeyOrder) -> Self {
        Self::default().arranged(pairs, order)
    }

    /// Returns the layout of other keys, in the same memory.
    fn arranged(mut self, pairs: &[KeyValue<'_>], order: KeyOrder) -> Self {
        self.order = order;
        self.keys.clear();
        self.keys
            .extend(pairs.iter().enumerate().map(|(index, pair)| {
                let rank = order.rank(&stored_key(pair.key));
                let json_end = 0;
                PlacedKey {
                    rank,
                    index,
                    json_end,
                }
            }));
        if !self.keys.is_sorted_by(|a, b| a.rank < b.rank) {
            self.sort(pairs);
        }
        self.json.clear();
        self.has_invalid_key = false;
        self.has_column_key = false;
        for place in &mut self.keys {
            let key = stored_key(pairs[place.index].key);
            self.has_invalid_key |= json_writer::append_key(&mut self.json, &key).is_err();
            self.has_column_key |= is_column_key(&key);
            place.json_end = self.json.len();
        }
        self
    }

    /// Sorts the keys, of which some are not in order or have the same rank.
    fn sort(&mut self, pairs: &[KeyValue<'_>]) {
        let key = |place: &PlacedKey| stored_key(pairs[place.index].key);
        let order = self.order;
        // The sort is stable, so the last of equal keys stays last.
        self.keys.sort_by(|a, b| {
            let ranks = a.rank.cmp(&b.rank);
            ranks.then_with(|| order.compare(&key(a), &key(b)))
        });
        let are_equal = |a: &PlacedKey, b: &PlacedKey| a.rank == b.rank && key(a) == key(b);
        self.keys.reverse();
        self.keys
            .dedup_by(|earlier, later| are_equal(earlier, later));
        self.keys.reverse();
    }

    /// Notes the keys as they are sent, for [`KeyLayout::is_of`].
    fn note_sent(&mut self, pairs: &[KeyValue<'_>]) {
        self.sent.clear();
        self.ends.clear();
        for pair in pairs {
            self.sent.extend_from_slice(pair.key);
            self.ends.push(self.sent.len());
        }
    }

    /// Returns whether the pairs have exactly the keys that were noted.
    fn is_of(&self, pairs: &[KeyValue<'_>], order: KeyOrder) -> bool {
        let mut start = 0;
        self.order == order
            && self.ends.len() == pairs.len()
            && self.ends.iter().zip(pairs).all(|(end, pair)| {
                let key = &self.sent[start..*end];
                start = *end;
                key == pair.key
            })
    }

    /// Returns the keys in order: the JSON of each, and the index of its pair.
    #[inline]
    pub(super) fn keys(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let mut start = 0;
        self.keys.iter().map(move |place| {
            let json = &self.json[start..place.json_end];
            start = place.json_end;
            (json, place.index)
        })
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// The layouts that are kept.
#[derive(Debug, Default)]
pub(in crate::decode) struct KeyLayouts(Vec<KeyLayout>);

impl KeyLayouts {
    /// Takes out the layout of the pairs' keys, or makes it. It is kept if it is put back.
    pub(super) fn take(&mut self, pairs: &[KeyValue<'_>], order: KeyOrder) -> KeyLayout {
        if self.0.is_empty() {
            self.0.resize_with(LAYOUTS, KeyLayout::default);
        }
        let key_bytes: usize = pairs.iter().map(|pair| pair.key.len()).sum();
        let slot = (key_bytes + pairs.len()) % LAYOUTS;
        let kept = std::mem::take(&mut self.0[slot]);
        if kept.is_of(pairs, order) {
            return kept;
        }
        let mut layout = kept.arranged(pairs, order);
        layout.note_sent(pairs);
        layout.slot = slot;
        layout
    }

    /// Keeps a layout that was taken, unless it is large.
    pub(super) fn put_back(&mut self, layout: KeyLayout) {
        let bytes = layout.sent.len() + layout.json.len();
        if bytes <= KEPT_BYTES && layout.ends.len() <= KEPT_KEYS {
            let slot = layout.slot;
            self.0[slot] = layout;
        }
    }

    /// Returns the number of bytes of all keys that are kept.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        let bytes = |layout: &KeyLayout| layout.sent.len() + layout.json.len();
        self.0.iter().map(bytes).sum()
    }
}

/// Returns a key as it is stored: without a NUL, and with one more dollar if it begins with one, as the tags do.
#[inline]
fn stored_key(key: &[u8]) -> Cow<'_, [u8]> {
    if key.first() != Some(&b'$') && !key.contains(&0) {
        return Cow::Borrowed(key);
    }
    let mut changed = Vec::with_capacity(key.len() + 1);
    if key.first() == Some(&b'$') {
        changed.push(b'$');
    }
    for byte in key {
        match byte {
            0 => changed.extend_from_slice("\u{fffd}".as_bytes()),
            byte => changed.push(*byte),
        }
    }
    Cow::Owned(changed)
}
