-- The floor's table in SQLite, frozen: the product's table and its four indexes as of 2026-12-01. It does not follow migrations/.
CREATE TABLE telemetry_events (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    timestamp      INTEGER NOT NULL,
    time_unix_nano INTEGER,
    duration_ns    INTEGER,
    created_at     INTEGER NOT NULL,
    kind           INTEGER,
    flags          INTEGER,
    correlation_id TEXT NOT NULL,
    integration    TEXT NOT NULL,
    provider       TEXT,
    event_type     TEXT NOT NULL,
    trace_id       TEXT,
    span_id        TEXT,
    parent_span_id TEXT,
    name           TEXT,
    status         TEXT,
    resource_id    BLOB,
    metadata       TEXT NOT NULL
);
CREATE INDEX telemetry_events_correlation_id ON telemetry_events (correlation_id);
CREATE INDEX telemetry_events_timestamp ON telemetry_events (timestamp);
CREATE INDEX telemetry_events_trace_id ON telemetry_events (trace_id) WHERE trace_id <> correlation_id;
CREATE INDEX telemetry_events_integration ON telemetry_events (integration, timestamp);
