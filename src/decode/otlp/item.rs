//! The traits of all kinds of OTLP items, and the columns that they fill alike: provider, integration, correlation id,
//! times.
//!
//! **Invariant:** the correlation id, the provider and ids in hex are derived in the same way for every kind.

use std::borrow::Cow;

use crate::decode::event_metadata::WriteMetadata;
use crate::decode::json::json_number;
use crate::decode::json::json_text::JsonText;
use crate::decode::json::json_writer;
use crate::decode::otlp::any_value::{self, ValueStyle, repeated};
use crate::decode::otlp::column_keys::{self, PROVIDER_CHARACTERS, is_column_key};
use crate::decode::otlp::key_values::{KeyValueMemory, KeyValues};
use crate::decode::otlp::resource_scope::StoredResource;
use crate::decode::otlp::schema::MessageSchema;
use crate::decode::otlp::validate::Invalid;
use crate::decode::protobuf::Malformed;
use crate::event::{Event, EventFlags, Position, Signal, Source};
use crate::text::is_longer;

pub(in crate::decode) const NAME_CHARACTERS: usize = 255;
const NANOS_PER_MS: i64 = 1_000_000;
const DAY_NANOS: u64 = 86_400_000_000_000;
/// 2000-01-01T00:00:00Z.
const YEAR_2000_NANOS: u64 = 946_684_800_000_000_000;

/// A kind of item. For data points it is the metric that they belong to; spans and log records have no such object.
pub(in crate::decode) trait ItemKind {
    type Item<'m>: OtlpItem
    where
        Self: 'm;

    /// Number of bytes around the item that are written into its row, too.
    fn envelope_bytes(&self) -> usize {
        0
    }

    /// Returns the reason why no item with this envelope can be accepted.
    fn envelope_fault(&self) -> Option<Invalid> {
        None
    }

    /// Returns the message by which an item is validated.
    fn schema(&self) -> &'static MessageSchema;

    /// Reads the fields of an item. If a field is given several times, the last value counts.
    ///
    /// # Errors
    /// [`Malformed`] if the item is not protobuf.
    fn read<'m>(&'m self, message: &'m [u8]) -> Result<Self::Item<'m>, Malformed>;
}

/// The plain fields of a valid item.
pub(in crate::decode) trait OtlpItem {
    /// Returns the field for which the item is rejected, if any, and the reason.
    fn fault(&self) -> Option<(&'static str, &'static str)>;

    /// Returns the item's own time as sent, in Unix nanoseconds; 0 = none.
    fn time(&self) -> u64;

    /// Returns the text of the column `name`; empty if it is not the item's own.
    fn name(&self) -> &[u8];

    /// Returns the part of the message with the item's attributes, and the number of their field.
    fn attributes(&self) -> (&[u8], u32);

    /// Hands the row to `take`.
    fn row(&self, place: &ItemContext<'_>, memory: &mut RowMemory, take: &mut TakeRow<'_>);
}

/// Memory that is used again for each row.
#[derive(Debug, Default)]
pub(in crate::decode) struct RowMemory {
    pub(in crate::decode) attributes: KeyValueMemory,
    /// For the attributes in the order in which a series is hashed.
    pub(in crate::decode) hashed_attributes: KeyValueMemory,
    pub(in crate::decode) hashed_json: Vec<u8>,
}

/// Takes a row without its metadata, and the function that writes that.
pub(in crate::decode) type TakeRow<'t> = dyn FnMut(&Event<'_>, &WriteMetadata<'_>) + 't;

/// The values that an item's row has from the request and its validation.
#[derive(Debug)]
pub(in crate::decode) struct ItemContext<'a> {
    pub(in crate::decode) origin: &'a StoredResource,
    /// The column `name`, if it is the item's own; empty if the item has none.
    pub(in crate::decode) name: Cow<'a, str>,
    /// Unix time in milliseconds: the item's time if it is usable, otherwise the receive time.
    pub(in crate::decode) timestamp_ms: i64,
    /// Position of the record in the journal.
    pub(in crate::decode) position: Position,
    /// Number of the item in the request, from 0.
    pub(in crate::decode) index: u32,
    /// Flags that are set before the item is mapped to a row.
    pub(in crate::decode) flags: EventFlags,
    pub(in crate::decode) style: ValueStyle,
    pub(in crate::decode) source: &'a Source,
}

