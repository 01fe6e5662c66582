//! Reads a metric's envelope once, and each of its data points as an item.
//!
//! A `Metric` has a name, a description, a unit, metadata, and one kind of data with the points (`metrics.proto`). The
//! last member of the `oneof` counts, and its pieces are merged, as protobuf does. A metric without data, or with an
//! unknown kind of data, has no points and is not an error.
//!
//! **Invariant:** the members that an envelope adds to rows are made once for each metric, and the bytes of all their
//! copies in a request's rows are bounded.

use std::borrow::Cow;
use std::cell::OnceCell;

use sha2::{Digest as _, Sha256};

use crate::decode::event_metadata::HELD_BYTES;
use crate::decode::json::json_text::{JsonText, hash_json, json_string};
use crate::decode::json::json_writer;
use crate::decode::otlp::any_value::{self, ValueStyle, repeated};
use crate::decode::otlp::data_point::DataPoint;
use crate::decode::otlp::item::{FieldRange, ItemKind, NAME_CHARACTERS, long_name_member, low32};
use crate::decode::otlp::key_values::KeyValues;
use crate::decode::otlp::resource_scope::{column_text, last_text};
use crate::decode::otlp::row_builder::RowBuilder;
use crate::decode::otlp::schema::{MessageSchema, metric as schema};
use crate::decode::otlp::validate::{Invalid, ValidItem};
use crate::decode::protobuf::{FieldValue, Malformed, ProtobufReader, WRONG_TYPE};
use crate::event::{ResourceId, Sanitized, Source};
use crate::text::is_longer;

/// Number of bytes that a pair of metadata takes in a row beyond its contents, such as `"": , `.
const PAIR_BYTES: usize = 8;

/// The kinds of data, with the numbers of their fields in `Metric`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decode) enum MetricData {
    Gauge = 5,
    Sum = 7,
    Histogram = 9,
    ExponentialHistogram = 10,
    Summary = 11,
}

impl MetricData {
    pub(in crate::decode) const ALL: [Self; 5] = [
        Self::Gauge,
        Self::Sum,
        Self::Histogram,
        Self::ExponentialHistogram,
        Self::Summary,
    ];

    fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|data| *data as u32 == number)
    }

    /// Returns the name in JSON, which is also the column `status`.
    pub(in crate::decode) const fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Sum => "sum",
            Self::Histogram => "histogram",
            Self::ExponentialHistogram => "exponentialHistogram",
            Self::Summary => "summary",
        }
    }

    /// Returns the message of the data, without its points.
    pub(in crate::decode) const fn schema(self) -> &'static MessageSchema {
        match self {
            Self::Gauge | Self::Summary => &schema::POINTS_ALONE,
            Self::Sum => &schema::SUM,
            Self::Histogram | Self::ExponentialHistogram => &schema::HISTOGRAM,
        }
    }
}

/// A metric without its points.
#[derive(Debug)]
pub(in crate::decode) struct OtlpMetric<'a> {
    message: Cow<'a, [u8]>,
    /// Number of changes to the envelope, by reason.
    pub(in crate::decode) repairs: Sanitized,
    /// The reason why none of its points can be accepted.
    fault: Option<Invalid>,
    pub(in crate::decode) data: MetricData,
    temporality: i32,
    is_monotonic: bool,
    /// Number of bytes that its texts and metadata take in a row.
    bytes: usize,
    shared: OnceCell<MetricFields>,
}

/// Members of `metadata` that the rows of a metric's points have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decode) enum MetricPart {
    /// `"name": …, "unit": …`
    NameAndUnit,
    Metadata,
    /// `"description": …, "isMonotonic": …`
    Description,
    Temporality,
}

impl MetricPart {
    const ALL: [Self; 4] = [
        Self::NameAndUnit,
        Self::Metadata,
        Self::Description,
        Self::Temporality,
    ];
}

