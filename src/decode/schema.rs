//! The messages of OTLP that an item is made of, as tables: one source for the check over the wire and for OTLP's JSON.
//! (opentelemetry-proto 1.11: `trace.proto`, `logs.proto`, `common.proto`, `resource.proto`; `metrics.proto` in [`metric`].)
//!
//! **Invariant:** a field that is not in a table is ignored, in either encoding.

/// Metrics.
pub(super) mod metric;

/// One message type.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) fields: &'static [Field],
    /// `AnyValue`: each is a level of depth, and its texts and bytes are attribute values.
    pub(super) is_value: bool,
}

/// One field of a message.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    /// Its lowerCamelCase name in JSON.
    pub(super) name: &'static str,
    /// Its name in the protobuf definition, taken in JSON too unless that is strict.
    pub(super) snake: &'static str,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    Bytes,
    /// A trace or span id: hex in JSON.
    Id,
    Bool,
    /// `double` is the number of the field that takes what does not fit, in JSON.
    Int64 {
        double: u32,
    },
    Uint32,
    Uint64,
    /// Zigzag on the wire.
    Sint32,
    Enum(&'static EnumNames),
    Double,
    Fixed32,
    Fixed64,
    /// `double` as for [`Self::Int64`].
    Sfixed64 {
        double: u32,
    },
    Message(&'static Message),
    /// An index into a string table that only profiles have: as if absent.
    StringReference,
}

/// An enum's names.
#[derive(Debug)]
pub(super) struct EnumNames {
    /// In the order of their numbers, from 0.
    pub(super) known: &'static [&'static str],
    /// The end of the error for a value that is none of them.
    pub(super) expected: &'static str,
}

pub(super) const fn one(number: u32, name: &'static str, snake: &'static str, kind: Kind) -> Field {
    Field {
        number,
        name,
        snake,
        kind,
        repeated: false,
    }
}

pub(super) const fn many(
    number: u32,
    name: &'static str,
    snake: &'static str,
    kind: Kind,
) -> Field {
    Field {
        number,
        name,
        snake,
        kind,
        repeated: true,
    }
}

impl Message {
    /// The field with this number.
    #[inline]
    pub(super) fn field(&self, number: u32) -> Option<&'static Field> {
        // Most tables are without gaps, so the first guess is right.
        let guess = usize::try_from(number.wrapping_sub(1)).ok()?;
        match self.fields.get(guess) {
            Some(field) if field.number == number => Some(field),
            _ => self.fields.iter().find(|field| field.number == number),
        }
    }
}

pub(super) static SPAN: Message = Message {
    is_value: false,
    fields: &[
        one(1, "traceId", "trace_id", Kind::Id),
        one(2, "spanId", "span_id", Kind::Id),
        one(3, "traceState", "trace_state", Kind::Text),
        one(4, "parentSpanId", "parent_span_id", Kind::Id),
        one(5, "name", "name", Kind::Text),
        one(6, "kind", "kind", Kind::Enum(&SPAN_KINDS)),
        one(
            7,
            "startTimeUnixNano",
            "start_time_unix_nano",
            Kind::Fixed64,
        ),
        one(8, "endTimeUnixNano", "end_time_unix_nano", Kind::Fixed64),
        many(9, "attributes", "attributes", Kind::Message(&KEY_VALUE)),
        one(
            10,
            "droppedAttributesCount",
            "dropped_attributes_count",
            Kind::Uint32,
        ),
        many(11, "events", "events", Kind::Message(&SPAN_EVENT)),
        one(
            12,
            "droppedEventsCount",
            "dropped_events_count",
            Kind::Uint32,
        ),
        many(13, "links", "links", Kind::Message(&SPAN_LINK)),
        one(14, "droppedLinksCount", "dropped_links_count", Kind::Uint32),
        one(15, "status", "status", Kind::Message(&STATUS)),
        one(16, "flags", "flags", Kind::Fixed32),
    ],
};

static SPAN_EVENT: Message = Message {
    is_value: false,
    fields: &[
        one(1, "timeUnixNano", "time_unix_nano", Kind::Fixed64),
        one(2, "name", "name", Kind::Text),
        many(3, "attributes", "attributes", Kind::Message(&KEY_VALUE)),
        one(
            4,
            "droppedAttributesCount",
            "dropped_attributes_count",
            Kind::Uint32,
        ),
    ],
};

