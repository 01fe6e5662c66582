//! Metrics in JSON: a metric's object is passed over once to find where its members stand, and its points are entered one
//! by one.
//!
//! **Invariant:** beside a metric's envelope no more than one point is in memory.

use super::metric::{Data, Points};
use super::otlp_json::{self, Lists, each, members};
use super::scan::Scanner;
use super::schema::metric::METRIC;
use super::{DecodeError, Limits, transcode};

static METRICS: Lists = Lists {
    resources: ("resourceMetrics", "resource_metrics"),
    scopes: ("scopeMetrics", "scope_metrics"),
    items: ("metrics", "metrics"),
    item: &METRIC,
};

/// Walks a request.
///
/// # Errors
/// When it is not JSON, or not the message it should be.
pub(super) fn walk<'a>(
    body: &'a [u8],
    limits: &'a Limits,
    points: &mut Points<'a, '_>,
) -> Result<(), DecodeError> {
    let mut scratch = Scratch::default();
    otlp_json::walk_items(body, &METRICS, limits, points, |metric, points| {
        take(metric, limits, &mut scratch, points)
    })
}

/// Messages in protobuf, kept for their memory.
#[derive(Default)]
struct Scratch {
    envelope: Vec<u8>,
    data: Vec<u8>,
    point: Vec<u8>,
}

fn take(
    metric: &mut Scanner<'_>,
    limits: &Limits,
    Scratch {
        envelope,
        data,
        point,
    }: &mut Scratch,
    points: &mut Points<'_, '_>,
) -> Result<(), DecodeError> {
    let texts = METRIC.fields.iter().map(|field| (field.name, field.snake));
    let kinds = Data::ALL.map(|kind| (kind.name(), kind.snake()));
    let mut names = texts.chain(kinds);
    let names = [(); 9].map(|()| names.next().unwrap_or_default());
    let found = members(metric, names, limits)?;
    let (texts, kinds) = found.split_at(METRIC.fields.len());
    envelope.clear();
    for (field, at) in METRIC.fields.iter().zip(texts) {
        if let Some(mut at) = *at {
            transcode::member(&mut at, field, limits, envelope)?;
        }
    }
    // Of a oneof the last counts.
    let last = Data::ALL
        .into_iter()
        .zip(kinds)
        .filter_map(|(kind, at)| Some((kind, (*at)?)));
    let Some((kind, mut at)) = last.max_by_key(|(_, at)| at.at()) else {
        return Ok(());
    };
    let names = [
        ("dataPoints", "data_points"),
        ("aggregationTemporality", "aggregation_temporality"),
        ("isMonotonic", "is_monotonic"),
    ];
    let [list, said @ ..] = members(&mut at, names, limits)?;

    data.clear();
    for (field, at) in kind.schema().fields.iter().zip(said) {
        if let Some(mut at) = at {
            transcode::member(&mut at, field, limits, data)?;
        }
    }
    let metric = points.metric(envelope, kind, std::iter::once(&data[..]))?;
    let Some(mut list) = list else {
        return Ok(());
    };
    each(&mut list, |at| {
        point.clear();
        transcode::message(at, metric.point(), limits, point)?;
        Ok(points.point(&metric, point)?)
    })
}
