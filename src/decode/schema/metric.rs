//! The messages of `metrics.proto`: a metric's envelope, and the data points that stand in it.
//!
//! **Invariant:** the envelope's table does not know the field with the points, so nothing that reads an envelope enters
//! them.

use super::{EnumNames, KEY_VALUE, Kind, Message, many, one};

/// What a metric says of itself, once for all of its points.
pub(in crate::decode) static METRIC: Message = Message {
    is_value: false,
    fields: &[
        one(1, "name", "name", Kind::Text),
        one(2, "description", "description", Kind::Text),
        one(3, "unit", "unit", Kind::Text),
        many(12, "metadata", "metadata", Kind::Message(&KEY_VALUE)),
    ],
};

/// What `Sum` says beside its points.
pub(in crate::decode) static SUM: Message = Message {
    is_value: false,
    fields: &[
        TEMPORALITY,
        one(3, "isMonotonic", "is_monotonic", Kind::Bool),
    ],
};

/// What `Histogram` and `ExponentialHistogram` say beside their points.
pub(in crate::decode) static HISTOGRAM: Message = Message {
    is_value: false,
    fields: &[TEMPORALITY],
};

/// `Gauge` and `Summary`: nothing but points.
pub(in crate::decode) static POINTS_ALONE: Message = Message {
    is_value: false,
    fields: &[],
};

const TEMPORALITY: super::Field = one(
    2,
    "aggregationTemporality",
    "aggregation_temporality",
    Kind::Enum(&TEMPORALITIES),
);

pub(in crate::decode) static TEMPORALITIES: EnumNames = EnumNames {
    known: &[
        "AGGREGATION_TEMPORALITY_UNSPECIFIED",
        "AGGREGATION_TEMPORALITY_DELTA",
        "AGGREGATION_TEMPORALITY_CUMULATIVE",
    ],
    expected: "a number or a full name such as AGGREGATION_TEMPORALITY_DELTA is expected",
};

const START: super::Field = one(
    2,
    "startTimeUnixNano",
    "start_time_unix_nano",
    Kind::Fixed64,
);

const TIME: super::Field = one(3, "timeUnixNano", "time_unix_nano", Kind::Fixed64);

pub(in crate::decode) static NUMBER_POINT: Message = Message {
    is_value: false,
    fields: &[
        START,
        TIME,
        one(4, "asDouble", "as_double", Kind::Double),
        many(5, "exemplars", "exemplars", Kind::Message(&EXEMPLAR)),
        one(6, "asInt", "as_int", Kind::Sfixed64 { double: 4 }),
        many(7, "attributes", "attributes", Kind::Message(&KEY_VALUE)),
        one(8, "flags", "flags", Kind::Uint32),
    ],
};

pub(in crate::decode) static HISTOGRAM_POINT: Message = Message {
    is_value: false,
    fields: &[
        START,
        TIME,
        one(4, "count", "count", Kind::Fixed64),
        one(5, "sum", "sum", Kind::Double),
        many(6, "bucketCounts", "bucket_counts", Kind::Fixed64),
        many(7, "explicitBounds", "explicit_bounds", Kind::Double),
        many(8, "exemplars", "exemplars", Kind::Message(&EXEMPLAR)),
        many(9, "attributes", "attributes", Kind::Message(&KEY_VALUE)),
        one(10, "flags", "flags", Kind::Uint32),
        one(11, "min", "min", Kind::Double),
        one(12, "max", "max", Kind::Double),
    ],
};

pub(in crate::decode) static EXPONENTIAL_POINT: Message = Message {
    is_value: false,
    fields: &[
        many(1, "attributes", "attributes", Kind::Message(&KEY_VALUE)),
        START,
        TIME,
        one(4, "count", "count", Kind::Fixed64),
        one(5, "sum", "sum", Kind::Double),
        one(6, "scale", "scale", Kind::Sint32),
        one(7, "zeroCount", "zero_count", Kind::Fixed64),
        one(8, "positive", "positive", Kind::Message(&BUCKETS)),
        one(9, "negative", "negative", Kind::Message(&BUCKETS)),
        one(10, "flags", "flags", Kind::Uint32),
        many(11, "exemplars", "exemplars", Kind::Message(&EXEMPLAR)),
        one(12, "min", "min", Kind::Double),
        one(13, "max", "max", Kind::Double),
        one(14, "zeroThreshold", "zero_threshold", Kind::Double),
    ],
};

static BUCKETS: Message = Message {
    is_value: false,
    fields: &[
        one(1, "offset", "offset", Kind::Sint32),
        many(2, "bucketCounts", "bucket_counts", Kind::Uint64),
    ],
};

pub(in crate::decode) static SUMMARY_POINT: Message = Message {
    is_value: false,
    fields: &[
        START,
        TIME,
        one(4, "count", "count", Kind::Fixed64),
        one(5, "sum", "sum", Kind::Double),
        many(
            6,
            "quantileValues",
            "quantile_values",
            Kind::Message(&QUANTILE),
        ),
        many(7, "attributes", "attributes", Kind::Message(&KEY_VALUE)),
        one(8, "flags", "flags", Kind::Uint32),
    ],
};

static QUANTILE: Message = Message {
    is_value: false,
    fields: &[
        one(1, "quantile", "quantile", Kind::Double),
        one(2, "value", "value", Kind::Double),
    ],
};

static EXEMPLAR: Message = Message {
    is_value: false,
    fields: &[
        one(2, "timeUnixNano", "time_unix_nano", Kind::Fixed64),
        one(3, "asDouble", "as_double", Kind::Double),
        one(4, "spanId", "span_id", Kind::Id),
        one(5, "traceId", "trace_id", Kind::Id),
        one(6, "asInt", "as_int", Kind::Sfixed64 { double: 3 }),
        many(
            7,
            "filteredAttributes",
            "filtered_attributes",
            Kind::Message(&KEY_VALUE),
        ),
    ],
};
