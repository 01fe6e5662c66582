//! What the kinds of OTLP items have in common: the seam between the walk and a row, and the fields that all map alike.
//!
//! **Invariant:** a correlation id, a provider and an id in hex are found in the same way for every kind.

use crate::text;
use std::borrow::Cow;

use crate::decode::json::json_text::JsonOutput;
use crate::decode::json::json_writer;
use crate::decode::large_metadata::WriteMetadata;
use crate::decode::otlp::any_value::{self, KeyValues, ValueStyle, repeated};
use crate::decode::otlp::resource_scope::StoredResource;
use crate::decode::otlp::schema::MessageSchema;
use crate::decode::protobuf::Malformed;
use crate::decode::rules::Rules;
use crate::event::{Event, EventFlags, Position, Source};
use crate::text::is_longer;

const CORRELATION_ID_CHARACTERS: usize = 255;
const PROVIDER_CHARACTERS: usize = 100;
pub(in crate::decode) const NAME_CHARACTERS: usize = 255;
const NANOS_PER_MS: i64 = 1_000_000;
const DAY_NANOS: u64 = 86_400_000_000_000;
/// 2000-01-01T00:00:00Z.
const YEAR_2000_NANOS: u64 = 946_684_800_000_000_000;

/// A kind of item, with what stands around each: nothing for a span or a log record, its metric for a data point.
pub(in crate::decode) trait ItemKind {
    type Item<'m>: OtlpItem
    where
        Self: 'm;

    /// Bytes that stand around the item and are written into its row, too.
    fn envelope_bytes(&self) -> usize {
        0
    }

    /// The message to survey an item by.
    fn schema(&self) -> &'static MessageSchema;

    /// # Errors
    /// When a field has another wire type than its own.
    fn read<'m>(&'m self, message: &'m [u8]) -> Result<Self::Item<'m>, Malformed>;
}

/// An item's plain fields, read from a message that passed its survey.
pub(in crate::decode) trait OtlpItem {
    /// The field for whose sake the item is not taken, with the reason.
    fn fault(&self) -> Option<(&'static str, &'static str)>;

    /// The item's own time as sent, in Unix nanoseconds; 0 = none.
    fn time(&self) -> u64;

    /// The text of the column `name`, if it is the item's own.
    fn name(&self) -> &str;

    /// The part of the message with the item's attributes, and the number of their field.
    fn attributes(&self) -> (&[u8], u32);

    /// Hands the row to `take`; `scratch` is memory that is used again for the next one.
    fn row(&self, place: &ItemContext<'_>, scratch: &mut String, take: &mut TakeRow<'_>);
}

/// Takes a row without its metadata, and the function that writes that.
pub(in crate::decode) type TakeRow<'t> = dyn FnMut(Event<'_>, &WriteMetadata<'_>) + 't;

/// Where an item stands, and what its row has from there.
#[derive(Debug)]
pub(in crate::decode) struct ItemContext<'a> {
    pub(in crate::decode) origin: &'a StoredResource,
    /// The item's time, else that of receipt, in Unix ms.
    pub(in crate::decode) timestamp_ms: i64,
    /// Of the record; zeros while nothing is made of the rows.
    pub(in crate::decode) position: Position,
    /// The item's number in the request, from 0.
    pub(in crate::decode) index: u32,
    /// What is known of the item before it becomes a row.
    pub(in crate::decode) flags: EventFlags,
    pub(in crate::decode) style: ValueStyle,
    pub(in crate::decode) rules: Rules,
}

/// An item's time cannot be used: absent, more than 24 h after receipt, or plainly in another unit. The receive time stands
/// in.
pub(in crate::decode) fn is_time_replaced(time: u64, source: &Source) -> bool {
    let received = u64::try_from(source.received_unix_nano).unwrap_or(0);
    let latest = received.saturating_add(DAY_NANOS);
    let is_in_nanos =
        !source.rules().replaces_times_in_other_units() || !is_in_another_unit(time, latest);
    time == 0 || time > latest || !is_in_nanos
}

/// A time is plainly in µs, ms or s if in one of these it is a time from the year 2000 to `latest`. In nanoseconds it would
/// be one of the first weeks of 1970.
fn is_in_another_unit(time: u64, latest: u64) -> bool {
    time < YEAR_2000_NANOS
        && [1_000, 1_000_000, 1_000_000_000].into_iter().any(|unit| {
            time.checked_mul(unit)
                .is_some_and(|nanos| (YEAR_2000_NANOS..=latest).contains(&nanos))
        })
}

/// The column `timestamp` of an item with that time, in Unix ms.
pub(in crate::decode) fn timestamp_ms(time: u64, source: &Source) -> i64 {
    let sent = column_time(time).filter(|_| !is_time_replaced(time, source));
    (sent.unwrap_or(source.received_unix_nano) / NANOS_PER_MS).max(0)
}

