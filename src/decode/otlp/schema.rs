//! The messages of OTLP items as tables, which serve both the validation of protobuf and the conversion of JSON.
//! (opentelemetry-proto 1.11: `trace.proto`, `logs.proto`, `common.proto`, `resource.proto`; `metrics.proto` in
//! the module `metric`.)
//!
//! **Invariant:** a field that is not in a table is ignored, in either encoding.

use crate::decode::protobuf::{
    FIXED32, FIXED64, LENGTH_DELIMITED, Malformed, ProtobufReader, VARINT, WRONG_TYPE,
};

/// Metrics.
pub(in crate::decode) mod metric;

/// The fields of one message type.
#[derive(Debug)]
pub(in crate::decode) struct MessageSchema {
    pub(in crate::decode) fields: &'static [FieldSchema],
    /// True for `AnyValue` alone: each is a level of depth, and its texts and bytes are attribute values.
    pub(in crate::decode) is_value: bool,
    /// For each key of one byte, the index of its field; beyond the fields if the table has no field with that number
    /// and wire type.
    by_key: [u8; KEYS],
}

/// Number of keys that one byte holds: fields 1 to 15 with each wire type.
const KEYS: usize = 128;

/// An index beyond the fields of every message.
const NO_FIELD: u8 = u8::MAX;

/// One field of a message.
#[derive(Debug)]
pub(in crate::decode) struct FieldSchema {
    pub(in crate::decode) number: u32,
    /// Name in JSON, in lowerCamelCase. In snake_case it is the name in the protobuf definition, which is accepted in
    /// JSON too unless that is strict.
    pub(in crate::decode) name: &'static str,
    pub(in crate::decode) kind: FieldType,
    pub(in crate::decode) repeated: bool,
}

/// A field of a table that was found in a message, and its value's wire type, which is one of the field's own.
#[derive(Clone, Copy, Debug)]
pub(in crate::decode) struct KnownField {
    pub(in crate::decode) schema: &'static FieldSchema,
    pub(in crate::decode) wire_type: u8,
}

/// The type of a field's value.
#[derive(Clone, Copy, Debug)]
pub(in crate::decode) enum FieldType {
    Text,
    Bytes,
    /// A trace or span id, in hex in JSON.
    Id,
    Bool,
    /// If a number in JSON does not fit, it becomes the field with the number `double`.
    Int64 {
        double: u32,
    },
    Uint32,
    Uint64,
    /// Zigzag-encoded in protobuf.
    Sint32,
    Enum(&'static EnumNames),
    Double,
    Fixed32,
    Fixed64,
    /// `double` as for [`Self::Int64`].
    Sfixed64 {
        double: u32,
    },
    Message(&'static MessageSchema),
    /// An index into a string table, which only profiles have; counts as absent.
    StringReference,
}

/// The names of an enum's values.
#[derive(Debug)]
pub(in crate::decode) struct EnumNames {
    /// The names in the order of their numbers, from 0.
    pub(in crate::decode) known: &'static [&'static str],
    /// Error text for a value that is neither one of them nor a number.
    pub(in crate::decode) expected: &'static str,
}

pub(in crate::decode) const fn one(
    number: u32,
    name: &'static str,
    kind: FieldType,
) -> FieldSchema {
    FieldSchema {
        number,
        name,
        kind,
        repeated: false,
    }
}

pub(in crate::decode) const fn many(
    number: u32,
    name: &'static str,
    kind: FieldType,
) -> FieldSchema {
    FieldSchema {
        repeated: true,
        ..one(number, name, kind)
    }
}

pub(in crate::decode) const fn message(fields: &'static [FieldSchema]) -> MessageSchema {
    MessageSchema {
        fields,
        is_value: false,
        by_key: index_by_key(fields),
    }
}

const fn value(fields: &'static [FieldSchema]) -> MessageSchema {
    MessageSchema {
        is_value: true,
        ..message(fields)
    }
}

const fn index_by_key(fields: &[FieldSchema]) -> [u8; KEYS] {
    let mut by_key = [NO_FIELD; KEYS];
    let mut index = 0u8;
    while (index as usize) < fields.len() {
        let field = &fields[index as usize];
        let mut wire_type = 0;
        while wire_type < 8 {
            let key = (field.number as usize) << 3 | wire_type as usize;
            if key < KEYS && field.has_wire_type(wire_type) {
                by_key[key] = index;
            }
            wire_type += 1;
        }
        index += 1;
    }
    by_key
}

impl FieldSchema {
    /// Returns whether a value of this field may have that wire type. A list of numbers may be packed.
    const fn has_wire_type(&self, wire_type: u8) -> bool {
        let own = match self.kind {
            FieldType::Text | FieldType::Bytes | FieldType::Id | FieldType::Message(_) => {
                LENGTH_DELIMITED
            }
            FieldType::Bool
            | FieldType::Int64 { .. }
            | FieldType::Uint32
            | FieldType::Uint64
            | FieldType::Sint32
            | FieldType::Enum(_)
            | FieldType::StringReference => VARINT,
            FieldType::Double | FieldType::Fixed64 | FieldType::Sfixed64 { .. } => FIXED64,
            FieldType::Fixed32 => FIXED32,
        };
        wire_type == own || self.repeated && wire_type == LENGTH_DELIMITED
    }
}

/// Returns whether `key` is `name`, which is in lowerCamelCase, or `name` in snake_case.
pub(in crate::decode) fn is_named(key: &str, name: &str) -> bool {
    key == name || is_snake_case(key, name)
}

/// Returns whether `key` is `name`, which is in lowerCamelCase, in snake_case.
pub(in crate::decode) fn is_snake_case(key: &str, name: &str) -> bool {
    let mut key = key.bytes();
    let is_next = |byte: u8| {
        let is_word_end = !byte.is_ascii_uppercase() || key.next() == Some(b'_');
        is_word_end && key.next() == Some(byte.to_ascii_lowercase())
    };
    name.bytes().all(is_next) && key.next().is_none()
}

impl MessageSchema {
    /// Moves `reader` to the value of the next field that is in this table; `None` at the end.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes before that are not protobuf, or a field of this table has another wire type.
    #[inline(always)]
    pub(in crate::decode) fn next_field(
        &self,
        reader: &mut ProtobufReader<'_>,
    ) -> Result<Option<KnownField>, Malformed> {
        let Some(key) = reader.peek() else {
            return Ok(None);
        };
        let index = self.by_key.get(usize::from(key));
        match index.and_then(|index| self.fields.get(usize::from(*index))) {
            Some(field) => {
                reader.skip_byte();
                Ok(Some(KnownField {
                    schema: field,
                    wire_type: key & 7,
                }))
            }
            None => {
                let (found, at_value) = self.next_field_by_number(*reader)?;
                *reader = at_value;
                Ok(found)
            }
        }
    }

