//! `GET /aggregate`: numbers of events, errors and percentiles of durations, by columns and by time. `GET
//! /query?count=true`: the number of events of a search.
//!
//! `uri -> parameters -> statement -> postgres | sqlite -> groups -> JSON`
//!
//! **Invariant:** numbers of events and errors are exact, and both stores give the same answer.

use std::collections::VecDeque;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use tracing::Span;

use crate::query::error::QueryError;
use crate::query::search::Search;
use crate::query::{Queries, query_string, slot_body, timed};
use crate::telemetry::own_traces::SpanAttributes;

/// Conversion of the request's parameters.
mod parameters;

/// The statements.
mod statement;

/// The groups and their JSON.
pub(super) mod groups;

/// EventGroups and counts in PostgreSQL.
mod postgres;

/// EventGroups and counts in SQLite.
pub(super) mod sqlite;

pub(super) use parameters::Aggregation;

/// The number of events of a search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted(i64);

impl SpanAttributes for Counted {
    fn record(&self, _span: &Span) {}
}

/// `GET /aggregate`.
pub(crate) async fn aggregate(
    State(queries): State<Queries>,
    uri: Uri,
) -> Result<Response, QueryError> {
    let pairs = query_string::pairs(uri.query().unwrap_or_default())?;
    let aggregation = Aggregation::of_query(&pairs, &queries.options)?;
    let reading = queries.groups(aggregation.clone());
    let (groups, held) = timed("/aggregate", reading).await?;
    let body = Bytes::from(groups.into_json(&aggregation));
    Ok(json(slot_body::body(VecDeque::from([body]), held)))
}

/// `GET /query?count=true`.
pub(super) async fn count(queries: Queries, search: Search) -> Result<Response, QueryError> {
    let Counted(count) = timed("/query", queries.count(search)).await?;
    Ok(json(format!("{{\"count\":{count}}}")))
}

fn json(body: impl IntoResponse) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], body).into_response()
}
