"""The queries' data set: rows of 30 days, copied into the service's own schema, with the service's own maintenance run over them.

Values follow from a row's number, as in `benches/load/rows.rs`.

Invariant: the rows are complete, analysed and summarised before anything is asked.
"""

import contextlib
import datetime
import json
import time

from scripts.bench.database import COPY_IN
from scripts.bench.sides import service

DAYS = 30
SERVICES = 20
# The service's maintenance runs at this interval while the data set is prepared.
ROUND = "5s"
MASK = (1 << 64) - 1


def scatter(n):
    """SplitMix64, as the load generator spreads its numbers."""
    z = n * 0x9E37_79B9_7F4A_7C15 & MASK
    z = (z ^ z >> 30) * 0xBF58_476D_1CE4_E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D0_49BB_1331_11EB & MASK
    return z ^ z >> 31


def trace_id(n):
    """The trace of a row, 32 hexadecimal digits."""
    trace = scatter(n // 10 + 1)
    return f"{trace:016x}{scatter(trace):016x}"


def first_day_ms():
    """The start of the first of the days, which end with yesterday, in Unix milliseconds."""
    today = datetime.datetime.now(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return int((today - datetime.timedelta(days=DAYS)).timestamp() * 1000)


@contextlib.contextmanager
def dataset(bench, build, rows):
    """A database with this number of rows during the block; yields its URL and the first row's time in Unix milliseconds."""
    postgres = bench.postgres
    with postgres.database() as url:
        # The service makes its schema.
        with service(bench, build, url):
            # It ends with the partitions of today and of a week.
            await_rows(postgres, url, "SELECT count(*) FROM pg_inherits WHERE inhparent = to_regclass('telemetry_events')", 8)
        postgres.add_days(url, DAYS)
        postgres.sql(url, *resources())
        from_ms = first_day_ms()
        named = {"url": url, "statement": COPY_IN, "count": rows, "days": DAYS, "from_ms": from_ms, "connections": 2}
        filled = bench.generate("rows", **named)
        bench.say(f"  {filled['rows']:,} rows filled in {filled['seconds']:.0f} s")
        maintain(bench, build, url)
        yield url, from_ms


def resources():
    """Yields a statement for the resource of each service."""
    for number in range(SERVICES):
        attributes = {
            "service.name": f"service-{number}",
            "service.version": "1.4.2",
            "host.name": "node-17",
            "deployment.environment.name": "production",
            "telemetry.sdk.language": "go",
        }
        resource, scope = json.dumps({"attributes": attributes}), json.dumps({"name": "net/http", "version": "0.60.0"})
        digits = f"{scatter(number):016x}" * 2
        yield f"INSERT INTO telemetry_resources (id, resource, scope) VALUES ('\\x{digits}', '{resource}', '{scope}')"


def await_rows(postgres, url, question, wanted, seconds=600):
    deadline = time.monotonic() + seconds
    while int(postgres.sql(url, question)) < wanted:
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds} s: {question}")
        time.sleep(1)


def maintain(bench, build, url):
    """Runs the service until it has analysed each filled day and one more round has passed; the server's vacuum follows."""
    days = "pg_stat_user_tables WHERE relname LIKE 'telemetry_events_%' AND n_tup_ins > 50000"
    filled = int(bench.postgres.sql(url, f"SELECT count(*) FROM {days}"))
    with service(bench, build, url, RUVVECTOR_MAINTENANCE_INTERVAL=ROUND) as ours:
        # The server's autovacuum may be first; then the service leaves the day as it is.
        analysed = "coalesce(last_analyze, last_autoanalyze) IS NOT NULL"
        await_rows(bench.postgres, url, f"SELECT count(*) FROM {days} AND {analysed}", filled)
        time.sleep(15)
        ours.await_drained()
    # As autovacuum would within minutes, but not in the middle of a measurement.
    bench.postgres.sql(url, "VACUUM", "CHECKPOINT")
