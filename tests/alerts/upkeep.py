"""The alerts on maintenance, each by the cause that its runbook names, with the real service on a real PostgreSQL.

    scripts/check/outage.sh

The days ahead are gone and the role may make no more; a view keeps an old day; a silent instance left a stream. Every
round of maintenance fails, and the gauges have to say so all the same. The rules' clock goes 600 times as fast.

Invariant: nothing is faked but the rules' clock.
"""

import contextlib
import os
import sys

from database import Database
from faster import faster
from outage import Watch
from servers import ask, prometheus, scrape, service

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
    admin.ask("CREATE DATABASE upkeep")
    admin.ask(f"CREATE ROLE {ROLE} LOGIN")
    database = Database(f"{url.rsplit('/', 1)[0]}/upkeep")
    database.ask(f"GRANT CREATE, USAGE ON SCHEMA public TO {ROLE}")
    writer = f"postgres://{ROLE}@{database.url.split('@', 1)[1]}"
    settings = {"RUVVECTOR_RETENTION_DAYS": "7", "RUVVECTOR_MAINTENANCE_INTERVAL": "100ms"}
    main = enter(service(binary, writer, **settings))["main"]
    watch = Watch("ruvvector", enter(watched(main)))
    enter(contextlib.closing(Ended(watch.start())))
    watch.until("7 days are ahead", lambda: gauge(main, "ruvvector_partitions_ahead_days") == [7])
    assert not ALERTS & set(watch.began), watch.began
    database.ask(CAUSES)
    watch.until("the four alerts fire", lambda: ALERTS <= watch.now)
    assert gauge(main, "ruvvector_partitions_ahead_days") == [2]
    health = ask(f"{main}/health")[1]
    assert "permission denied for schema public" in health and "view report depends on it" in health, health
    database.ask(CURES)
    watch.until("they are over", lambda: not ALERTS & watch.now)
    assert gauge(main, "ruvvector_partitions_ahead_days") == [7]


class Ended:
    """What is looked at no longer once this is closed."""

    def __init__(self, event):
        self.event = event

    def close(self):
        self.event.set()


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        run(sys.argv[1], os.environ["RUVVECTOR_TEST_POSTGRES_URL"], stack.enter_context)
