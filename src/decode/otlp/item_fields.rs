//! The fields of an item, found by the places that its validation notes, so that no second walk is needed.
//!
//! **Invariant:** of a field that is given several times, the last value counts, as in protobuf; of a list or an embedded
//! message, the range has all of them.

use crate::decode::protobuf::{Malformed, ProtobufReader};

/// Highest number of a field in the table of an item, `Span.flags`, plus one.
const FIELDS: usize = 17;

/// The places of the fields of one message, by their numbers.
#[derive(Debug, Default)]
pub(in crate::decode) struct FieldPlaces([FieldPlace; FIELDS]);

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(FIELDS)
}

/// The place of one field as offsets into its message; all 0 if the field is absent.
#[derive(Clone, Copy, Debug, Default)]
struct FieldPlace {
    /// Offset of the first value's key. Fields that are not in the table may be between it and the key.
    first_key: usize,
    /// Offset of the last value, behind its key.
    last_value: usize,
    /// Offset of the end of the last value.
    end: usize,
}

impl FieldPlaces {
    /// Notes a value of a field: the offsets of its key, of the value behind it, and of its end.
    #[inline]
    pub(in crate::decode) fn note(&mut self, number: u32, key: usize, value: usize, end: usize) {
        if let Some(place) = self.0.get_mut(index(number)) {
            let first_key = if place.end == 0 { key } else { place.first_key };
            *place = FieldPlace {
                first_key,
                last_value: value,
                end,
            };
        }
    }

    /// Notes all fields of a message.
    ///
    /// # Errors
    /// [`Malformed`] if it is not protobuf.
    pub(in crate::decode) fn of(message: &[u8]) -> Result<Self, Malformed> {
        let mut places = Self::default();
        let mut reader = ProtobufReader::new(message);
        loop {
            let mut before = reader;
            let Some((number, _)) = reader.field()? else {
                return Ok(places);
            };
            let offset = |reader: &ProtobufReader<'_>| message.len() - reader.rest().len();
            let key = offset(&before);
            before.varint()?;
            places.note(number, key, offset(&before), offset(&reader));
        }
    }
}

/// A valid message with the places of its fields.
#[derive(Clone, Copy, Debug)]
pub(in crate::decode) struct ItemFields<'m> {
    pub(in crate::decode) message: &'m [u8],
    pub(in crate::decode) places: &'m FieldPlaces,
}

impl<'m> ItemFields<'m> {
    fn place(&self, number: u32) -> FieldPlace {
        let place = self.places.0.get(index(number));
        place.copied().unwrap_or_default()
    }

    /// Returns the part of the message from the first to the last value of a field; other fields may be between them.
    pub(in crate::decode) fn range(&self, number: u32) -> &'m [u8] {
        let place = self.place(number);
        self.message
            .get(place.first_key..place.end)
            .unwrap_or_default()
    }

    /// Returns a reader at a field's last value, if it is given.
    #[inline]
    fn last(&self, number: u32) -> Option<ProtobufReader<'m>> {
        let place = self.place(number);
        let value = self.message.get(place.last_value..place.end)?;
        (!value.is_empty()).then(|| ProtobufReader::new(value))
    }

    /// Returns a text or bytes; empty if the field is absent.
    pub(in crate::decode) fn bytes(&self, number: u32) -> &'m [u8] {
        self.message(number).unwrap_or_default()
    }

    /// Returns an embedded message; `None` if the field is absent.
    pub(in crate::decode) fn message(&self, number: u32) -> Option<&'m [u8]> {
        self.last(number)?.bytes().ok()
    }

    /// Returns a varint; 0 if the field is absent.
    pub(in crate::decode) fn varint(&self, number: u32) -> u64 {
        self.last(number)
            .and_then(|mut value| value.varint().ok())
            .unwrap_or_default()
    }

    /// Returns a number of 64 bits; `None` if the field is absent.
    pub(in crate::decode) fn fixed64(&self, number: u32) -> Option<u64> {
        self.last(number)?.array().ok().map(u64::from_le_bytes)
    }

    /// Returns a number of 32 bits; 0 if the field is absent.
    pub(in crate::decode) fn fixed32(&self, number: u32) -> u32 {
        self.last(number)
            .and_then(|mut value| value.array().ok())
            .map_or(0, u32::from_le_bytes)
    }

    /// Returns whether the last value of field `a` is behind that of field `b`, or the only one.
    pub(in crate::decode) fn is_after(&self, a: u32, b: u32) -> bool {
        self.place(a).end > self.place(b).end
    }
}
