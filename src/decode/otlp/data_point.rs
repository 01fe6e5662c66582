//! Converts a data point's message to a row.
//!
//! `metadata` holds the fields that have no column or do not fit it, under their protobuf JSON names. If the protocol
//! does not distinguish a field's default from its absence, the default is left out. A field with presence (`optional`,
//! `oneof`, messages) is left out if it is absent and written if it is present, even if it is 0. Integers are plain
//! digits; doubles have a fraction (`1.0`), or are `{"$double": "NaN"}` (`Infinity`, `-Infinity`, `-0.0`).
//!
//! | key | kinds of data | value | left out if |
//! | --- | --- | --- | --- |
//! | `attributes` | all | an object, as for every item | there are none |
//! | `asInt` | gauge, sum | an integer | the value is not an integer; without `asInt` and `asDouble` there is no value |
//! | `asDouble` | gauge, sum | a double | likewise |
//! | `startTimeUnixNano` | all | the digits as a string | 0 |
//! | `timeUnixNano` | all | the digits as a string | the column `time_unix_nano` has it |
//! | `count` | histogram, exponentialHistogram, summary | an integer | 0 |
//! | `sum` | the same | a double | absent; of a summary: 0 |
//! | `min`, `max` | histogram, exponentialHistogram | a double | absent |
//! | `bucketCounts` | histogram | an array of integers | empty |
//! | `explicitBounds` | histogram | an array of doubles | empty |
//! | `scale`, `zeroCount` | exponentialHistogram | an integer | 0 |
//! | `zeroThreshold` | exponentialHistogram | a double | 0 |
//! | `positive`, `negative` | exponentialHistogram | `{"offset": integer, "bucketCounts": [integers]}`, each left out at 0 or empty | absent; `{}` is an empty message |
//! | `quantileValues` | summary | an array of `{"value": double, "quantile": double}`, each left out at 0 | empty |
//! | `exemplars` | all but summary | an array of `{"asInt": integer}` or `{"asDouble": double}` with `spanId`, `traceId` (hex; left out if it is not valid), `timeUnixNano` (a string), `filteredAttributes` (an object) | empty |
//! | `flags` | all | an integer | 0 |
//! | `name` | all, of the metric | text | the column has all of it |
//! | `unit`, `description` | all, of the metric | text | empty |
//! | `metadata` | all, of the metric | an object, as attributes | there is none |
//! | `aggregationTemporality` | sum, histogram, exponentialHistogram | 1 = delta, 2 = cumulative, others as sent | 0 |
//! | `isMonotonic` | sum | `true` | false |
//!
//! `kind` is the number of the data's field in `Metric` and `status` its JSON name; each determines the types of the
//! other fields. If no attribute names the `correlation_id`, it is the point's series: the first 16 bytes of SHA-256,
//! in hex, over the byte 1 and the JSON array `["<resource id in hex>", "<metric name>", {<attributes>}]`. The array is
//! whole and in its stored form, but with all keys sorted bytewise.
//!
//! **Invariant:** with its resource, the row gives back the point and its metric as they were sent, but for the order
//! of attributes, duplicate keys (the last wins), ids that are not ids, and sanitised text.

use std::borrow::Cow;

use sha2::Digest as _;

use crate::decode::json::json_number;
use crate::decode::json::json_text::{JsonText, hash_json};
use crate::decode::json::json_writer;
use crate::decode::otlp::any_value::{self, ValueStyle};
use crate::decode::otlp::column_keys::correlation_id;
use crate::decode::otlp::item::{
    Hex, ItemContext, OtlpItem, RowMemory, TakeRow, column_time, time_member,
};
use crate::decode::otlp::key_layout::KeyOrder;
use crate::decode::otlp::key_values::{KeyValueMemory, KeyValues};
use crate::decode::otlp::metric::{MetricFields, MetricPart, OtlpMetric};
use crate::decode::protobuf::Malformed;
use crate::event::{Event, EventFlags, Signal};
use point_fields::PointFields;
use values::{PointNumber, buckets_member, write_exemplar, write_quantile};

/// The fields of a point's message.
mod point_fields;

/// The values of a point: numbers, buckets, quantiles, exemplars.
pub(in crate::decode) mod values;

/// A data point and the metric that it belongs to.
#[derive(Debug)]
pub(in crate::decode) struct DataPoint<'m> {
    metric: &'m OtlpMetric<'m>,
    fields: PointFields<'m>,
}

impl<'m> DataPoint<'m> {
    pub(in crate::decode) fn read(
        metric: &'m OtlpMetric<'m>,
        message: &'m [u8],
    ) -> Result<Self, Malformed> {
        Ok(Self {
            metric,
            fields: PointFields::read(metric.data, message)?,
        })
    }

