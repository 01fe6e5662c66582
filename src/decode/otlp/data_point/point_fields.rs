//! Reads the fields of a data point's message.
//!
//! **Invariant:** if a field is given several times, its last value counts; of a list, the range has all elements.

use crate::decode::otlp::data_point::values::{PointNumber, RepeatedField, zigzag};
use crate::decode::otlp::item::low32;
use crate::decode::otlp::metric::MetricData;
use crate::decode::protobuf::{
    self, FIXED64, LENGTH_DELIMITED, Malformed, ProtobufReader, VARINT, key,
};

// The keys of fields that the points of all kinds have.
const START: u32 = key(2, FIXED64);
const TIME: u32 = key(3, FIXED64);

// The keys of fields that the points of all kinds have but those of gauges and sums.
const COUNT: u32 = key(4, FIXED64);
const SUM: u32 = key(5, FIXED64);

/// The keys of the fields of a gauge's or a sum's point.
mod number {
    use super::{FIXED64, LENGTH_DELIMITED, VARINT, key};

    pub(super) const AS_DOUBLE: u32 = key(4, FIXED64);
    pub(super) const EXEMPLAR: u32 = key(5, LENGTH_DELIMITED);
    pub(super) const AS_INT: u32 = key(6, FIXED64);
    pub(super) const ATTRIBUTE: u32 = key(7, LENGTH_DELIMITED);
    pub(super) const FLAGS: u32 = key(8, VARINT);
}

/// The keys of the fields of a histogram's point. Lists of numbers are packed or not.
mod histogram {
    use super::{FIXED64, LENGTH_DELIMITED, VARINT, key};

    pub(super) const BUCKET_COUNT: u32 = key(6, FIXED64);
    pub(super) const BUCKET_COUNTS: u32 = key(6, LENGTH_DELIMITED);
    pub(super) const EXPLICIT_BOUND: u32 = key(7, FIXED64);
    pub(super) const EXPLICIT_BOUNDS: u32 = key(7, LENGTH_DELIMITED);
    pub(super) const EXEMPLAR: u32 = key(8, LENGTH_DELIMITED);
    pub(super) const ATTRIBUTE: u32 = key(9, LENGTH_DELIMITED);
    pub(super) const FLAGS: u32 = key(10, VARINT);
    pub(super) const MIN: u32 = key(11, FIXED64);
    pub(super) const MAX: u32 = key(12, FIXED64);
}

/// The keys of the fields of an exponential histogram's point.
mod exponential {
    use super::{FIXED64, LENGTH_DELIMITED, VARINT, key};

    pub(super) const ATTRIBUTE: u32 = key(1, LENGTH_DELIMITED);
    pub(super) const SCALE: u32 = key(6, VARINT);
    pub(super) const ZERO_COUNT: u32 = key(7, FIXED64);
    pub(super) const POSITIVE: u32 = key(8, LENGTH_DELIMITED);
    pub(super) const NEGATIVE: u32 = key(9, LENGTH_DELIMITED);
    pub(super) const FLAGS: u32 = key(10, VARINT);
    pub(super) const EXEMPLAR: u32 = key(11, LENGTH_DELIMITED);
    pub(super) const MIN: u32 = key(12, FIXED64);
    pub(super) const MAX: u32 = key(13, FIXED64);
    pub(super) const ZERO_THRESHOLD: u32 = key(14, FIXED64);
}

/// The keys of the fields of a summary's point.
mod summary {
    use super::{LENGTH_DELIMITED, VARINT, key};

    pub(super) const QUANTILE_VALUE: u32 = key(6, LENGTH_DELIMITED);
    pub(super) const ATTRIBUTE: u32 = key(7, LENGTH_DELIMITED);
    pub(super) const FLAGS: u32 = key(8, VARINT);
}

/// The fields of points of all kinds, read from a valid message, with the ranges of their lists.
#[derive(Debug, Default)]
pub(super) struct PointFields<'m> {
    /// Unix time in nanoseconds; 0 = not given.
    pub(super) start: u64,
    /// Unix time in nanoseconds; 0 = not given, for which the point is rejected.
    pub(super) time: u64,
    pub(super) flags: u32,
    pub(super) attributes: RepeatedField<'m>,
    pub(super) exemplars: RepeatedField<'m>,
    pub(super) value: Option<PointNumber>,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) bucket_counts: RepeatedField<'m>,
    pub(super) explicit_bounds: RepeatedField<'m>,
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) zero_threshold: f64,
    pub(super) positive: RepeatedField<'m>,
    pub(super) negative: RepeatedField<'m>,
    pub(super) quantile_values: RepeatedField<'m>,
}

