//! The messages of OTLP items as tables, which serve both the validation of protobuf and the conversion of JSON.
//! (opentelemetry-proto 1.11: `trace.proto`, `logs.proto`, `common.proto`, `resource.proto`; `metrics.proto` in
//! the module `metric`.)
//!
//! **Invariant:** a field that is not in a table is ignored, in either encoding.

/// Metrics.
pub(in crate::decode) mod metric;

/// The fields of one message type.
#[derive(Debug)]
pub(in crate::decode) struct MessageSchema {
    pub(in crate::decode) fields: &'static [FieldSchema],
    /// True for `AnyValue` alone: each is a level of depth, and its texts and bytes are attribute values.
    pub(in crate::decode) is_value: bool,
}

/// One field of a message.
#[derive(Debug)]
pub(in crate::decode) struct FieldSchema {
    pub(in crate::decode) number: u32,
    /// Name in JSON, in lowerCamelCase.
    pub(in crate::decode) name: &'static str,
    /// Name in the protobuf definition, in snake_case; also accepted in JSON unless that is strict.
    pub(in crate::decode) snake: &'static str,
    pub(in crate::decode) kind: FieldType,
    pub(in crate::decode) repeated: bool,
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
    snake: &'static str,
    kind: FieldType,
) -> FieldSchema {
    FieldSchema {
        number,
        name,
        snake,
        kind,
        repeated: false,
    }
}

pub(in crate::decode) const fn many(
    number: u32,
    name: &'static str,
    snake: &'static str,
    kind: FieldType,
) -> FieldSchema {
    FieldSchema {
        number,
        name,
        snake,
        kind,
        repeated: true,
    }
}

impl MessageSchema {
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

pub(in crate::decode) static SPAN: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        one(1, "traceId", "trace_id", FieldType::Id),
        one(2, "spanId", "span_id", FieldType::Id),
        one(3, "traceState", "trace_state", FieldType::Text),
        one(4, "parentSpanId", "parent_span_id", FieldType::Id),
        one(5, "name", "name", FieldType::Text),
        one(6, "kind", "kind", FieldType::Enum(&SPAN_KINDS)),
        one(
            7,
            "startTimeUnixNano",
            "start_time_unix_nano",
            FieldType::Fixed64,
        ),
        one(
            8,
            "endTimeUnixNano",
            "end_time_unix_nano",
            FieldType::Fixed64,
        ),
        many(
            9,
            "attributes",
            "attributes",
            FieldType::Message(&KEY_VALUE),
        ),
        one(
            10,
            "droppedAttributesCount",
            "dropped_attributes_count",
            FieldType::Uint32,
        ),
        many(11, "events", "events", FieldType::Message(&SPAN_EVENT)),
        one(
            12,
            "droppedEventsCount",
            "dropped_events_count",
            FieldType::Uint32,
        ),
        many(13, "links", "links", FieldType::Message(&SPAN_LINK)),
        one(
            14,
            "droppedLinksCount",
            "dropped_links_count",
            FieldType::Uint32,
        ),
        one(15, "status", "status", FieldType::Message(&STATUS)),
        one(16, "flags", "flags", FieldType::Fixed32),
    ],
};

static SPAN_EVENT: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        one(1, "timeUnixNano", "time_unix_nano", FieldType::Fixed64),
        one(2, "name", "name", FieldType::Text),
        many(
            3,
            "attributes",
            "attributes",
            FieldType::Message(&KEY_VALUE),
        ),
        one(
            4,
            "droppedAttributesCount",
            "dropped_attributes_count",
            FieldType::Uint32,
        ),
    ],
};

static SPAN_LINK: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        one(1, "traceId", "trace_id", FieldType::Id),
        one(2, "spanId", "span_id", FieldType::Id),
        one(3, "traceState", "trace_state", FieldType::Text),
        many(
            4,
            "attributes",
            "attributes",
            FieldType::Message(&KEY_VALUE),
        ),
        one(
            5,
            "droppedAttributesCount",
            "dropped_attributes_count",
            FieldType::Uint32,
        ),
        one(6, "flags", "flags", FieldType::Fixed32),
    ],
};