/// The values that the rows of a metric's points have in common: the column `name`, members of `metadata`, the series.
#[derive(Debug)]
pub(in crate::decode) struct MetricFields {
    pub(in crate::decode) name: String,
    /// In the order of [`MetricPart`]; `None` if they are too long to be kept.
    parts: Option<[String; 4]>,
    /// The hash of a point's series before the point's attributes are added.
    pub(in crate::decode) series: Sha256,
}

impl<'a> OtlpMetric<'a> {
    /// Validates an envelope's message, of which it ignores fields that are not in its table, and reads the messages of
    /// its data without their points.
    ///
    /// # Errors
    /// [`Malformed`] if one of the messages is not valid.
    pub(in crate::decode) fn new<'d>(
        message: &'a [u8],
        kind: MetricData,
        data: impl Iterator<Item = &'d [u8]>,
        source: &'a Source,
    ) -> Result<Self, Malformed> {
        let texts = [1, 2, 3]
            .into_iter()
            .flat_map(|number| repeated(message, number));
        let pairs = repeated(message, 12).map(|pair| pair.len() + PAIR_BYTES);
        let bytes: usize = texts.map(<[u8]>::len).chain(pairs).sum();
        let valid = ValidItem::of(message, &schema::METRIC, source);
        let (message, mut seen, expansion_bytes, fault) = match valid {
            Ok(valid) => (valid.item, valid.repairs, valid.expansion_bytes, None),
            Err(Invalid::Malformed(malformed)) => return Err(malformed),
            Err(fault) => (Cow::Borrowed(message), Sanitized::default(), 0, Some(fault)),
        };
        if source.flags_cut_columns() && is_longer(last_text(&message, 1), NAME_CHARACTERS) {
            seen.cut += 1;
        }
        let mut metric = Self {
            message,
            repairs: seen,
            fault,
            data: kind,
            temporality: 0,
            is_monotonic: false,
            bytes: bytes + expansion_bytes,
            shared: OnceCell::new(),
        };
        for message in data {
            metric.read_data(message)?;
        }
        Ok(metric)
    }

    /// Returns the message type of its points.
    pub(in crate::decode) const fn point(&self) -> &'static MessageSchema {
        match self.data {
            MetricData::Gauge | MetricData::Sum => &schema::NUMBER_POINT,
            MetricData::Histogram => &schema::HISTOGRAM_POINT,
            MetricData::ExponentialHistogram => &schema::EXPONENTIAL_POINT,
            MetricData::Summary => &schema::SUMMARY_POINT,
        }
    }

    /// Reads the fields of the data, without its points.
    fn read_data(&mut self, data: &[u8]) -> Result<(), Malformed> {
        let mut reader = ProtobufReader::new(data);
        while let Some((number, value)) = reader.field()? {
            match (self.data.schema().field(number), number, value) {
                (_, 1, FieldValue::Bytes(_)) | (None, 2.., _) => {}
                (Some(_), 2, FieldValue::Varint(value)) => {
                    self.temporality = low32(value).cast_signed();
                }
                (Some(_), 3, FieldValue::Varint(value)) => self.is_monotonic = value != 0,
                _ => return Err(WRONG_TYPE),
            }
        }
        Ok(())
    }

    /// Returns the values that its rows have in common; all of them refer to `resource`.
    pub(in crate::decode) fn shared(
        &self,
        resource: ResourceId,
        style: &ValueStyle,
    ) -> &MetricFields {
        self.shared.get_or_init(|| self.share(resource, style))
    }

    fn share(&self, resource: ResourceId, style: &ValueStyle) -> MetricFields {
        let name = self.text(1);
        let mut series = Sha256::new().chain_update([1]);
        hash_json(&mut series, &mut Vec::new(), |out| {
            json_writer::display(
                out,
                format_args!("[\"{:032x}\", ", u128::from_be_bytes(resource.0)),
            );
            json_writer::text(out, name.as_bytes());
            out.push_str(", ");
        });
        let part = |part| {
            let mut object = json_string(|out| {
                out.push('{');
                self.write_new_part(part, style, out);
            });
            object.split_off(1)
        };
        MetricFields {
            name: column_text(name.as_bytes(), NAME_CHARACTERS)
                .unwrap_or_default()
                .into_owned(),
            parts: (self.bytes <= HELD_BYTES).then(|| MetricPart::ALL.map(part)),
            series,
        }
    }

    fn text(&self, number: u32) -> &str {
        last_text(&self.message, number)
    }

    /// Writes members that were written before if they are kept.
    pub(in crate::decode) fn write_part(
        &self,
        part: MetricPart,
        shared: &MetricFields,
        style: &ValueStyle,
        out: &mut JsonText<'_>,
    ) {
        let Some(parts) = &shared.parts else {
            return self.write_new_part(part, style, out);
        };
        let members = &parts[part as usize];
        if !members.is_empty() {
            json_writer::separate(out);
            out.push_str(members);
        }
    }

    fn write_new_part(&self, part: MetricPart, style: &ValueStyle, out: &mut JsonText<'_>) {
        match part {
            MetricPart::NameAndUnit => {
                long_name_member(out, "name", self.text(1).as_bytes());
                json_writer::text_member(out, "unit", self.text(3).as_bytes());
            }
            MetricPart::Metadata => {
                let pairs = KeyValues::read(&self.message, 12, 0, style.order);
                any_value::object_member(out, "metadata", &pairs, style);
            }
            MetricPart::Description => {
                json_writer::text_member(out, "description", self.text(2).as_bytes());
                if self.is_monotonic {
                    json_writer::key(out, "isMonotonic");
                    out.push_str("true");
                }
            }
            MetricPart::Temporality => {
                json_writer::integer_member(out, "aggregationTemporality", self.temporality);
            }
        }
    }
}

