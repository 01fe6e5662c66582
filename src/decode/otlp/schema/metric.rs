//! The messages of `metrics.proto`: a metric's envelope, and the data points in it.
//!
//! **Invariant:** the envelope's table does not have the fields of the data, so code that reads an envelope never reads
//! the data points.

use crate::decode::otlp::schema::{
    EnumNames, FieldSchema, FieldType, KEY_VALUE, MessageSchema, many, message, one,
};

/// A metric's envelope: the fields that all of its points share.
pub(in crate::decode) static METRIC: MessageSchema = message(&[
    one(1, "name", FieldType::Text),
    one(2, "description", FieldType::Text),
    one(3, "unit", FieldType::Text),
    many(12, "metadata", FieldType::Message(&KEY_VALUE)),
]);

/// The fields of `Sum`, without its points.
pub(in crate::decode) static SUM: MessageSchema =
    message(&[TEMPORALITY, one(3, "isMonotonic", FieldType::Bool)]);

/// The fields of `Histogram` and `ExponentialHistogram`, without their points.
pub(in crate::decode) static HISTOGRAM: MessageSchema = message(&[TEMPORALITY]);

/// `Gauge` and `Summary`, which have no fields but their points.
pub(in crate::decode) static POINTS_ALONE: MessageSchema = message(&[]);

const TEMPORALITY: FieldSchema = one(2, "aggregationTemporality", FieldType::Enum(&TEMPORALITIES));

pub(in crate::decode) static TEMPORALITIES: EnumNames = EnumNames {
    known: &[
        "AGGREGATION_TEMPORALITY_UNSPECIFIED",
        "AGGREGATION_TEMPORALITY_DELTA",
        "AGGREGATION_TEMPORALITY_CUMULATIVE",
    ],
    expected: "a number or a full name such as AGGREGATION_TEMPORALITY_DELTA is expected",
};

const START: FieldSchema = one(2, "startTimeUnixNano", FieldType::Fixed64);

const TIME: FieldSchema = one(3, "timeUnixNano", FieldType::Fixed64);

pub(in crate::decode) static NUMBER_POINT: MessageSchema = message(&[
    START,
    TIME,
    one(4, "asDouble", FieldType::Double),
    many(5, "exemplars", FieldType::Message(&EXEMPLAR)),
    one(6, "asInt", FieldType::Sfixed64 { double: 4 }),
    many(7, "attributes", FieldType::Message(&KEY_VALUE)),
    one(8, "flags", FieldType::Uint32),
]);

pub(in crate::decode) static HISTOGRAM_POINT: MessageSchema = message(&[
    START,
    TIME,
    one(4, "count", FieldType::Fixed64),
    one(5, "sum", FieldType::Double),
    many(6, "bucketCounts", FieldType::Fixed64),
    many(7, "explicitBounds", FieldType::Double),
    many(8, "exemplars", FieldType::Message(&EXEMPLAR)),
    many(9, "attributes", FieldType::Message(&KEY_VALUE)),
    one(10, "flags", FieldType::Uint32),
    one(11, "min", FieldType::Double),
    one(12, "max", FieldType::Double),
]);

pub(in crate::decode) static EXPONENTIAL_POINT: MessageSchema = message(&[
    many(1, "attributes", FieldType::Message(&KEY_VALUE)),
    START,
    TIME,
    one(4, "count", FieldType::Fixed64),
    one(5, "sum", FieldType::Double),
    one(6, "scale", FieldType::Sint32),
    one(7, "zeroCount", FieldType::Fixed64),
    one(8, "positive", FieldType::Message(&BUCKETS)),
    one(9, "negative", FieldType::Message(&BUCKETS)),
    one(10, "flags", FieldType::Uint32),
    many(11, "exemplars", FieldType::Message(&EXEMPLAR)),
    one(12, "min", FieldType::Double),
    one(13, "max", FieldType::Double),
    one(14, "zeroThreshold", FieldType::Double),
]);

static BUCKETS: MessageSchema = message(&[
    one(1, "offset", FieldType::Sint32),
    many(2, "bucketCounts", FieldType::Uint64),
]);

pub(in crate::decode) static SUMMARY_POINT: MessageSchema = message(&[
    START,
    TIME,
    one(4, "count", FieldType::Fixed64),
    one(5, "sum", FieldType::Double),
    many(6, "quantileValues", FieldType::Message(&QUANTILE)),
    many(7, "attributes", FieldType::Message(&KEY_VALUE)),
    one(8, "flags", FieldType::Uint32),
]);

static QUANTILE: MessageSchema = message(&[
    one(1, "quantile", FieldType::Double),
    one(2, "value", FieldType::Double),
]);

static EXEMPLAR: MessageSchema = message(&[
    one(2, "timeUnixNano", FieldType::Fixed64),
    one(3, "asDouble", FieldType::Double),
    one(4, "spanId", FieldType::Id),
    one(5, "traceId", FieldType::Id),
    one(6, "asInt", FieldType::Sfixed64 { double: 3 }),
    many(7, "filteredAttributes", FieldType::Message(&KEY_VALUE)),
]);
