//! Reads the key-value pairs of a message, and returns them in the order in which they are written.
//!
//! **Invariant:** each key is there once, and the keys are in order.

use crate::decode::otlp::any_value::Repeated;
use crate::decode::otlp::key_layout::{KeyLayout, KeyLayouts, KeyOrder};
use crate::decode::protobuf::{FieldValue, ProtobufReader};

/// A key and the bytes of its value, as they are sent.
#[derive(Clone, Copy, Debug)]
pub(in crate::decode) struct KeyValue<'a> {
    pub(in crate::decode) key: &'a [u8],
    pub(in crate::decode) value: &'a [u8],
}

/// Key-value pairs in order. The last of equal keys wins.
#[derive(Debug)]
pub(in crate::decode) struct KeyValues<'a> {
    /// All pairs as they are sent.
    pairs: Vec<KeyValue<'a>>,
    layout: KeyLayout,
}

/// The memory of key-value pairs, to be used again for others.
#[derive(Debug, Default)]
pub(in crate::decode) struct KeyValueMemory {
    pairs: Vec<KeyValue<'static>>,
    layouts: KeyLayouts,
}

impl<'a> KeyValues<'a> {
    /// Reads the pairs of field `number`, of which the first `limit` count; 0 = all.
    pub(in crate::decode) fn read(
        message: &'a [u8],
        number: u32,
        limit: u32,
        order: KeyOrder,
    ) -> Self {
        let mut pairs = Vec::new();
        read_pairs(&mut pairs, message, number, limit);
        let layout = KeyLayout::of(&pairs, order);
        Self { pairs, layout }
    }

    /// Reads pairs as [`KeyValues::read`] does, with the memory of others.
    pub(in crate::decode) fn read_into(
        memory: &mut KeyValueMemory,
        message: &'a [u8],
        number: u32,
        limit: u32,
        order: KeyOrder,
    ) -> Self {
        let mut pairs = emptied(std::mem::take(&mut memory.pairs));
        read_pairs(&mut pairs, message, number, limit);
        let layout = memory.layouts.take(&pairs, order);
        Self { pairs, layout }
    }

    /// Gives the memory back, for other pairs.
    pub(in crate::decode) fn give_back(self, memory: &mut KeyValueMemory) {
        memory.pairs = emptied(self.pairs);
        memory.layouts.put_back(self.layout);
    }

    pub(in crate::decode) fn is_empty(&self) -> bool {
        self.layout.is_empty()
    }

    /// Returns whether a key is not UTF-8, so that its JSON lacks it.
    pub(in crate::decode) const fn have_invalid_key(&self) -> bool {
        self.layout.has_invalid_key
    }

    /// Returns whether a key names a column.
    pub(in crate::decode) const fn have_column_key(&self) -> bool {
        self.layout.has_column_key
    }

    /// Returns the pairs in order: the JSON `"key": ` of each, and its value.
    #[inline]
    pub(in crate::decode) fn members(&self) -> impl Iterator<Item = (&[u8], &'a [u8])> {
        let keys = self.layout.keys();
        keys.map(|(json, index)| (json, self.pairs[index].value))
    }

    /// Returns the value of a key that is stored as it is sent.
    pub(in crate::decode) fn find(&self, key: &[u8]) -> Option<&'a [u8]> {
        let last = self.pairs.iter().rfind(|pair| pair.key == key);
        Some(last?.value)
    }
}

fn read_pairs<'a>(pairs: &mut Vec<KeyValue<'a>>, message: &'a [u8], number: u32, limit: u32) {
    let limit = match limit {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let mut messages = Repeated::new(message, number);
    while pairs.len() < limit
        && let Some(pair) = messages.next()
    {
        let (key, value) = short_pair(pair).unwrap_or_else(|| key_and_value(pair));
        pairs.push(KeyValue { key, value });
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
        assert_eq!(pairs.find(b"absent"), None);
        written(&pairs)
    }

    fn written(pairs: &KeyValues<'_>) -> Vec<(String, u8)> {
        let key = |json: &[u8]| {
            let json = std::str::from_utf8(json).expect("UTF-8");
            let quoted = json.strip_suffix(": ").expect("a colon");
            serde_json::from_str(quoted).expect("a string")
        };
        let members = pairs.members();
        members.map(|(json, value)| (key(json), value[0])).collect()
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
    fn equal_keys_are_arranged_once_and_others_are_not_taken_for_them() {
        let mut memory = KeyValueMemory::default();
        let lists: [&[&str]; 7] = [
            &["b", "a", "é\n"],
            &["ab", "c"],
            &["a", "bc"],
            &["b", "c", "b"],
            &["b", "c", "d"],
            &[],
            &["$x", "a\0", "correlation.id"],
        ];
        for keys in lists.into_iter().cycle().take(50) {
            let message = pairs(keys);
            for order in [KeyOrder::Jsonb, KeyOrder::Bytewise] {
                let again = KeyValues::read_into(&mut memory, &message, 1, 0, order);
                assert_eq!(written(&again), read(&message, 0, order), "{keys:?}");
                let has_column_key = keys.contains(&"correlation.id");
                assert_eq!(again.have_column_key(), has_column_key);
                again.give_back(&mut memory);
            }
        }
        let message = pairs(lists[0]);
        let address = |pairs: KeyValues<'_>, memory: &mut KeyValueMemory| {
            let (json, _) = pairs.members().next().expect("a member");
            let address = json.as_ptr().addr();
            pairs.give_back(memory);
            address
        };
        let mut read = || {
            let read = KeyValues::read_into(&mut memory, &message, 1, 0, KeyOrder::Jsonb);
            address(read, &mut memory)
        };
        assert_eq!(read(), read(), "the layout is kept");
    }

    #[test]
    fn a_layout_of_many_or_long_keys_is_not_kept() {
        let many: Vec<_> = (0..300).map(|index| index.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let long = vec!["x".repeat(100); 100];
        let long: Vec<_> = long.iter().map(String::as_str).collect();
        for keys in [many, long] {
            let mut memory = KeyValueMemory::default();
            let message: Vec<_> = keys.iter().flat_map(|key| pairs(&[key])).collect();
            let read = KeyValues::read_into(&mut memory, &message, 1, 0, KeyOrder::Jsonb);
            assert!(!read.is_empty());
            read.give_back(&mut memory);
            assert_eq!(memory.layouts.kept_bytes(), 0);
        }
    }

    #[test]
    fn a_key_that_is_not_utf8_is_reported() {
        for (key, is_valid) in [(&b"a\xff"[..], false), (b"a", true)] {
            let key_bytes = u8::try_from(key.len()).expect("short");
            let message = [&[0x0a, key_bytes + 2, 0x0a, key_bytes], key].concat();
            let mut memory = KeyValueMemory::default();
            for _ in 0..2 {
                let read = KeyValues::read_into(&mut memory, &message, 1, 0, KeyOrder::Jsonb);
                assert_eq!(read.have_invalid_key(), !is_valid);
                read.give_back(&mut memory);
            }
        }
    }
}