impl ItemContext<'_> {
    /// Returns a row with the columns that all kinds of items fill alike. The provider is the one that the item's
    /// attributes name, cut to the column, otherwise its resource's.
    pub(in crate::decode) fn event<'e>(
        &'e self,
        signal: Signal,
        attributes: &KeyValues<'e>,
    ) -> Event<'e> {
        let provider = column_keys::provider(attributes);
        Event {
            integration: Cow::Borrowed(&self.origin.integration),
            provider: provider.or(self.origin.provider.as_deref().map(Cow::Borrowed)),
            event_type: Cow::Borrowed(signal.as_str()),
            timestamp_ms: self.timestamp_ms,
            metadata: Cow::Borrowed(""),
            resource_id: Some(self.origin.id),
            flags: self.flags,
            ..Event::EMPTY
        }
    }
}

/// Returns whether the receive time replaces an item's time, because that is absent, more than 24 h after receipt, or
/// plainly in another unit.
pub(in crate::decode) fn is_time_replaced(time: u64, source: &Source) -> bool {
    let received = u64::try_from(source.received_unix_nano).unwrap_or(0);
    let latest = received.saturating_add(DAY_NANOS);
    let is_in_nanos = !source.replaces_times_in_other_units() || !is_in_another_unit(time, latest);
    time == 0 || time > latest || !is_in_nanos
}

/// Returns whether a time is plainly in µs, ms or s: in one of these units it is a time from the year 2000 to `latest`.
/// In nanoseconds it would be in the first weeks of 1970.
fn is_in_another_unit(time: u64, latest: u64) -> bool {
    time < YEAR_2000_NANOS
        && [1_000, 1_000_000, 1_000_000_000].into_iter().any(|unit| {
            time.checked_mul(unit)
                .is_some_and(|nanos| (YEAR_2000_NANOS..=latest).contains(&nanos))
        })
}

/// Returns the column `timestamp` for an item with that time, in Unix milliseconds.
pub(in crate::decode) fn timestamp_ms(time: u64, source: &Source) -> i64 {
    let sent = column_time(time).filter(|_| !is_time_replaced(time, source));
    (sent.unwrap_or(source.received_unix_nano) / NANOS_PER_MS).max(0)
}

/// Returns a time for the column `time_unix_nano`; `None` if it is 0 or does not fit.
pub(in crate::decode) fn column_time(time: u64) -> Option<i64> {
    i64::try_from(time).ok().filter(|time| *time != 0)
}

/// Counts the columns of an item that hold only the beginning of their text. `longest_bytes` is the length of the
/// longest value of an attribute.
pub(in crate::decode) fn cut_columns(
    item: &impl OtlpItem,
    longest_bytes: usize,
    style: &ValueStyle,
) -> u32 {
    let name = item.name();
    let name = u32::from(
        name.len() > NAME_CHARACTERS && is_longer(any_value::text(name), NAME_CHARACTERS),
    );
    let (attributes, number) = item.attributes();
    let may_be_cut = |pair: &[u8]| {
        pair.len() > PROVIDER_CHARACTERS
            && is_column_key(repeated(pair, 1).last().unwrap_or_default())
    };
    if longest_bytes <= PROVIDER_CHARACTERS || !repeated(attributes, number).any(may_be_cut) {
        return name;
    }
    let attributes = KeyValues::read(attributes, number, style.attributes, style.order);
    name + column_keys::cut_columns(&attributes)
}

