-- The original service's table, frozen: one row an event, everything without a column in metadata, no partitions.
CREATE TABLE original_events (
    id             SERIAL PRIMARY KEY,
    correlation_id VARCHAR(255) NOT NULL,
    integration    VARCHAR(100) NOT NULL,
    provider       VARCHAR(100),
    event_type     VARCHAR(50)  NOT NULL,
    timestamp      BIGINT       NOT NULL,
    metadata       JSONB        DEFAULT '{}',
    trace_id       VARCHAR(64),
    span_id        VARCHAR(32),
    created_at     TIMESTAMP    DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX original_events_correlation_id ON original_events (correlation_id);
CREATE INDEX original_events_integration ON original_events (integration);
CREATE INDEX original_events_timestamp ON original_events (timestamp);
