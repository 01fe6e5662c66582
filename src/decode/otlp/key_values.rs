//! Reads the key-value pairs of a message in the order in which they are written.
//!
//! **Invariant:** each key is there once, and the keys are in order. Pairs that are sent in order are not sorted.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::decode::json::json_writer;
use crate::decode::json::string::is_plain_ascii;
use crate::decode::otlp::any_value::repeated;
use crate::decode::protobuf::{FieldValue, ProtobufReader};

/// An order of an object's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decode) enum KeyOrder {
    /// Shorter keys first, then by bytes.
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
    #[inline]
    fn rank(self, key: &[u8]) -> u64 {
        let first_bytes = u64::from_be_bytes(first_eight(key));
        match self {
            Self::Jsonb => (key.len().min(0xffff) as u64) << 48 | first_bytes >> 16,
            Self::Bytewise => first_bytes,
        }
    }
}

/// Returns the first eight bytes of a text, of a shorter one with zeros behind it.
#[inline]
fn first_eight(text: &[u8]) -> [u8; 8] {
    if let Some(first) = text.first_chunk() {
        return *first;
    }
    let mut padded = [0; 8];
    for (to, from) in padded.iter_mut().zip(text) {
        *to = *from;
    }
    padded
}

/// A key as it is stored, and the bytes of its value.
#[derive(Clone, Debug)]
pub(in crate::decode) struct KeyValue<'a> {
    rank: u64,
    pub(in crate::decode) key: Cow<'a, [u8]>,
    /// The key needs no escape.
    pub(in crate::decode) is_plain: bool,
    pub(in crate::decode) value: &'a [u8],
}

/// Key-value pairs in order. The last of equal keys wins.
#[derive(Debug)]
pub(in crate::decode) struct KeyValues<'a> {
    pairs: Vec<KeyValue<'a>>,
    order: KeyOrder,
}

/// The memory of key-value pairs, to be used again for others.
#[derive(Debug, Default)]
pub(in crate::decode) struct KeyValueMemory(Vec<KeyValue<'static>>);

impl<'a> KeyValues<'a> {
    /// Reads the pairs of field `number`, of which the first `limit` count; 0 = all.
    pub(in crate::decode) fn read(
        message: &'a [u8],
        number: u32,
        limit: u32,
        order: KeyOrder,
    ) -> Self {
        Self::read_into(
            &mut KeyValueMemory::default(),
            message,
            number,
            limit,
            order,
        )
    }

    /// Reads pairs as [`KeyValues::read`] does, in the memory of others.
    pub(in crate::decode) fn read_into(
        memory: &mut KeyValueMemory,
        message: &'a [u8],
        number: u32,
        limit: u32,
        order: KeyOrder,
    ) -> Self {
        let limit = match limit {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let mut pairs: Vec<KeyValue<'a>> = emptied(std::mem::take(&mut memory.0));
        let mut is_ordered = true;
        for pair in repeated(message, number).take(limit) {
            let pair = KeyValue::read(pair, order);
            is_ordered &= pairs
                .last()
                .is_none_or(|last| last.compare(&pair, order).is_lt());
            pairs.push(pair);
        }
        if !is_ordered {
            sort(&mut pairs, order);
        }
        Self { pairs, order }
    }

    /// Returns the memory, for other pairs.
    pub(in crate::decode) fn into_memory(self) -> KeyValueMemory {
        KeyValueMemory(emptied(self.pairs))
    }

    pub(in crate::decode) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub(in crate::decode) fn iter(&self) -> impl Iterator<Item = &KeyValue<'a>> {
        self.pairs.iter()
    }

    /// Returns the value of a key.
    pub(in crate::decode) fn find(&self, key: &[u8]) -> Option<&'a [u8]> {
        let at = self
            .pairs
            .binary_search_by(|pair| self.order.compare(&pair.key, key))
            .ok()?;
        Some(self.pairs[at].value)
    }
}

impl<'a> KeyValue<'a> {
    #[inline]
    fn read(pair: &'a [u8], order: KeyOrder) -> Self {
        let (key, value) = short_pair(pair).unwrap_or_else(|| key_and_value(pair));
        let is_plain = is_plain_ascii(key);
        let key = if key.first() == Some(&b'$') || !is_plain && key.contains(&0) {
            Cow::Owned(stored_key(key))
        } else {
            Cow::Borrowed(key)
        };
        Self {
            rank: order.rank(&key),
            key,
            is_plain,
            value,
        }
    }

    #[inline]
    fn compare(&self, other: &Self, order: KeyOrder) -> Ordering {
        let ranks = self.rank.cmp(&other.rank);
        ranks.then_with(|| order.compare(&self.key, &other.key))
    }
}