impl<'m> PointFields<'m> {
    pub(super) fn read(data: MetricData, message: &'m [u8]) -> Result<Self, Malformed> {
        let mut point = Self::default();
        let mut reader = ProtobufReader::new(message);
        loop {
            let before = reader.rest();
            match reader.key()? {
                protobuf::END => return Ok(point),
                START => point.start = reader.fixed64()?,
                TIME => point.time = reader.fixed64()?,
                key => {
                    let field = PointField { key, before };
                    match data {
                        MetricData::Gauge | MetricData::Sum => point.number(field, &mut reader)?,
                        MetricData::Histogram => point.histogram(field, &mut reader)?,
                        MetricData::ExponentialHistogram => {
                            point.exponential(field, &mut reader)?;
                        }
                        MetricData::Summary => point.summary(field, &mut reader)?,
                    }
                }
            }
        }
    }

    /// Reads a field of a gauge's or a sum's point. Of its two values, which are members of a `oneof`, the last counts.
    #[inline(always)]
    fn number(
        &mut self,
        field: PointField<'m>,
        reader: &mut ProtobufReader<'m>,
    ) -> Result<(), Malformed> {
        match field.key {
            number::AS_DOUBLE => {
                self.value = Some(PointNumber::Double(double(reader)?));
            }
            number::AS_INT => {
                self.value = Some(PointNumber::Integer(reader.fixed64()?.cast_signed()));
            }
            number::EXEMPLAR => field.extend(&mut self.exemplars, reader)?,
            number::ATTRIBUTE => field.extend(&mut self.attributes, reader)?,
            number::FLAGS => self.flags = low32(reader.varint()?),
            key => drop(reader.value(key)?),
        }
        Ok(())
    }

    #[inline(always)]
    fn histogram(
        &mut self,
        field: PointField<'m>,
        reader: &mut ProtobufReader<'m>,
    ) -> Result<(), Malformed> {
        use histogram::{BUCKET_COUNT, BUCKET_COUNTS, EXPLICIT_BOUND, EXPLICIT_BOUNDS};
        match field.key {
            COUNT => self.count = reader.fixed64()?,
            SUM => self.sum = Some(double(reader)?),
            BUCKET_COUNT | BUCKET_COUNTS => field.extend(&mut self.bucket_counts, reader)?,
            EXPLICIT_BOUND | EXPLICIT_BOUNDS => field.extend(&mut self.explicit_bounds, reader)?,
            histogram::EXEMPLAR => field.extend(&mut self.exemplars, reader)?,
            histogram::ATTRIBUTE => field.extend(&mut self.attributes, reader)?,
            histogram::FLAGS => self.flags = low32(reader.varint()?),
            histogram::MIN => self.min = Some(double(reader)?),
            histogram::MAX => self.max = Some(double(reader)?),
            key => drop(reader.value(key)?),
        }
        Ok(())
    }

    #[inline(always)]
    fn exponential(
        &mut self,
        field: PointField<'m>,
        reader: &mut ProtobufReader<'m>,
    ) -> Result<(), Malformed> {
        match field.key {
            COUNT => self.count = reader.fixed64()?,
            SUM => self.sum = Some(double(reader)?),
            exponential::ATTRIBUTE => field.extend(&mut self.attributes, reader)?,
            exponential::SCALE => self.scale = zigzag(reader.varint()?),
            exponential::ZERO_COUNT => self.zero_count = reader.fixed64()?,
            exponential::POSITIVE => field.extend(&mut self.positive, reader)?,
            exponential::NEGATIVE => field.extend(&mut self.negative, reader)?,
            exponential::FLAGS => self.flags = low32(reader.varint()?),
            exponential::EXEMPLAR => field.extend(&mut self.exemplars, reader)?,
            exponential::MIN => self.min = Some(double(reader)?),
            exponential::MAX => self.max = Some(double(reader)?),
            exponential::ZERO_THRESHOLD => self.zero_threshold = double(reader)?,
            key => drop(reader.value(key)?),
        }
        Ok(())
    }

    #[inline(always)]
    fn summary(
        &mut self,
        field: PointField<'m>,
        reader: &mut ProtobufReader<'m>,
    ) -> Result<(), Malformed> {
        match field.key {
            COUNT => self.count = reader.fixed64()?,
            // A summary's sum is not optional: 0 is its default.
            SUM => self.sum = Some(double(reader)?).filter(|sum| sum.to_bits() != 0),
            summary::QUANTILE_VALUE => field.extend(&mut self.quantile_values, reader)?,
            summary::ATTRIBUTE => field.extend(&mut self.attributes, reader)?,
            summary::FLAGS => self.flags = low32(reader.varint()?),
            key => drop(reader.value(key)?),
        }
        Ok(())
    }
}

/// A field whose key was read.
#[derive(Clone, Copy)]
struct PointField<'m> {
    key: u32,
    /// The message from the key on.
    before: &'m [u8],
}

impl<'m> PointField<'m> {
    /// Reads the value, which is an element of `list`.
    #[inline(always)]
    fn extend(
        self,
        list: &mut RepeatedField<'m>,
        reader: &mut ProtobufReader<'m>,
    ) -> Result<(), Malformed> {
        reader.value(self.key)?;
        list.number = self.key >> 3;
        list.range.extend(self.before, reader.rest());
        Ok(())
    }
}

fn double(reader: &mut ProtobufReader<'_>) -> Result<f64, Malformed> {
    reader.fixed64().map(f64::from_bits)
}
