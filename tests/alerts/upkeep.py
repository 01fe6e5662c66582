"""Causes each alert on maintenance as its runbook describes, with the real service on a real PostgreSQL.

    scripts/check/outage.sh

The partitions ahead are dropped and the role may create no others; a view depends on an old partition; a silent instance left
a stream. Every round of maintenance fails, and the gauges have to report it nevertheless. The rules run 600 times as fast.

Invariant: only the clock of the rules differs from a real outage.
"""

import contextlib
import os
import sys

from tests.alerts.faster import faster
from tests.alerts.outage import Watch
from tests.common.postgres import Database, cluster_url, with_database
from tests.common.servers import ask, prometheus, scrape, service

FACTOR = 600
ROLE = "upkeep_writer"
CAUSES = f"""
DO $$ DECLARE day regclass; BEGIN
  FOR day IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'telemetry_events'::regclass ORDER BY inhrelid DESC LIMIT 5 LOOP
    EXECUTE format('DROP TABLE %s', day);
  END LOOP;
END $$;
REVOKE CREATE ON SCHEMA public FROM {ROLE}, PUBLIC;
CREATE TABLE telemetry_events_20260101 PARTITION OF telemetry_events
  FOR VALUES FROM ('2026-01-01 00:00+00') TO ('2026-01-02 00:00+00');
ALTER TABLE telemetry_events_20260101 OWNER TO {ROLE};
CREATE VIEW report AS SELECT count(*) FROM telemetry_events_20260101;
INSERT INTO ingest_streams (stream, collector, appended, oldest, heartbeat)
  VALUES ('00000000-0000-0000-0000-000000000001', 'gone', 9, now() - interval '1 hour', now() - interval '1 hour');
"""
CURES = f"""
GRANT CREATE ON SCHEMA public TO {ROLE};
DROP VIEW report;
DELETE FROM ingest_streams WHERE collector = 'gone';
"""
ALERTS = {
    ("RuvVectorPartitionsRunningOut", None, "ticket"),
    ("RuvVectorRetentionStalled", None, "ticket"),
    ("RuvVectorStreamsUndrained", None, "ticket"),
    ("RuvVectorMaintenanceFailing", None, "ticket"),
}


def watched(main):
    configuration = {
        "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"},
        "rule_files": ["*.rules.yml"],
        "scrape_configs": [scrape("ruvvector", main.removeprefix("http://"))],
    }
    return prometheus(configuration, os.environ.get("PROMETHEUS", "prometheus"), faster(FACTOR), ["--query.lookback-delta=2s"])


def gauge(main, name):
    lines = ask(f"{main}/metrics")[1].splitlines()
    return [float(line.split(" ")[1]) for line in lines if line.startswith(f"{name} ")]


def run(binary, url, enter):
    admin = Database(url)
    admin.run("CREATE DATABASE upkeep")
    admin.run(f"CREATE ROLE {ROLE} LOGIN")
    database = Database(with_database(url, "upkeep"))
    database.run(f"GRANT CREATE, USAGE ON SCHEMA public TO {ROLE}")
    writer = f"postgres://{ROLE}@{database.url.split('@', 1)[1]}"
    settings = {"RUVVECTOR_RETENTION_DAYS": "7", "RUVVECTOR_MAINTENANCE_INTERVAL": "100ms"}
    main = enter(service(binary, writer, **settings))["main"]
    watch = Watch("ruvvector", enter(watched(main)))
    ended = watch.start()
    enter(contextlib.ExitStack()).callback(ended.set)
    watch.until("7 days are ahead", lambda: gauge(main, "ruvvector_partitions_ahead_days") == [7])
    assert not ALERTS & set(watch.began), watch.began
    database.run(CAUSES)
    watch.until("the four alerts fire", lambda: ALERTS <= watch.now)
    assert gauge(main, "ruvvector_partitions_ahead_days") == [2]
    health = ask(f"{main}/health")[1]
    assert "permission denied for schema public" in health and "view report depends on it" in health, health
    database.run(CURES)
    watch.until("they are over", lambda: not ALERTS & watch.now)
    assert gauge(main, "ruvvector_partitions_ahead_days") == [7]


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        run(sys.argv[1], cluster_url(), stack.enter_context)
