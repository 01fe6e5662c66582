//! One row: its tuple, and the values of its columns.
//!
//! **Invariant:** the tuple is whole: it has all its fields and nothing after them.

use crate::store::row_encoding::{
    CREATED_AT, EMPTY_METADATA, FIELDS, FLAGS, JSONB_VERSION, METADATA, RESOURCE_ID, length,
};

/// One encoded row.
#[derive(Clone, Copy, Debug)]
pub struct EncodedRow<'a> {
    pub(super) tuple: &'a [u8],
}

impl<'a> EncodedRow<'a> {
    /// Parses a tuple; `None` unless it is one whole tuple with as many fields as [`COLUMNS`](super::COLUMNS) and a
    /// time of receipt. The contents of the fields are not checked.
    #[must_use]
    pub fn new(tuple: &'a [u8]) -> Option<Self> {
        let mut rest = tuple.strip_prefix(&FIELDS.to_be_bytes())?;
        for column in 0..FIELDS {
            let (length, after) = rest.split_first_chunk()?;
            let length = match i32::from_be_bytes(*length) {
                -1 => 0,
                length => usize::try_from(length).ok()?,
            };
            if usize::try_from(column) == Ok(CREATED_AT) && length != 8 {
                return None;
            }
            rest = after.get(length..)?;
        }
        rest.is_empty().then_some(Self { tuple })
    }

    /// Returns the values of the columns in the order of [`COLUMNS`](super::COLUMNS); `None` = NULL.
    pub(in crate::store) fn values(self) -> impl Iterator<Item = Option<ColumnValue<'a>>> {
        self.fields()
            .enumerate()
            .map(|(column, field)| Some(ColumnValue::new(column, field?)))
    }

    /// Returns the tuple of a row without metadata, up to the place where `metadata_bytes` of metadata follow.
    pub(in crate::store) fn before_metadata(self, metadata_bytes: usize) -> Vec<u8> {
        let (before, empty) = self.tuple.split_at(self.tuple.len() - EMPTY_METADATA.len());
        debug_assert_eq!(empty, EMPTY_METADATA);
        [before, &length(metadata_bytes + 1), &[JSONB_VERSION]].concat()
    }

    /// Returns the time of receipt in microseconds since 2000-01-01 UTC.
    #[must_use]
    pub fn created_at_us(self) -> i64 {
        let field = self.fields().nth(CREATED_AT).flatten();
        integer(field.expect("every row has its created_at"))
    }

    /// Returns the fields as encoded, in the order of [`COLUMNS`](super::COLUMNS); `None` = NULL.
    pub fn fields(self) -> impl Iterator<Item = Option<&'a [u8]>> {
        let mut rest = &self.tuple[2..];
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk()?;
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                rest = after;
                return Some(None);
            };
            let (field, after) = after.split_at(length);
            rest = after;
            Some(Some(field))
        })
    }
}

/// The value of one column that is not NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnValue<'a> {
    Integer(i64),
    /// Microseconds since 2000-01-01 UTC.
    Time(i64),
    /// UTF-8.
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    /// JSON text, without JSONB's version byte.
    Json(&'a [u8]),
}

impl<'a> ColumnValue<'a> {
    fn new(column: usize, field: &'a [u8]) -> Self {
        match column {
            CREATED_AT => Self::Time(integer(field)),
            0..=FLAGS => Self::Integer(integer(field)),
            RESOURCE_ID => Self::Bytes(field),
            METADATA => Self::Json(field.strip_prefix(&[JSONB_VERSION]).unwrap_or(field)),
            _ => Self::Text(field),
        }
    }
}

/// Decodes a big-endian integer of two, four or eight bytes.
fn integer(field: &[u8]) -> i64 {
    let negative = field.first().is_some_and(|byte| byte & 0x80 != 0);
    let sign = if negative { -1 } else { 0 };
    field
        .iter()
        .fold(sign, |value: i64, byte| value << 8 | i64::from(*byte))
}
