//! The cursor: the key of a page's last event, as an opaque text in the link to the next page.
//!
//! **Invariant:** a client that follows the cursors gets every event that was stored all the time exactly once, even if
//! many events share a timestamp.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The sort key of an event: its time, then its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PageKey {
    /// Unix ms.
    pub(super) timestamp: i64,
    pub(super) id: i64,
}

/// The order of a page by [`PageKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SortOrder {
    NewestFirst,
    OldestFirst,
}

const VERSION: u8 = 1;

/// Returns the cursor of the page after `last`.
pub(super) fn encode(order: SortOrder, last: PageKey) -> String {
    let mut bytes = vec![VERSION, order as u8];
    bytes.extend_from_slice(&last.timestamp.to_be_bytes());
    bytes.extend_from_slice(&last.id.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a cursor; `None` if [`encode`] did not make it for this order.
pub(super) fn decode(order: SortOrder, text: &str) -> Option<PageKey> {
    let bytes: [u8; 18] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
    let [version, of_order, key @ ..] = bytes;
    if version != VERSION || of_order != order as u8 {
        return None;
    }
    let (timestamp, id) = key.split_at(8);
    Some(PageKey {
        timestamp: i64::from_be_bytes(timestamp.try_into().ok()?),
        id: i64::from_be_bytes(id.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::{PageKey, SortOrder, decode, encode};

    #[test]
    fn a_cursor_comes_back_as_the_key_it_was_made_from() {
        let key = PageKey {
            timestamp: 1_700_000_000_123,
            id: i64::MAX,
        };
        let cursor = encode(SortOrder::NewestFirst, key);
        assert_eq!(decode(SortOrder::NewestFirst, &cursor), Some(key));
        assert!(
            cursor
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
    }

    #[test]
    fn a_cursor_of_another_order_or_of_another_make_is_refused() {
        let cursor = encode(
            SortOrder::NewestFirst,
            PageKey {
                timestamp: 1,
                id: 1,
            },
        );
        assert_eq!(decode(SortOrder::OldestFirst, &cursor), None);
        for bad in ["", "AA", "!!!", &cursor[1..], &format!("{cursor}AA")] {
            assert_eq!(decode(SortOrder::NewestFirst, bad), None, "{bad}");
        }
    }
}
