//! Where a page ends, as an opaque text in the link to the next one.
//!
//! **Invariant:** pages that follow one another's cursors hold each event that was stored throughout exactly once, however
//! many share a timestamp.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The place of an event in every order: its time, then its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Unix ms.
    pub(super) timestamp: i64,
    pub(super) id: i64,
}

/// The order of a page by [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    NewestFirst,
    OldestFirst,
}

const VERSION: u8 = 1;

/// The cursor of the page after `last`.
pub(super) fn encode(order: Order, last: Key) -> String {
    let mut bytes = vec![VERSION, order as u8];
    bytes.extend_from_slice(&last.timestamp.to_be_bytes());
    bytes.extend_from_slice(&last.id.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// `None` for anything that [`encode`] did not make for this order.
pub(super) fn decode(order: Order, text: &str) -> Option<Key> {
    let bytes: [u8; 18] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
    let [version, of_order, key @ ..] = bytes;
    if version != VERSION || of_order != order as u8 {
        return None;
    }
    let (timestamp, id) = key.split_at(8);
    Some(Key {
        timestamp: i64::from_be_bytes(timestamp.try_into().ok()?),
        id: i64::from_be_bytes(id.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::{Key, Order, decode, encode};

    #[test]
    fn a_cursor_comes_back_as_the_key_it_was_made_from() {
        let key = Key {
            timestamp: 1_700_000_000_123,
            id: i64::MAX,
        };
        let cursor = encode(Order::NewestFirst, key);
        assert_eq!(decode(Order::NewestFirst, &cursor), Some(key));
        assert!(
            cursor
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
    }

    #[test]
    fn a_cursor_of_another_order_or_of_another_make_is_refused() {
        let cursor = encode(
            Order::NewestFirst,
            Key {
                timestamp: 1,
                id: 1,
            },
        );
        assert_eq!(decode(Order::OldestFirst, &cursor), None);
        for bad in ["", "AA", "!!!", &cursor[1..], &format!("{cursor}AA")] {
            assert_eq!(decode(Order::NewestFirst, bad), None, "{bad}");
        }
    }
}
