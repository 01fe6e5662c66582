-- The same shape as in PostgreSQL, in one file. Times of receipt are Unix microseconds.

CREATE TABLE telemetry_events (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    timestamp      INTEGER NOT NULL,            -- the event's own time, Unix ms
    time_unix_nano INTEGER,                     -- the same as sent, to the nanosecond
    duration_ns    INTEGER,
    created_at     INTEGER NOT NULL,            -- time of receipt, Unix µs
    kind           INTEGER,                     -- span kind, severity number, or field number of the metric's data
    flags          INTEGER,                     -- 1 time replaced, 2 end invalid, 4 cut, 8 receive time replaced, 16 text repaired
    correlation_id TEXT NOT NULL,
    integration    TEXT NOT NULL,
    provider       TEXT,
    event_type     TEXT NOT NULL,
    trace_id       TEXT,
    span_id        TEXT,
    parent_span_id TEXT,
    name           TEXT,
    status         TEXT,
    resource_id    BLOB,                        -- telemetry_resources.id
    metadata       TEXT NOT NULL                -- normalised JSON
);

CREATE INDEX telemetry_events_correlation_id ON telemetry_events (correlation_id);
CREATE INDEX telemetry_events_timestamp ON telemetry_events (timestamp);
CREATE INDEX telemetry_events_trace_id ON telemetry_events (trace_id) WHERE trace_id <> correlation_id;
CREATE INDEX telemetry_events_integration ON telemetry_events (integration, timestamp);

CREATE TABLE telemetry_resources (
    id        BLOB PRIMARY KEY,
    resource  TEXT NOT NULL,
    scope     TEXT NOT NULL,
    last_seen INTEGER NOT NULL
) WITHOUT ROWID;

-- The account of what is stored, changed in the transaction that writes the rows.
CREATE TABLE ingest_streams (
    stream           BLOB PRIMARY KEY,
    stored_positions TEXT NOT NULL DEFAULT '[]',       -- [[first, last], …], sorted, disjoint, both ends included
    collector        TEXT,
    appended         INTEGER,
    oldest           INTEGER,
    heartbeat        INTEGER,
    released         INTEGER
) WITHOUT ROWID;

CREATE TABLE telemetry_dead_letters (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    stream           BLOB    NOT NULL,
    position         INTEGER NOT NULL,
    item             INTEGER,                   -- NULL: the whole record, as the client sent it
    events           INTEGER NOT NULL,
    kind             TEXT    NOT NULL,
    content_encoding TEXT    NOT NULL,
    decoder          INTEGER NOT NULL,
    received_at      INTEGER NOT NULL,
    reason           TEXT    NOT NULL,
    sqlstate         TEXT,
    message          TEXT    NOT NULL,
    payload          BLOB    NOT NULL
);

CREATE VIEW telemetry_spans AS
SELECT e.id, e.trace_id, e.span_id, e.parent_span_id, e.correlation_id, e.integration, e.provider, e.name, e.kind,
       e.status, e.timestamp, e.time_unix_nano, e.duration_ns, e.metadata, r.resource, r.scope, e.flags, e.created_at
FROM telemetry_events e
LEFT JOIN telemetry_resources r ON r.id = e.resource_id
WHERE e.event_type = 'span';