impl ItemKind for OtlpMetric<'_> {
    type Item<'m>
        = DataPoint<'m>
    where
        Self: 'm;

    fn envelope_bytes(&self) -> usize {
        self.bytes
    }

    fn envelope_fault(&self) -> Option<Invalid> {
        self.fault
    }

    fn schema(&self) -> &'static MessageSchema {
        self.point()
    }

    fn read<'m>(&'m self, message: &'m [u8]) -> Result<DataPoint<'m>, Malformed> {
        DataPoint::read(self, message)
    }
}

/// Passes the data points of a metric in protobuf to `rows`.
///
/// # Errors
/// [`Malformed`] if it is not a `Metric`, even if it has no points, because another signal's items must not pass for
/// metrics without data; otherwise as [`RowBuilder::item`].
pub(in crate::decode) fn decode_metric(
    message: &[u8],
    source: &Source,
    rows: &mut RowBuilder<'_, '_>,
) -> Result<(), Malformed> {
    let Some((kind, data)) = find_data(message)? else {
        return match ValidItem::of(message, &schema::METRIC, source) {
            Err(Invalid::Malformed(malformed)) => Err(malformed),
            Ok(_) | Err(Invalid::TooDeep | Invalid::TooManyNodes) => Ok(()),
        };
    };
    let data = || repeated(data, kind as u32);
    let metric = OtlpMetric::new(message, kind, data(), source)?;
    rows.sanitized(&metric.repairs);
    for points in data() {
        for point in repeated(points, 1) {
            rows.item(&metric, point, 0)?;
        }
    }
    Ok(())
}

/// Returns the kind of data that a metric has, and the part of its message with all of that data.
fn find_data(metric: &[u8]) -> Result<Option<(MetricData, &[u8])>, Malformed> {
    let mut found: Option<(MetricData, FieldRange<'_>)> = None;
    let mut reader = ProtobufReader::new(metric);
    loop {
        let before = reader.rest();
        let Some((number, value)) = reader.field()? else {
            return Ok(found.map(|(data, range)| (data, range.bytes())));
        };
        let Some(data) = MetricData::of(number) else {
            continue;
        };
        value.bytes()?;
        match &mut found {
            Some((last, range)) if *last == data => range.extend(before, reader.rest()),
            found => {
                let mut range = FieldRange::default();
                range.extend(before, reader.rest());
                *found = Some((data, range));
            }
        }
    }
}
