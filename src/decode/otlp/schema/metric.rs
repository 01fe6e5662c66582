//! The messages of `metrics.proto`: a metric's envelope, and the data points in it.
//!
//! **Invariant:** the envelope's table does not have the fields of the data, so code that reads an envelope never reads
//! the data points.

use crate::decode::otlp::schema::{EnumNames, FieldType, KEY_VALUE, MessageSchema, many, one};

/// A metric's envelope: the fields that all of its points share.
pub(in crate::decode) static METRIC: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        one(1, "name", "name", FieldType::Text),
        one(2, "description", "description", FieldType::Text),
        one(3, "unit", "unit", FieldType::Text),
        many(12, "metadata", "metadata", FieldType::Message(&KEY_VALUE)),
    ],
};

/// The fields of `Sum`, without its points.
pub(in crate::decode) static SUM: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        TEMPORALITY,
        one(3, "isMonotonic", "is_monotonic", FieldType::Bool),
    ],
};

/// The fields of `Histogram` and `ExponentialHistogram`, without their points.
pub(in crate::decode) static HISTOGRAM: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[TEMPORALITY],
};

/// `Gauge` and `Summary`, which have no fields but their points.
pub(in crate::decode) static POINTS_ALONE: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[],
};

const TEMPORALITY: crate::decode::otlp::schema::FieldSchema = one(
    2,
    "aggregationTemporality",
    "aggregation_temporality",
    FieldType::Enum(&TEMPORALITIES),
);

pub(in crate::decode) static TEMPORALITIES: EnumNames = EnumNames {
    known: &[
        "AGGREGATION_TEMPORALITY_UNSPECIFIED",
        "AGGREGATION_TEMPORALITY_DELTA",
        "AGGREGATION_TEMPORALITY_CUMULATIVE",
    ],
    expected: "a number or a full name such as AGGREGATION_TEMPORALITY_DELTA is expected",
};

const START: crate::decode::otlp::schema::FieldSchema = one(
    2,
    "startTimeUnixNano",
    "start_time_unix_nano",
    FieldType::Fixed64,
);

const TIME: crate::decode::otlp::schema::FieldSchema =
    one(3, "timeUnixNano", "time_unix_nano", FieldType::Fixed64);

pub(in crate::decode) static NUMBER_POINT: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        START,
        TIME,
        one(4, "asDouble", "as_double", FieldType::Double),
        many(5, "exemplars", "exemplars", FieldType::Message(&EXEMPLAR)),
        one(6, "asInt", "as_int", FieldType::Sfixed64 { double: 4 }),
        many(
            7,
            "attributes",
            "attributes",
            FieldType::Message(&KEY_VALUE),
        ),
        one(8, "flags", "flags", FieldType::Uint32),
    ],
};

pub(in crate::decode) static HISTOGRAM_POINT: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        START,
        TIME,
        one(4, "count", "count", FieldType::Fixed64),
        one(5, "sum", "sum", FieldType::Double),
        many(6, "bucketCounts", "bucket_counts", FieldType::Fixed64),
        many(7, "explicitBounds", "explicit_bounds", FieldType::Double),
        many(8, "exemplars", "exemplars", FieldType::Message(&EXEMPLAR)),
        many(
            9,
            "attributes",
            "attributes",
            FieldType::Message(&KEY_VALUE),
        ),
        one(10, "flags", "flags", FieldType::Uint32),
        one(11, "min", "min", FieldType::Double),
        one(12, "max", "max", FieldType::Double),
    ],
};

pub(in crate::decode) static EXPONENTIAL_POINT: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        many(
            1,
            "attributes",
            "attributes",
            FieldType::Message(&KEY_VALUE),
        ),
        START,
        TIME,
        one(4, "count", "count", FieldType::Fixed64),
        one(5, "sum", "sum", FieldType::Double),
        one(6, "scale", "scale", FieldType::Sint32),
        one(7, "zeroCount", "zero_count", FieldType::Fixed64),
        one(8, "positive", "positive", FieldType::Message(&BUCKETS)),
        one(9, "negative", "negative", FieldType::Message(&BUCKETS)),
        one(10, "flags", "flags", FieldType::Uint32),
        many(11, "exemplars", "exemplars", FieldType::Message(&EXEMPLAR)),
        one(12, "min", "min", FieldType::Double),
        one(13, "max", "max", FieldType::Double),
        one(14, "zeroThreshold", "zero_threshold", FieldType::Double),
    ],
};

static BUCKETS: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        one(1, "offset", "offset", FieldType::Sint32),
        many(2, "bucketCounts", "bucket_counts", FieldType::Uint64),
    ],
};

pub(in crate::decode) static SUMMARY_POINT: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        START,
        TIME,
        one(4, "count", "count", FieldType::Fixed64),
        one(5, "sum", "sum", FieldType::Double),
        many(
            6,
            "quantileValues",
            "quantile_values",
            FieldType::Message(&QUANTILE),
        ),
        many(
            7,
            "attributes",
            "attributes",
            FieldType::Message(&KEY_VALUE),
        ),
        one(8, "flags", "flags", FieldType::Uint32),
    ],
};

static QUANTILE: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        one(1, "quantile", "quantile", FieldType::Double),
        one(2, "value", "value", FieldType::Double),
    ],
};

static EXEMPLAR: MessageSchema = MessageSchema {
    is_value: false,
    fields: &[
        one(2, "timeUnixNano", "time_unix_nano", FieldType::Fixed64),
        one(3, "asDouble", "as_double", FieldType::Double),
        one(4, "spanId", "span_id", FieldType::Id),
        one(5, "traceId", "trace_id", FieldType::Id),
        one(6, "asInt", "as_int", FieldType::Sfixed64 { double: 3 }),
        many(
            7,
            "filteredAttributes",
            "filtered_attributes",
            FieldType::Message(&KEY_VALUE),
        ),
    ],
};