    /// The same for a field with a key of several bytes, and for those that are not in the table. It takes and returns
    /// the reader as a value, so that the caller's stays in registers.
    fn next_field_by_number<'a>(
        &self,
        mut reader: ProtobufReader<'a>,
    ) -> Result<(Option<KnownField>, ProtobufReader<'a>), Malformed> {
        loop {
            let mut at_value = reader;
            let Some((number, value)) = reader.field()? else {
                return Ok((None, reader));
            };
            if let Some(field) = self.field(number) {
                let wire_type = value.wire_type();
                if !field.has_wire_type(wire_type) {
                    return Err(WRONG_TYPE);
                }
                at_value.varint()?;
                let known = KnownField {
                    schema: field,
                    wire_type,
                };
                return Ok((Some(known), at_value));
            }
        }
    }

    /// Returns the field with this number.
    #[inline]
    pub(in crate::decode) fn field(&self, number: u32) -> Option<&'static FieldSchema> {
        // Most tables have no gaps, so the field is usually at the index of its number.
        let guess = usize::try_from(number.wrapping_sub(1)).ok()?;
        match self.fields.get(guess) {
            Some(field) if field.number == number => Some(field),
            _ => self.fields.iter().find(|field| field.number == number),
        }
    }
}

pub(in crate::decode) static SPAN: MessageSchema = message(&[
    one(1, "traceId", FieldType::Id),
    one(2, "spanId", FieldType::Id),
    one(3, "traceState", FieldType::Text),
    one(4, "parentSpanId", FieldType::Id),
    one(5, "name", FieldType::Text),
    one(6, "kind", FieldType::Enum(&SPAN_KINDS)),
    one(7, "startTimeUnixNano", FieldType::Fixed64),
    one(8, "endTimeUnixNano", FieldType::Fixed64),
    many(9, "attributes", FieldType::Message(&KEY_VALUE)),
    one(10, "droppedAttributesCount", FieldType::Uint32),
    many(11, "events", FieldType::Message(&SPAN_EVENT)),
    one(12, "droppedEventsCount", FieldType::Uint32),
    many(13, "links", FieldType::Message(&SPAN_LINK)),
    one(14, "droppedLinksCount", FieldType::Uint32),
    one(15, "status", FieldType::Message(&STATUS)),
    one(16, "flags", FieldType::Fixed32),
]);

static SPAN_EVENT: MessageSchema = message(&[
    one(1, "timeUnixNano", FieldType::Fixed64),
    one(2, "name", FieldType::Text),
    many(3, "attributes", FieldType::Message(&KEY_VALUE)),
    one(4, "droppedAttributesCount", FieldType::Uint32),
]);

static SPAN_LINK: MessageSchema = message(&[
    one(1, "traceId", FieldType::Id),
    one(2, "spanId", FieldType::Id),
    one(3, "traceState", FieldType::Text),
    many(4, "attributes", FieldType::Message(&KEY_VALUE)),
    one(5, "droppedAttributesCount", FieldType::Uint32),
    one(6, "flags", FieldType::Fixed32),
]);

static STATUS: MessageSchema = message(&[
    one(2, "message", FieldType::Text),
    one(3, "code", FieldType::Enum(&STATUS_CODES)),
]);

