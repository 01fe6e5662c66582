//! Walks metrics in JSON: skips a metric's object once to find its members, and then converts its points one by one.
//!
//! **Invariant:** at most one point of a metric is in memory beside the metric's envelope.

use crate::decode::DecodeError;
use crate::decode::json::json_reader::{JsonReader, JsonType};
use crate::decode::otlp::json_request::{self, RequestSchema, each, members, reject};
use crate::decode::otlp::json_to_protobuf::{self, Unmapped};
use crate::decode::otlp::metric::{MetricData, PointVisitor};
use crate::decode::otlp::protobuf_request::Visitor as _;
use crate::decode::otlp::schema::metric::METRIC;
use crate::event::{Sanitized, Source};

static METRICS: RequestSchema = RequestSchema {
    resources: ("resourceMetrics", "resource_metrics"),
    scopes: [
        ("scopeMetrics", "scope_metrics"),
        (
            "instrumentationLibraryMetrics",
            "instrumentation_library_metrics",
        ),
    ],
    below_scope: &[&[("metrics", "metrics")], &KINDS, &[DATA_POINTS]],
    item: &METRIC,
};

const DATA_POINTS: json_request::MemberName = ("dataPoints", "data_points");

const KINDS: [json_request::MemberName; MetricData::ALL.len()] = {
    let mut names = [("", ""); MetricData::ALL.len()];
    let mut index = 0;
    while index < names.len() {
        let kind = MetricData::ALL[index];
        names[index] = (kind.name(), kind.snake());
        index += 1;
    }
    names
};

/// Walks a request.
///
/// # Errors
/// As [`json_request::walk`].
pub(in crate::decode) fn walk<'a>(
    body: &'a [u8],
    source: &'a Source,
    points: &mut PointVisitor<'a, '_>,
) -> Result<(), DecodeError> {
    let mut scratch = MetricBuffers::default();
    json_request::walk_items(body, &METRICS, source, points, |metric, points| {
        let start = *metric;
        match scratch.read(metric, source, points) {
            Ok(Some(found)) => scratch.take(&found, source, points),
            Ok(None) => Ok(()),
            Err(fault) => {
                *metric = reject(start, &fault, &[&KINDS, &[DATA_POINTS]], points)?;
                Ok(())
            }
        }
    })
}

/// Buffers for messages in protobuf, reused for each metric.
#[derive(Default)]
struct MetricBuffers {
    envelope: Vec<u8>,
    data: Vec<u8>,
    point: Vec<u8>,
}

/// A metric's kind of data and its list of points.
struct FoundData<'a> {
    kind: MetricData,
    repaired: Sanitized,
    /// A reader at the list of points.
    points: Option<JsonReader<'a>>,
}

impl MetricBuffers {
    /// Reads a metric's envelope and the fields of its data without the points; `None` if it has no data.
    fn read<'a>(
        &mut self,
        metric: &mut JsonReader<'a>,
        source: &Source,
        points: &mut PointVisitor<'a, '_>,
    ) -> Result<Option<FoundData<'a>>, Unmapped> {
        let texts = METRIC.fields.iter().map(|field| (field.name, field.snake));
        let mut names = texts.chain(KINDS);
        let names = [(); 9].map(|()| names.next().unwrap_or_default());
        let found = members(metric, names, source, |name| points.unknown(name))?;
        let (texts, kinds) = found.split_at(METRIC.fields.len());
        let mut repaired = Sanitized::default();
        self.envelope.clear();
        for (field, at) in METRIC.fields.iter().zip(texts) {
            if let Some(mut at) = *at {
                let seen = json_to_protobuf::member(&mut at, field, source, &mut self.envelope)?;
                repaired.utf8 += seen.utf8;
            }
        }
        // The last member of a `oneof` counts.
        let last = MetricData::ALL
            .into_iter()
            .zip(kinds)
            .filter_map(|(kind, at)| Some((kind, (*at)?)));
        let Some((kind, mut at)) = last.max_by_key(|(_, at)| at.at()) else {
            return Ok(None);
        };
        let names = [
            DATA_POINTS,
            ("aggregationTemporality", "aggregation_temporality"),
            ("isMonotonic", "is_monotonic"),
        ];
        let found = members(&mut at, names, source, |name| points.unknown(name));
        let [list, fields @ ..] = found.map_err(|fault| fault.within(kind.name()))?;
        self.data.clear();
        for (field, at) in kind.schema().fields.iter().zip(fields) {
            if let Some(mut at) = at {
                json_to_protobuf::member(&mut at, field, source, &mut self.data)?;
            }
        }
        Ok(Some(FoundData {
            kind,
            repaired,
            points: list,
        }))
    }

    /// Passes a metric's points to the visitor.
    fn take<'a>(
        &mut self,
        found: &FoundData<'a>,
        source: &Source,
        points: &mut PointVisitor<'a, '_>,
    ) -> Result<(), DecodeError> {
        let data = std::iter::once(&self.data[..]);
        let metric = points.metric(&self.envelope, found.kind, data, &found.repaired)?;
        let Some(mut list) = found.points else {
            return Ok(());
        };
        if list.peek()? != JsonType::Array {
            let fault = Unmapped::from(list.error("an array is expected")).within(DATA_POINTS.0);
            reject(list, &fault, &[], points)?;
            return Ok(());
        }
        each(&mut list, |at| {
            let start = *at;
            self.point.clear();
            match json_to_protobuf::message(at, metric.point(), source, &mut self.point) {
                Ok(repaired) => points.point(&metric, &self.point, &repaired)?,
                Err(fault) => *at = reject(start, &fault, &[], points)?,
            }
            Ok(())
        })
    }
}