static STATUS: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        one(2, "message", "message", FieldType::Text),
        one(3, "code", "code", FieldType::Enum(&STATUS_CODES)),
    ],
};

pub(in crate::decode) static LOG_RECORD: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        one(1, "timeUnixNano", "time_unix_nano", FieldType::Fixed64),
        one(
            2,
            "severityNumber",
            "severity_number",
            FieldType::Enum(&SEVERITY_NUMBERS),
        ),
        one(3, "severityText", "severity_text", FieldType::Text),
        one(5, "body", "body", FieldType::Message(&ANY_VALUE)),
        many(
            6,
            "attributes",
            "attributes",
            FieldType::Message(&KEY_VALUE),
        ),
        one(
            7,
            "droppedAttributesCount",
            "dropped_attributes_count",
            FieldType::Uint32,
        ),
        one(8, "flags", "flags", FieldType::Fixed32),
        one(9, "traceId", "trace_id", FieldType::Id),
        one(10, "spanId", "span_id", FieldType::Id),
        one(
            11,
            "observedTimeUnixNano",
            "observed_time_unix_nano",
            FieldType::Fixed64,
        ),
        one(12, "eventName", "event_name", FieldType::Text),
    ],
};

pub(in crate::decode) static KEY_VALUE: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        one(1, "key", "key", FieldType::Text),
        one(2, "value", "value", FieldType::Message(&ANY_VALUE)),
        one(3, "keyStrindex", "key_strindex", FieldType::StringReference),
    ],
};

pub(in crate::decode) static ANY_VALUE: MessageSchema = MessageSchema {
    is_value: true,
    fields: &[
        one(1, "stringValue", "string_value", FieldType::Text),
        one(2, "boolValue", "bool_value", FieldType::Bool),
        one(3, "intValue", "int_value", FieldType::Int64 { double: 4 }),
        one(4, "doubleValue", "double_value", FieldType::Double),
        one(
            5,
            "arrayValue",
            "array_value",
            FieldType::Message(&ARRAY_VALUE),
        ),
        one(
            6,
            "kvlistValue",
            "kvlist_value",
            FieldType::Message(&KEY_VALUE_LIST),
        ),
        one(7, "bytesValue", "bytes_value", FieldType::Bytes),
        one(
            8,
            "stringValueStrindex",
            "string_value_strindex",
            FieldType::StringReference,
        ),
    ],
};

static ARRAY_VALUE: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[many(1, "values", "values", FieldType::Message(&ANY_VALUE))],
};

static KEY_VALUE_LIST: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[many(1, "values", "values", FieldType::Message(&KEY_VALUE))],
};

pub(in crate::decode) static RESOURCE: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        many(
            1,
            "attributes",
            "attributes",
            FieldType::Message(&KEY_VALUE),
        ),
        one(
            2,
            "droppedAttributesCount",
            "dropped_attributes_count",
            FieldType::Uint32,
        ),
        many(
            3,
            "entityRefs",
            "entity_refs",
            FieldType::Message(&ENTITY_REF),
        ),
    ],
};

static ENTITY_REF: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        one(1, "schemaUrl", "schema_url", FieldType::Text),
        one(2, "type", "type", FieldType::Text),
        many(3, "idKeys", "id_keys", FieldType::Text),
        many(4, "descriptionKeys", "description_keys", FieldType::Text),
    ],
};

pub(in crate::decode) static SCOPE: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        one(1, "name", "name", FieldType::Text),
        one(2, "version", "version", FieldType::Text),
        many(
            3,
            "attributes",
            "attributes",
            FieldType::Message(&KEY_VALUE),
        ),
        one(
            4,
            "droppedAttributesCount",
            "dropped_attributes_count",
            FieldType::Uint32,
        ),
    ],
};

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