pub(in crate::decode) static LOG_RECORD: MessageSchema = message(&[
    one(1, "timeUnixNano", FieldType::Fixed64),
    one(2, "severityNumber", FieldType::Enum(&SEVERITY_NUMBERS)),
    one(3, "severityText", FieldType::Text),
    one(5, "body", FieldType::Message(&ANY_VALUE)),
    many(6, "attributes", FieldType::Message(&KEY_VALUE)),
    one(7, "droppedAttributesCount", FieldType::Uint32),
    one(8, "flags", FieldType::Fixed32),
    one(9, "traceId", FieldType::Id),
    one(10, "spanId", FieldType::Id),
    one(11, "observedTimeUnixNano", FieldType::Fixed64),
    one(12, "eventName", FieldType::Text),
]);

pub(in crate::decode) static KEY_VALUE: MessageSchema = message(&[
    one(1, "key", FieldType::Text),
    one(2, "value", FieldType::Message(&ANY_VALUE)),
    one(3, "keyStrindex", FieldType::StringReference),
]);

pub(in crate::decode) static ANY_VALUE: MessageSchema = value(&[
    one(1, "stringValue", FieldType::Text),
    one(2, "boolValue", FieldType::Bool),
    one(3, "intValue", FieldType::Int64 { double: 4 }),
    one(4, "doubleValue", FieldType::Double),
    one(5, "arrayValue", FieldType::Message(&ARRAY_VALUE)),
    one(6, "kvlistValue", FieldType::Message(&KEY_VALUE_LIST)),
    one(7, "bytesValue", FieldType::Bytes),
    one(8, "stringValueStrindex", FieldType::StringReference),
]);

static ARRAY_VALUE: MessageSchema = message(&[many(1, "values", FieldType::Message(&ANY_VALUE))]);

static KEY_VALUE_LIST: MessageSchema =
    message(&[many(1, "values", FieldType::Message(&KEY_VALUE))]);

pub(in crate::decode) static RESOURCE: MessageSchema = message(&[
    many(1, "attributes", FieldType::Message(&KEY_VALUE)),
    one(2, "droppedAttributesCount", FieldType::Uint32),
    many(3, "entityRefs", FieldType::Message(&ENTITY_REF)),
]);

static ENTITY_REF: MessageSchema = message(&[
    one(1, "schemaUrl", FieldType::Text),
    one(2, "type", FieldType::Text),
    many(3, "idKeys", FieldType::Text),
    many(4, "descriptionKeys", FieldType::Text),
]);

pub(in crate::decode) static SCOPE: MessageSchema = message(&[
    one(1, "name", FieldType::Text),
    one(2, "version", FieldType::Text),
    many(3, "attributes", FieldType::Message(&KEY_VALUE)),
    one(4, "droppedAttributesCount", FieldType::Uint32),
]);

static SPAN_KINDS: EnumNames = EnumNames {
    known: &[
        "SPAN_KIND_UNSPECIFIED",
        "SPAN_KIND_INTERNAL",
        "SPAN_KIND_SERVER",
        "SPAN_KIND_CLIENT",
        "SPAN_KIND_PRODUCER",
        "SPAN_KIND_CONSUMER",
    ],
    expected: "a number or a full name such as SPAN_KIND_CLIENT is expected",
};

static STATUS_CODES: EnumNames = EnumNames {
    known: &["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"],
    expected: "a number or a full name such as STATUS_CODE_ERROR is expected",
};

static SEVERITY_NUMBERS: EnumNames = EnumNames {
    known: &[
        "SEVERITY_NUMBER_UNSPECIFIED",
        "SEVERITY_NUMBER_TRACE",
        "SEVERITY_NUMBER_TRACE2",
        "SEVERITY_NUMBER_TRACE3",
        "SEVERITY_NUMBER_TRACE4",
        "SEVERITY_NUMBER_DEBUG",
        "SEVERITY_NUMBER_DEBUG2",
        "SEVERITY_NUMBER_DEBUG3",
        "SEVERITY_NUMBER_DEBUG4",
        "SEVERITY_NUMBER_INFO",
        "SEVERITY_NUMBER_INFO2",
        "SEVERITY_NUMBER_INFO3",
        "SEVERITY_NUMBER_INFO4",
        "SEVERITY_NUMBER_WARN",
        "SEVERITY_NUMBER_WARN2",
        "SEVERITY_NUMBER_WARN3",
        "SEVERITY_NUMBER_WARN4",
        "SEVERITY_NUMBER_ERROR",
        "SEVERITY_NUMBER_ERROR2",
        "SEVERITY_NUMBER_ERROR3",
        "SEVERITY_NUMBER_ERROR4",
        "SEVERITY_NUMBER_FATAL",
        "SEVERITY_NUMBER_FATAL2",
        "SEVERITY_NUMBER_FATAL3",
        "SEVERITY_NUMBER_FATAL4",
    ],
    expected: "a number or a full name such as SEVERITY_NUMBER_INFO is expected",
};
