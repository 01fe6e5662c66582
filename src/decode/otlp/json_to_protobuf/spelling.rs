//! The two spellings of a key: lowerCamelCase, as the specification requires, and the snake_case of the definition.
//!
//! **Invariant:** if a field is given in both spellings, only camelCase counts, in any order.

use crate::decode::json::json_reader::{JsonReader, SyntaxError};
use crate::decode::otlp::json_to_protobuf::TextLimits;
use crate::decode::otlp::schema::{FieldSchema, FieldType, MessageSchema, is_snake_case};

/// The spelling of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    Camel,
    Snake,
}

/// Number of fields that are compared with a key before its end is looked for.
const GUESSES: usize = 4;

impl MessageSchema {
    /// Reads a key; returns the field of that name and its spelling, if any. If `strict`, only camelCase is accepted.
    ///
    /// Encoders write fields in the order of their numbers, so the search begins at the index `next`, which becomes that
    /// of the field behind the one found.
    ///
    /// # Errors
    /// [`SyntaxError`] if no key follows.
    #[inline]
    pub(super) fn read_key(
        &self,
        reader: &mut JsonReader<'_>,
        strict: bool,
        next: &mut usize,
    ) -> Result<Option<(&'static FieldSchema, Spelling)>, SyntaxError> {
        let following = self.fields.get(*next..).unwrap_or_default();
        let names = following.iter().take(GUESSES).map(|field| field.name);
        let index = match reader.take_key(names) {
            Some(index) => *next + index,
            None => {
                let key = reader.key()?.decode();
                match self.fields.iter().position(|field| field.name == key) {
                    Some(index) => index,
                    None if strict => return Ok(None),
                    None => {
                        let mut fields = self.fields.iter();
                        let field = fields.find(|field| is_snake_case(&key, field.name));
                        return Ok(field.map(|field| (field, Spelling::Snake)));
                    }
                }
            }
        };
        *next = index + 1;
        Ok(Some((&self.fields[index], Spelling::Camel)))
    }
}

/// The spellings used so far in an object, so that camelCase wins in any order.
#[derive(Default)]
pub(super) struct NamesSeen {
    /// One bit for each field number that is given in camelCase.
    camel: u64,
    /// Fields given in snake_case that protobuf would merge with more of the same field. Of other fields the last value
    /// counts anyway.
    snake: Vec<WrittenField>,
}

/// A field's value in the output.
pub(super) struct WrittenField {
    /// Number of the field.
    pub(super) number: u32,
    /// Range of the value in the output, in bytes.
    pub(super) range: std::ops::Range<usize>,
    /// Number of elements of lists of numbers in it.
    pub(super) numbers: u32,
}

impl NamesSeen {
    /// Returns whether a value under this spelling counts. A value in camelCase removes one in snake_case from the
    /// output.
    pub(super) fn counts(
        &mut self,
        field: &FieldSchema,
        spelling: Spelling,
        bounds: &mut TextLimits<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        let is_this = |written: &WrittenField| written.number == field.number;
        match spelling {
            Spelling::Snake => {
                self.camel & (1 << (field.number % 64)) == 0 && !self.snake.iter().any(is_this)
            }
            Spelling::Camel => {
                self.camel |= 1 << (field.number % 64);
                if let Some(at) = self.snake.iter().position(is_this) {
                    let WrittenField { range, numbers, .. } = self.snake.remove(at);
                    let len = range.len();
                    for WrittenField { range, .. } in &mut self.snake[at..] {
                        *range = range.start - len..range.end - len;
                    }
                    out.drain(range);
                    bounds.numbers_left += numbers;
                }
                true
            }
        }
    }

    /// Notes a field that is given in snake_case.
    pub(super) fn written_in_snake_case(
        &mut self,
        field: &FieldSchema,
        written: impl FnOnce() -> WrittenField,
    ) {
        if field.repeated || matches!(field.kind, FieldType::Message(_)) {
            self.snake.push(written());
        }
    }
}
