//! The metadata of one event, which is written where its row is built, so that it is not copied.
//!
//! **Invariant:** the text is the same each time it is written.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::fmt;

use crate::decode::Sink;
use crate::decode::json::json_text::{InvalidText, JsonText};
use crate::event::Event;

/// Metadata that takes more than this, by the estimate of its limits on growth, is written in pieces and not held as a
/// whole.
pub(in crate::decode) const HELD_BYTES: usize = 256 << 10;

/// Maximum factor by which metadata exceeds the estimate of its length.
const GROWTH: usize = 8;

/// Writes the metadata of one event.
pub(in crate::decode) type WriteMetadata<'a> = dyn Fn(&mut JsonText<'_>) + 'a;

/// Passes an event to `sink` with the metadata that `write` writes, which takes about `about_bytes`. Returns whether
/// the sink wants more.
///
/// # Errors
/// [`InvalidText`] if the metadata has a text that is not UTF-8. The sink may have a row of it.
pub(in crate::decode) fn hand_on(
    sink: &mut dyn Sink,
    event: &Event<'_>,
    write: &WriteMetadata<'_>,
    about_bytes: usize,
) -> Result<bool, InvalidText> {
    let metadata = EventMetadata::new(write, about_bytes);
    sink.event(event, &metadata);
    if metadata.has_invalid_text.get() {
        return Err(InvalidText);
    }
    Ok(sink.wants_more())
}

/// The metadata of one event, written each time it is asked for.
pub struct EventMetadata<'a> {
    about_bytes: usize,
    bytes: OnceCell<usize>,
    write: &'a WriteMetadata<'a>,
    has_invalid_text: Cell<bool>,
}

impl<'a> EventMetadata<'a> {
    /// Makes the metadata that `write` writes, which must be the same each time.
    pub(in crate::decode) const fn new(write: &'a WriteMetadata<'a>, about_bytes: usize) -> Self {
        Self {
            about_bytes,
            bytes: OnceCell::new(),
            write,
            has_invalid_text: Cell::new(false),
        }
    }

    /// Returns whether the JSON text is longer than `limit_bytes`. It is measured only if it may be.
    #[must_use]
    pub fn exceeds(&self, limit_bytes: usize) -> bool {
        self.about_bytes.saturating_mul(GROWTH) > limit_bytes && self.bytes() > limit_bytes
    }

    /// The length of the JSON text, which is written once to be measured.
    #[must_use]
    pub fn bytes(&self) -> usize {
        *self.bytes.get_or_init(|| {
            let mut bytes = 0;
            self.write(&mut |piece| bytes += piece.len());
            bytes
        })
    }

    /// Appends the JSON text, which is UTF-8.
    pub fn append_to(&self, bytes: &mut Vec<u8>) {
        let mut out = JsonText::appending(bytes);
        (self.write)(&mut out);
        self.ended(out.finish());
    }

    /// Hands the JSON text to `take`, in pieces of at most 256 KiB.
    pub fn write(&self, take: &mut dyn FnMut(&str)) {
        let mut buffer = Vec::new();
        let mut out = JsonText::in_pieces(&mut buffer, take);
        (self.write)(&mut out);
        self.ended(out.finish());
    }

    fn ended(&self, written: Result<(), InvalidText>) {
        self.has_invalid_text
            .set(self.has_invalid_text.get() || written.is_err());
    }

    /// Returns `event` with this metadata, all of it in memory.
    #[must_use]
    pub fn of<'e>(&self, event: &Event<'e>) -> Event<'e> {
        let mut text = String::new();
        if self.about_bytes > HELD_BYTES {
            text.reserve_exact(self.bytes());
        }
        self.write(&mut |piece| text.push_str(piece));
        Event {
            metadata: Cow::Owned(text),
            ..event.clone()
        }
    }
}

impl fmt::Debug for EventMetadata<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of metadata", self.bytes())
    }
}