/// A time as sent, where there is one that fits the column.
pub(in crate::decode) fn column_time(time: u64) -> Option<i64> {
    i64::try_from(time).ok().filter(|time| *time != 0)
}

/// Attributes that name the correlation id, the first found wins.
const CORRELATION_ID_KEYS: [&str; 3] = ["correlation_id", "correlation.id", "correlationId"];

/// Attributes that name the provider, the first found wins.
const PROVIDER_KEYS: [&str; 7] = [
    "provider",
    "gen_ai.provider.name",
    "gen_ai.system",
    "db.system.name",
    "db.system",
    "messaging.system",
    "rpc.system",
];

/// The correlation id that an item's attributes name.
pub(in crate::decode) fn correlation_id<'a>(attributes: &KeyValues<'a>) -> Option<Cow<'a, str>> {
    first_named(attributes, &CORRELATION_ID_KEYS)
        .map(|id| text::cut_to(id, CORRELATION_ID_CHARACTERS))
}

/// The provider that an item's attributes name, or its resource's.
pub(in crate::decode) fn provider<'a>(
    attributes: &KeyValues<'a>,
    origin: &'a StoredResource,
) -> Option<Cow<'a, str>> {
    first_named(attributes, &PROVIDER_KEYS)
        .map(|provider| text::cut_to(provider, PROVIDER_CHARACTERS))
        .or(origin.provider.as_deref().map(Cow::Borrowed))
}

/// Counts the columns of an item that hold only the beginning of their text. `longest_bytes` is the length of its longest
/// value.
pub(in crate::decode) fn cut_columns(
    item: &impl OtlpItem,
    longest_bytes: usize,
    style: &ValueStyle,
) -> u32 {
    let name = u32::from(is_longer(item.name(), NAME_CHARACTERS));
    let (attributes, number) = item.attributes();
    let may_be_cut = |pair: &[u8]| {
        if pair.len() <= PROVIDER_CHARACTERS {
            return false;
        }
        let key = repeated(pair, 1).last().unwrap_or_default();
        let mut keys = CORRELATION_ID_KEYS.iter().chain(&PROVIDER_KEYS);
        keys.any(|known| known.as_bytes() == key)
    };
    if longest_bytes <= PROVIDER_CHARACTERS || !repeated(attributes, number).any(may_be_cut) {
        return name;
    }
    let attributes = any_value::pairs(attributes, number, style.attributes, style);
    let is_cut = |keys: &[&str], limit| {
        u32::from(first_named(&attributes, keys).is_some_and(|text| is_longer(&text, limit)))
    };
    name + is_cut(&CORRELATION_ID_KEYS, CORRELATION_ID_CHARACTERS)
        + is_cut(&PROVIDER_KEYS, PROVIDER_CHARACTERS)
}

/// The value of the first of `keys` that names something.
fn first_named<'a>(attributes: &KeyValues<'a>, keys: &[&str]) -> Option<Cow<'a, str>> {
    keys.iter().find_map(|key| {
        let at = attributes
            .binary_search_by(|(found, _)| json_writer::key_order(found, key))
            .ok()?;
        let (_, value) = attributes[at];
        any_value::name_of(value)
    })
}

/// The part of a message from the first to the last element of a list; other fields may stand between.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::decode) struct FieldRange<'a> {
    /// From the first element to the end of the message.
    from_first: &'a [u8],
    /// What follows the last element.
    bytes_after: usize,
}

impl<'a> FieldRange<'a> {
    /// Takes in an element: what a reader had left before it, and after it.
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

/// The low 32 bits, as protobuf reads an enum or a 32-bit number.
pub(in crate::decode) fn low32(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default()
}

/// A time as JSON has it, a string; left out if it is 0, the default.
pub(in crate::decode) fn time_member(out: &mut impl JsonOutput, name: &str, time: u64) {
    if time != 0 {
        json_writer::key(out, name);
        json_writer::display(out, format_args!("\"{time}\""));
    }
}

/// A whole member with a name of which the column holds only the beginning; left out where it holds all of it.
pub(in crate::decode) fn long_name_member(out: &mut impl JsonOutput, key: &str, name: &str) {
    if is_longer(name, NAME_CHARACTERS) {
        json_writer::text_member(out, key, name);
    }
}

/// An id as the protocol wants it: of its length, and not all zero.
pub(in crate::decode) fn is_id<const N: usize>(id: &[u8]) -> bool {
    id.len() == N && id.iter().any(|byte| *byte != 0)
}

/// An id's hex digits, without memory of their own.
#[derive(Debug)]
pub(in crate::decode) struct Hex<const DIGITS: usize>([u8; DIGITS]);

impl<const DIGITS: usize> Hex<DIGITS> {
    pub(in crate::decode) fn of(id: &[u8]) -> Self {
        const LOWER: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [b'0'; DIGITS];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(id) {
            *pair = [LOWER[usize::from(byte >> 4)], LOWER[usize::from(byte & 15)]];
        }
        Self(digits)
    }

    pub(in crate::decode) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}
