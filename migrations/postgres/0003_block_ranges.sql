-- Shorter block ranges with more columns. A search reads the blocks of a range only if its summary allows a match, and two rows
-- cost as much to filter as the summary of a whole range. duration_ns makes slow spans such searches, and the time a part of a
-- day. A sum is summarised instead of timestamp itself, so that a condition on it never leads the planner to the btree: that
-- would be preferred for many parts of a day, and reads each of their rows. The hash of integration and name together matters
-- because most ranges have each of two common values, but few a row with both. The numbers of distinct values keep a summary
-- below a kilobyte and not compressed, so that it is read in a third of the time; a range of 16 blocks has about 270 rows. COPY
-- does not become slower, and the index not larger.
--
-- Writing waits for this, 1 to 3 s for each million rows; the collectors' journals accept meanwhile. A partition that has an index
-- of this definition already is not read again, so that a large table can be prepared with CREATE INDEX CONCURRENTLY.
CREATE INDEX telemetry_events_blocks ON telemetry_events USING brin (
    id,
    (timestamp + 0),
    duration_ns,
    integration text_bloom_ops (n_distinct_per_range = 64),
    event_type  text_bloom_ops (n_distinct_per_range = 16),
    provider    text_bloom_ops (n_distinct_per_range = 16),
    status      text_bloom_ops (n_distinct_per_range = 16),
    name        text_bloom_ops (n_distinct_per_range = 256),
    (hashtext(integration) # hashtext(name)) int4_bloom_ops (n_distinct_per_range = 256)
) WITH (pages_per_range = 16);

DROP INDEX telemetry_events_brin;