    /// Writes the members in JSONB's order of keys.
    fn write_metadata(
        &self,
        shared: &MetricFields,
        attributes: &KeyValues<'_>,
        style: &ValueStyle,
        out: &mut JsonText<'_>,
    ) {
        let (metric, fields) = (self.metric, &self.fields);
        out.push('{');
        for (name, value) in [
            ("max", fields.max),
            ("min", fields.min),
            ("sum", fields.sum),
        ] {
            if let Some(value) = value {
                json_writer::key(out, name);
                json_number::double(out, value);
            }
        }
        metric.write_part(MetricPart::NameAndUnit, shared, style, out);
        if let Some(value @ PointNumber::Integer(_)) = fields.value {
            value.write(out);
        }
        json_writer::number_member(out, "count", fields.count);
        json_writer::number_member(out, "flags", fields.flags.into());
        json_writer::integer_member(out, "scale", fields.scale);
        if let Some(value @ PointNumber::Double(_)) = fields.value {
            value.write(out);
        }
        metric.write_part(MetricPart::Metadata, shared, style, out);
        buckets_member(out, "negative", fields.negative);
        buckets_member(out, "positive", fields.positive);
        json_writer::array_member(
            out,
            "exemplars",
            fields.exemplars.messages(),
            |out, exemplar| {
                write_exemplar(out, exemplar, style);
            },
        );
        json_writer::number_member(out, "zeroCount", fields.zero_count);
        any_value::object_member(out, "attributes", attributes, style);
        metric.write_part(MetricPart::Description, shared, style, out);
        json_writer::array_member(
            out,
            "bucketCounts",
            fields.bucket_counts.fixed64s(),
            json_number::unsigned,
        );
        if column_time(fields.time).is_none() {
            time_member(out, "timeUnixNano", fields.time);
        }
        json_writer::double_member(out, "zeroThreshold", fields.zero_threshold);
        let bounds = fields.explicit_bounds.fixed64s().map(f64::from_bits);
        json_writer::array_member(out, "explicitBounds", bounds, json_number::double);
        let quantiles = fields.quantile_values.messages();
        json_writer::array_member(out, "quantileValues", quantiles, write_quantile);
        time_member(out, "startTimeUnixNano", fields.start);
        metric.write_part(MetricPart::Temporality, shared, style, out);
        out.push('}');
    }

    /// The id of the series.
    fn series(&self, shared: &MetricFields, memory: &mut RowMemory) -> Hex<32> {
        let whole = ValueStyle {
            order: KeyOrder::Bytewise,
            attributes: 0,
            value_bytes: 0,
        };
        let mut series = shared.series.clone();
        let pairs = self.pairs(&whole, &mut memory.hashed_attributes);
        hash_json(&mut series, &mut memory.hashed_json, |out| {
            any_value::object(out, &pairs, &whole);
            out.push(']');
        });
        pairs.give_back(&mut memory.hashed_attributes);
        let digest = series.finalize();
        Hex::of(&digest[..16])
    }

    fn pairs(&self, style: &ValueStyle, memory: &mut KeyValueMemory) -> KeyValues<'m> {
        let attributes = self.fields.attributes;
        KeyValues::read_into(
            memory,
            attributes.bytes(),
            attributes.number,
            style.attributes,
            style.order,
        )
    }
}

impl OtlpItem for DataPoint<'_> {
    fn fault(&self) -> Option<(&'static str, &'static str)> {
        (self.fields.time == 0).then_some(("timeUnixNano", "a data point has a time"))
    }

    fn time(&self) -> u64 {
        self.fields.time
    }

    /// Returns an empty text, because the name is the metric's.
    fn name(&self) -> &[u8] {
        b""
    }

    fn attributes(&self) -> (&[u8], u32) {
        (
            self.fields.attributes.bytes(),
            self.fields.attributes.number,
        )
    }

    fn row(&self, place: &ItemContext<'_>, memory: &mut RowMemory, take: &mut TakeRow<'_>) {
        let shared = self.metric.shared(place.origin.id, &place.style);
        let attributes = self.pairs(&place.style, &mut memory.attributes);
        let series;
        let correlation_id = match correlation_id(&attributes) {
            Some(named) => named,
            None => {
                series = self.series(shared, memory);
                Cow::Borrowed(series.as_str())
            }
        };
        let mut flags = place.flags;
        for (times, flag) in [
            (self.metric.repairs.cut, EventFlags::CUT),
            (self.metric.repairs.nul, EventFlags::TEXT_REPAIRED),
            (self.metric.repairs.utf8, EventFlags::TEXT_REPAIRED),
        ] {
            if times > 0 {
                flags.insert(flag);
            }
        }
        let write = |out: &mut JsonText<'_>| {
            self.write_metadata(shared, &attributes, &place.style, out);
        };
        let row = Event {
            correlation_id,
            name: Some(Cow::Borrowed(&shared.name)),
            time_unix_nano: column_time(self.fields.time),
            kind: Some(self.metric.data as i32),
            status: Some(Cow::Borrowed(self.metric.data.name())),
            flags,
            ..place.event(Signal::Metric, &attributes)
        };
        take(&row, &write);
        drop(row);
        attributes.give_back(&mut memory.attributes);
    }
}
