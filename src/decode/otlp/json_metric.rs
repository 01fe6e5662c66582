//! Walks metrics in JSON: skips a metric's object once to find its members, and then converts its points one by one.
//!
//! **Invariant:** at most one point of a metric is in memory beside the metric's envelope.

use crate::decode::DecodeError;
use crate::decode::json::json_reader::{JsonReader, JsonType};
use crate::decode::otlp::json_rejection::reject;
use crate::decode::otlp::json_request::{self, RequestSchema, SkipMember, each, members};
use crate::decode::otlp::json_to_protobuf::{self, Unmapped};
use crate::decode::otlp::metric::{MetricData, OtlpMetric};
use crate::decode::otlp::row_builder::RowBuilder;
use crate::decode::otlp::schema::metric::METRIC;
use crate::event::Source;

static METRICS: RequestSchema = RequestSchema {
    resources: "resourceMetrics",
    scopes: ["scopeMetrics", "instrumentationLibraryMetrics"],
    below_scope: &[&["metrics"], &KINDS, &[DATA_POINTS]],
    item: &METRIC,
};

const DATA_POINTS: &str = "dataPoints";

const KINDS: [&str; MetricData::ALL.len()] = {
    let mut names = [""; MetricData::ALL.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = MetricData::ALL[index].name();
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
    rows: &mut RowBuilder<'a, '_>,
) -> Result<(), DecodeError> {
    let mut buffers = MetricBuffers::default();
    json_request::walk_items(body, &METRICS, source, rows, |metric, skip, rows| {
        let start = *metric;
        match buffers.read(metric, skip, source, rows) {
            Ok(Some(found)) => buffers.decode_points(&found, source, rows),
            Ok(None) => Ok(()),
            Err(fault) => {
                *metric = reject(start, &fault, &[&KINDS, &[DATA_POINTS]], rows)?;
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
    /// Number of texts that were repaired in the envelope's JSON.
    repaired: u32,
    /// A reader at the list of points.
    points: Option<JsonReader<'a>>,
}

impl MetricBuffers {
    /// Reads a metric's envelope and the fields of its data without the points; `None` if it has no data.
    fn read<'a>(
        &mut self,
        metric: &mut JsonReader<'a>,
        skip: SkipMember<'a>,
        source: &Source,
        rows: &mut RowBuilder<'_, '_>,
    ) -> Result<Option<FoundData<'a>>, Unmapped> {
        let texts = METRIC.fields.iter().map(|field| field.name);
        let mut names = texts.chain(KINDS);
        let names = [(); 9].map(|()| names.next().unwrap_or_default());
        let found = members(metric, names, source, skip, |name| {
            rows.unknown(name);
        })?;
        let (texts, kinds) = found.split_at(METRIC.fields.len());
        let mut repaired = 0;
        self.envelope.clear();
        for (field, at) in METRIC.fields.iter().zip(texts) {
            if let Some(mut at) = *at {
                repaired += json_to_protobuf::member(&mut at, field, source, &mut self.envelope)?;
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
        let names = [DATA_POINTS, "aggregationTemporality", "isMonotonic"];
        let found = members(&mut at, names, source, JsonReader::skip_valid, |name| {
            rows.unknown(name);
        });
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

    /// Passes a metric's points to `rows`.
    fn decode_points<'a>(
        &mut self,
        found: &FoundData<'a>,
        source: &Source,
        rows: &mut RowBuilder<'a, '_>,
    ) -> Result<(), DecodeError> {
        let data = std::iter::once(&self.data[..]);
        let mut metric = OtlpMetric::new(&self.envelope, found.kind, data, source)?;
        metric.repairs.utf8 = metric.repairs.utf8.saturating_add(found.repaired);
        rows.sanitized(&metric.repairs);
        let Some(mut list) = found.points else {
            return Ok(());
        };
        if list.peek()? != JsonType::Array {
            let fault = Unmapped::from(list.error("an array is expected")).within(DATA_POINTS);
            reject(list, &fault, &[], rows)?;
            return Ok(());
        }
        each(&mut list, |at| {
            let start = *at;
            self.point.clear();
            match json_to_protobuf::message(at, metric.point(), source, &mut self.point) {
                Ok(repaired) => rows.item(&metric, &self.point, repaired)?,
                Err(fault) => *at = reject(start, &fault, &[], rows)?,
            }
            Ok(())
        })
    }
}
