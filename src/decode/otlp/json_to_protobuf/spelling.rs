//! The two spellings of a key: lowerCamelCase, as the specification has it, and the definition's snake_case.
//!
//! **Invariant:** of one field given in both, only the camelCase one counts, in any order.

use crate::decode::otlp::json_to_protobuf::TextLimits;
use crate::decode::otlp::schema::{FieldSchema, FieldType, MessageSchema};

/// How a key is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    Camel,
    Snake,
}

impl MessageSchema {
    /// The field of that name.
    pub(super) fn named(
        &self,
        name: &str,
        strict: bool,
    ) -> Option<(&'static FieldSchema, Spelling)> {
        self.fields.iter().find_map(|field| {
            if field.name == name {
                Some((field, Spelling::Camel))
            } else if field.snake == name && !strict {
                Some((field, Spelling::Snake))
            } else {
                None
            }
        })
    }
}

/// Which spellings an object has given, so that camelCase wins in any order.
#[derive(Default)]
pub(super) struct NamesSeen {
    /// A bit a field number.
    camel: u64,
    /// What was given in snake_case and would be merged with more of its field. Of other fields the last counts anyway.
    snake: Vec<WrittenField>,
}

/// A field's value in the output.
pub(super) struct WrittenField {
    pub(super) number: u32,
    pub(super) range: std::ops::Range<usize>,
    /// Elements of lists of numbers in it.
    pub(super) numbers: u32,
}

impl NamesSeen {
    /// Whether a value under this spelling counts; takes back what another spelling wrote.
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

    pub(super) fn written(
        &mut self,
        field: &FieldSchema,
        spelling: Spelling,
        written: WrittenField,
    ) {
        let is_merged = field.repeated || matches!(field.kind, FieldType::Message(_));
        if spelling == Spelling::Snake && is_merged {
            self.snake.push(written);
        }
    }
}