#[cold]
#[inline(never)]
fn sort(pairs: &mut Vec<KeyValue<'_>>, order: KeyOrder) {
    // The sort is stable, so the last of equal keys stays last.
    pairs.sort_by(|a, b| a.compare(b, order));
    if pairs.windows(2).any(|two| two[0].key == two[1].key) {
        pairs.reverse();
        pairs.dedup_by(|later, earlier| later.key == earlier.key);
        pairs.reverse();
    }
}

/// Returns an empty vector in the memory of another.
fn emptied<'b>(mut pairs: Vec<KeyValue<'_>>) -> Vec<KeyValue<'b>> {
    pairs.clear();
    let none = pairs.into_iter().map(|_| unreachable!("no pair is left"));
    none.collect()
}

/// Splits a pair whose key and value are short and given once each, in this order, as most are.
#[inline]
fn short_pair(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x0a, key_bytes @ ..0x80, rest @ ..] = pair else {
        return None;
    };
    let (key, value) = rest.split_at_checked(usize::from(*key_bytes))?;
    match value {
        [0x12, value_bytes @ ..0x80, value @ ..] if usize::from(*value_bytes) == value.len() => {
            Some((key, value))
        }
        _ => None,
    }
}

fn key_and_value(pair: &[u8]) -> (&[u8], &[u8]) {
    let (mut key, mut value) = (&[][..], &[][..]);
    let mut reader = ProtobufReader::new(pair);
    while let Ok(Some((number, found))) = reader.field() {
        match (number, found) {
            (1, FieldValue::Bytes(bytes)) => key = bytes,
            (2, FieldValue::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    (key, value)
}

/// Returns a key as it is stored: without a NUL, and with one more dollar if it begins with one, as the tags do.
#[cold]
fn stored_key(key: &[u8]) -> Vec<u8> {
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
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(keys: &[&str]) -> Vec<u8> {
        let mut message = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let key_bytes = u8::try_from(key.len()).expect("short");
            let index = u8::try_from(index).expect("few");
            message.extend_from_slice(&[0x0a, key_bytes + 5, 0x0a, key_bytes]);
            message.extend_from_slice(key.as_bytes());
            message.extend_from_slice(&[0x12, 1, index]);
        }
        message
    }

    fn read(message: &[u8], limit: u32, order: KeyOrder) -> Vec<(String, u8)> {
        let pairs = KeyValues::read(message, 1, limit, order);
        let text = |key: &[u8]| String::from_utf8(key.to_vec()).expect("UTF-8");
        for pair in pairs.iter() {
            assert_eq!(pairs.find(&pair.key), Some(pair.value));
        }
        assert_eq!(pairs.find(b"absent"), None);
        pairs
            .iter()
            .map(|pair| (text(&pair.key), pair.value[0]))
            .collect()
    }

    #[test]
    fn the_last_of_equal_keys_wins_in_either_order() {
        let keys = [
            "b",
            "a",
            "",
            "bb",
            "aaaaaaaaaaaaab",
            "b",
            "aaaaaaaaaaaaaa",
            "aaaaaaaaa",
            "a",
            "aaaaaa",
            "aaaaaaa",
        ];
        for (order, sorted) in [
            (
                KeyOrder::Jsonb,
                "|a|b|bb|aaaaaa|aaaaaaa|aaaaaaaaa|aaaaaaaaaaaaaa|aaaaaaaaaaaaab",
            ),
            (
                KeyOrder::Bytewise,
                "|a|aaaaaa|aaaaaaa|aaaaaaaaa|aaaaaaaaaaaaaa|aaaaaaaaaaaaab|b|bb",
            ),
        ] {
            let found = read(&pairs(&keys), 0, order);
            let names: Vec<_> = found.iter().map(|(key, _)| &**key).collect();
            assert_eq!(names.join("|"), sorted);
            for (key, value) in found {
                let last = keys.iter().rposition(|known| *known == key);
                assert_eq!(last, Some(value.into()), "{key}");
            }
        }
    }

    #[test]
    fn the_first_pairs_count_and_keys_cannot_be_taken_for_tags() {
        let message = pairs(&["$b", "a\0", "$", "c", "é"]);
        let found = read(&message, 4, KeyOrder::Bytewise);
        let names: Vec<_> = found.iter().map(|(key, _)| &**key).collect();
        assert_eq!(names, ["$$", "$$b", "a\u{fffd}", "c"]);
    }

    #[test]
    fn the_memory_of_pairs_is_used_again() {
        let message = pairs(&["a", "b", "c", "d", "e", "f"]);
        let first = KeyValues::read(&message, 1, 0, KeyOrder::Jsonb);
        let (at, capacity) = (first.pairs.as_ptr().addr(), first.pairs.capacity());
        let mut memory = first.into_memory();
        let other = pairs(&["z"]);
        let second = KeyValues::read_into(&mut memory, &other, 1, 0, KeyOrder::Jsonb);
        assert_eq!(second.pairs.as_ptr().addr(), at);
        assert_eq!(second.pairs.capacity(), capacity);
        assert_eq!(second.pairs.len(), 1);
    }
}
