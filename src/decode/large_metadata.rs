//! Metadata of one event that is too long to be held several times on its way to the store.
//!
//! **Invariant:** the pieces are [`LargeMetadata::bytes`] long together, each time they are written.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;

use crate::decode::Sink;
use crate::decode::json::json_text::JsonText;
use crate::event::Event;

/// An event that takes more than this in a request, by the estimate of its limits on growth, is handed on as
/// [`crate::decode::Sink::large_event`].
pub(in crate::decode) const HELD_BYTES: usize = 256 << 10;

/// Writes the metadata of one event.
pub(in crate::decode) type WriteMetadata<'a> = dyn Fn(&mut JsonText<'_>) + 'a;

/// Passes an event to `sink` with the metadata that `write` writes, which takes about `bytes`: in memory, or as
/// [`LargeMetadata`]. `buffer` is memory that is used again. Returns whether the sink wants more.
pub(in crate::decode) fn hand_on(
    sink: &mut dyn Sink,
    event: Event<'_>,
    write: &WriteMetadata<'_>,
    bytes: usize,
    buffer: &mut String,
) -> bool {
    if bytes > HELD_BYTES {
        sink.large_event(&event, &LargeMetadata::new(write));
    } else {
        let mut out = JsonText::whole(std::mem::take(buffer));
        write(&mut out);
        *buffer = out.finish();
        sink.event(&Event {
            metadata: Cow::Borrowed(buffer),
            ..event
        });
    }
    sink.wants_more()
}

/// The metadata of one event, written anew each time it is asked for.
pub struct LargeMetadata<'a> {
    bytes: OnceCell<usize>,
    write: &'a WriteMetadata<'a>,
}

impl<'a> LargeMetadata<'a> {
    /// Makes the metadata that `write` writes, which must be the same each time.
    pub(in crate::decode) const fn new(write: &'a WriteMetadata<'a>) -> Self {
        Self {
            bytes: OnceCell::new(),
            write,
        }
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

    /// Hands the JSON text to `take`, in pieces of at most 256 KiB.
    pub fn write(&self, take: &mut dyn FnMut(&str)) {
        let mut out = JsonText::in_pieces(String::new(), take);
        (self.write)(&mut out);
        out.finish();
    }

    /// Returns `event` with this metadata, all of it in memory.
    #[must_use]
    pub fn of<'e>(&self, event: &Event<'e>) -> Event<'e> {
        let mut text = String::with_capacity(self.bytes());
        self.write(&mut |piece| text.push_str(piece));
        Event {
            metadata: text.into(),
            ..event.clone()
        }
    }
}

impl fmt::Debug for LargeMetadata<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of metadata", self.bytes())
    }
}
