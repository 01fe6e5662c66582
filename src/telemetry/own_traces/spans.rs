//! The spans of the steps of a request and of a batch, with their names, kinds and attributes. The span of the request
//! itself is in `receive/connection/request_span.rs`.
//!
//! Names and attributes are OpenTelemetry's (semantic conventions for HTTP, RPC, databases and messaging), or begin
//! with `ruvvector.`.
//!
//! **Invariant:** if nothing is traced, no attribute is computed; and no attribute holds bytes that a client chose.

use bytes::Bytes;
use tracing::field::Empty;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::event::Position;
use crate::telemetry::own_traces::links::{self, RequestTag};
use crate::telemetry::own_traces::{SpanAttributes, TARGET, is_on, is_sampled};

/// Begins the span of reading a body.
pub(crate) fn receive() -> Span {
    if !is_sampled() {
        return Span::none();
    }
    info_span!(target: TARGET, "receive",
        ruvvector.wire.bytes = Empty, error.type = Empty, otel.status_code = Empty)
}

/// Begins the span of decompressing and checking a body.
pub(crate) fn decode() -> Span {
    if !is_sampled() {
        return Span::none();
    }
    info_span!(target: TARGET, "decode",
        ruvvector.decoded.bytes = Empty, ruvvector.events.accepted = Empty, ruvvector.events.rejected = Empty,
        error.type = Empty, otel.status_code = Empty)
}

/// Begins the span of appending and syncing a record.
pub(crate) fn append() -> Span {
    if !is_sampled() {
        return Span::none();
    }
    info_span!(target: TARGET, "append", otel.kind = "producer",
        messaging.system = "ruvvector", messaging.operation.name = "append", messaging.operation.type = "send",
        messaging.destination.name = "journal",
        ruvvector.journal.position = Empty, error.type = Empty, otel.status_code = Empty)
}

/// Begins the span of writing a batch, if it holds records of traced requests: a separate trace, linked to theirs.
pub(crate) fn batch(tags: impl Iterator<Item = RequestTag>, records: usize, rows: usize) -> Span {
    if !is_on() {
        return Span::none();
    }
    let linked = links::of(tags);
    if linked.is_empty() {
        return Span::none();
    }
    let span = info_span!(target: TARGET, parent: None, "write batch", otel.kind = "consumer",
        messaging.system = "ruvvector", messaging.operation.name = "write batch", messaging.operation.type = "process",
        messaging.destination.name = "journal", messaging.batch.message_count = number(records),
        ruvvector.batch.rows = number(rows), error.type = Empty, otel.status_code = Empty);
    for request in linked {
        span.add_link(request);
    }
    span
}

/// Begins the span of a database operation; `table` is empty if the operation concerns no table.
pub(crate) fn statement(
    system: DatabaseSystem,
    operation: &'static str,
    table: &'static str,
) -> Span {
    if !is_sampled() {
        return Span::none();
    }
    let name = if table.is_empty() {
        operation.to_owned()
    } else {
        format!("{operation} {table}")
    };
    info_span!(target: TARGET, "statement", otel.name = name, otel.kind = "client",
        db.system.name = system.name(), db.operation.name = operation,
        db.collection.name = (!table.is_empty()).then_some(table),
        db.response.returned_rows = Empty, error.type = Empty, otel.status_code = Empty)
}

/// The values of `db.system.name`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DatabaseSystem {
    Postgresql,
    Sqlite,
}

impl DatabaseSystem {
    const fn name(self) -> &'static str {
        match self {
            Self::Postgresql => "postgresql",
            Self::Sqlite => "sqlite",
        }
    }
}

/// Converts a number to `i64`, OpenTelemetry's type of whole numbers; an unsigned one would be exported as a text.
pub(crate) fn number(of: impl TryInto<i64>) -> i64 {
    of.try_into().unwrap_or(i64::MAX)
}

/// Marks a span as failed, for an error that is not the client's.
pub(crate) fn fail(span: &Span, error_type: &str) {
    span.record("error.type", error_type);
    span.record("otel.status_code", "ERROR");
}

impl SpanAttributes for Bytes {
    fn record(&self, span: &Span) {
        span.record("ruvvector.wire.bytes", number(self.len()));
    }
}

impl SpanAttributes for Position {
    fn record(&self, span: &Span) {
        span.record("ruvvector.journal.position", number(self.n));
    }
}