static SPAN_LINK: Message = Message {
    is_value: false,
    fields: &[
        one(1, "traceId", "trace_id", Kind::Id),
        one(2, "spanId", "span_id", Kind::Id),
        one(3, "traceState", "trace_state", Kind::Text),
        many(4, "attributes", "attributes", Kind::Message(&KEY_VALUE)),
        one(
            5,
            "droppedAttributesCount",
            "dropped_attributes_count",
            Kind::Uint32,
        ),
        one(6, "flags", "flags", Kind::Fixed32),
    ],
};

static STATUS: Message = Message {
    is_value: false,
    fields: &[
        one(2, "message", "message", Kind::Text),
        one(3, "code", "code", Kind::Enum(&STATUS_CODES)),
    ],
};

pub(super) static LOG_RECORD: Message = Message {
    is_value: false,
    fields: &[
        one(1, "timeUnixNano", "time_unix_nano", Kind::Fixed64),
        one(
            2,
            "severityNumber",
            "severity_number",
            Kind::Enum(&SEVERITY_NUMBERS),
        ),
        one(3, "severityText", "severity_text", Kind::Text),
        one(5, "body", "body", Kind::Message(&ANY_VALUE)),
        many(6, "attributes", "attributes", Kind::Message(&KEY_VALUE)),
        one(
            7,
            "droppedAttributesCount",
            "dropped_attributes_count",
            Kind::Uint32,
        ),
        one(8, "flags", "flags", Kind::Fixed32),
        one(9, "traceId", "trace_id", Kind::Id),
        one(10, "spanId", "span_id", Kind::Id),
        one(
            11,
            "observedTimeUnixNano",
            "observed_time_unix_nano",
            Kind::Fixed64,
        ),
        one(12, "eventName", "event_name", Kind::Text),
    ],
};

pub(super) static KEY_VALUE: Message = Message {
    is_value: false,
    fields: &[
        one(1, "key", "key", Kind::Text),
        one(2, "value", "value", Kind::Message(&ANY_VALUE)),
        one(3, "keyStrindex", "key_strindex", Kind::StringReference),
    ],
};

pub(super) static ANY_VALUE: Message = Message {
    is_value: true,
    fields: &[
        one(1, "stringValue", "string_value", Kind::Text),
        one(2, "boolValue", "bool_value", Kind::Bool),
        one(3, "intValue", "int_value", Kind::Int64 { double: 4 }),
        one(4, "doubleValue", "double_value", Kind::Double),
        one(5, "arrayValue", "array_value", Kind::Message(&ARRAY_VALUE)),
        one(
            6,
            "kvlistValue",
            "kvlist_value",
            Kind::Message(&KEY_VALUE_LIST),
        ),
        one(7, "bytesValue", "bytes_value", Kind::Bytes),
        one(
            8,
            "stringValueStrindex",
            "string_value_strindex",
            Kind::StringReference,
        ),
    ],
};

static ARRAY_VALUE: Message = Message {
    is_value: false,
    fields: &[many(1, "values", "values", Kind::Message(&ANY_VALUE))],
};

static KEY_VALUE_LIST: Message = Message {
    is_value: false,
    fields: &[many(1, "values", "values", Kind::Message(&KEY_VALUE))],
};

pub(super) static RESOURCE: Message = Message {
    is_value: false,
    fields: &[
        many(1, "attributes", "attributes", Kind::Message(&KEY_VALUE)),
        one(
            2,
            "droppedAttributesCount",
            "dropped_attributes_count",
            Kind::Uint32,
        ),
        many(3, "entityRefs", "entity_refs", Kind::Message(&ENTITY_REF)),
    ],
};

static ENTITY_REF: Message = Message {
    is_value: false,
    fields: &[
        one(1, "schemaUrl", "schema_url", Kind::Text),
        one(2, "type", "type", Kind::Text),
        many(3, "idKeys", "id_keys", Kind::Text),
        many(4, "descriptionKeys", "description_keys", Kind::Text),
    ],
};

pub(super) static SCOPE: Message = Message {
    is_value: false,
    fields: &[
        one(1, "name", "name", Kind::Text),
        one(2, "version", "version", Kind::Text),
        many(3, "attributes", "attributes", Kind::Message(&KEY_VALUE)),
        one(
            4,
            "droppedAttributesCount",
            "dropped_attributes_count",
            Kind::Uint32,
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