/// The part of a message from the first to the last element of a list; other fields may be between them.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::decode) struct FieldRange<'a> {
    /// The message from the first element to its end.
    from_first: &'a [u8],
    /// Number of bytes after the last element.
    bytes_after: usize,
}

impl<'a> FieldRange<'a> {
    /// Extends the range by an element; `before` and `after` are the reader's rest before and after the element.
    pub(in crate::decode) const fn extend(&mut self, before: &'a [u8], after: &[u8]) {
        if self.from_first.is_empty() {
            self.from_first = before;
        }
        self.bytes_after = after.len();
    }

    pub(in crate::decode) fn bytes(self) -> &'a [u8] {
        &self.from_first[..self.from_first.len() - self.bytes_after]
    }
}

/// Returns the low 32 bits, as protobuf reads an enum or a 32-bit number.
pub(in crate::decode) fn low32(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default()
}

/// Writes a member with a time as a string, as OTLP's JSON does; leaves it out if the time is 0, the default.
pub(in crate::decode) fn time_member(out: &mut JsonText<'_>, name: &str, time: u64) {
    if time != 0 {
        json_writer::key(out, name);
        time_text(out, time);
    }
}

/// Writes a time as a string.
pub(in crate::decode) fn time_text(out: &mut JsonText<'_>, time: u64) {
    out.push('"');
    json_number::unsigned(out, time);
    out.push('"');
}

/// Writes a member with the whole name if the column holds only its beginning.
pub(in crate::decode) fn long_name_member(out: &mut JsonText<'_>, key: &str, name: &[u8]) {
    if name.len() > NAME_CHARACTERS && is_longer(any_value::text(name), NAME_CHARACTERS) {
        json_writer::text_member(out, key, name);
    }
}

/// Returns whether an id is valid: `N` bytes, not all zero.
pub(in crate::decode) fn is_id<const N: usize>(id: &[u8]) -> bool {
    id.len() == N && id.iter().any(|byte| *byte != 0)
}

/// The ids of an item as hex digits, without an allocation.
#[derive(Debug)]
pub(in crate::decode) struct IdTexts([u8; 64]);

impl IdTexts {
    /// Converts the ids of a trace, of a span in it, and of that span's parent.
    pub(in crate::decode) fn of(trace_id: &[u8], span_id: &[u8], parent_span_id: &[u8]) -> Self {
        let mut ids = [0; 32];
        let (trace, spans) = ids.split_at_mut(16);
        let (span, parent) = spans.split_at_mut(8);
        for (to, id) in [(trace, trace_id), (span, span_id), (parent, parent_span_id)] {
            if to.len() == id.len() {
                to.copy_from_slice(id);
            }
        }
        Self(hex_digits(ids))
    }

    /// Returns the texts in the order of [`IdTexts::of`]. That of an id with a wrong length has no meaning.
    pub(in crate::decode) fn texts(&self) -> [&str; 3] {
        let all = std::str::from_utf8(&self.0).unwrap_or_default();
        [0..32, 32..48, 48..64].map(|place| all.get(place).unwrap_or_default())
    }
}

/// Returns the digits of `BYTES` bytes, which are twice as many.
#[inline]
fn hex_digits<const BYTES: usize, const DIGITS: usize>(bytes: [u8; BYTES]) -> [u8; DIGITS] {
    let digit = |value: u8| value + if value < 10 { b'0' } else { b'a' - 10 };
    let mut digits = [0; DIGITS];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    digits
}

/// The hex digits of one id, without an allocation.
#[derive(Debug)]
pub(in crate::decode) struct Hex<const DIGITS: usize>([u8; DIGITS]);

impl<const DIGITS: usize> Hex<DIGITS> {
    /// Converts an id of half as many bytes.
    pub(in crate::decode) fn of(id: &[u8]) -> Self {
        let mut bytes = [0; DIGITS];
        for (to, from) in bytes[..DIGITS / 2].iter_mut().zip(id) {
            *to = *from;
        }
        Self(hex_digits(bytes))
    }

    pub(in crate::decode) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(in crate::decode) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}
