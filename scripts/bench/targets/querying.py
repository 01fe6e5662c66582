"""Queries over HTTP of 30 days of rows: `queries`, and `disk` at the same data set.

Invariant: SQL alone and HTTP ask for the same values, in the same order, on warm caches.
"""

import dataclasses
import re
import statistics
import subprocess

from scripts.bench.database import FROZEN
from scripts.bench.dataset import dataset, trace_id
from scripts.bench.result import Line, number
from scripts.bench.sides import service
from scripts.bench.target import Target

ANSWERS = 200
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# An open loop goes on sending while an answer is late: these queries wait, and none is refused.
CONCURRENCY = "64"
NEWEST = "ORDER BY timestamp DESC, id DESC LIMIT 100"
# Rows a second that are written meanwhile, and the bound of p99 in multiples of p50.
WRITING = {5_000: 3, 20_000: 10}


@dataclasses.dataclass
class Query:
    """One query in the forms of HTTP and SQL, each a list with several values."""

    name: str
    # A bound of p50 in milliseconds; None: 1.2 times SQL's, and 0.3 ms.
    bound_ms: float | None
    paths: list
    statements: list


def where(name, bound_ms, *filters):
    """A search; each filter is a pair of the query string and the SQL condition."""
    paths = [f"/query?{query}" for query, _ in filters]
    statements = [f"SELECT * FROM telemetry_events WHERE {condition} {NEWEST}" for _, condition in filters]
    return Query(name, bound_ms, paths, statements)


def queries(rows, from_ms, ids):
    """All queries, on values from the whole of the data set."""
    traces = [trace_id(rows * part // 40) for part in range(1, 40, 2)]
    trace = "correlation_id = '{0}' AND trace_id = '{0}' OR trace_id = '{0}' AND trace_id <> correlation_id"
    select = "SELECT * FROM telemetry_events WHERE"
    hour = from_ms + 20 * DAY_MS + 5 * HOUR_MS
    day = from_ms + 20 * DAY_MS
    in_hour = (f"from={hour}&to={hour + HOUR_MS - 1}", f"timestamp BETWEEN {hour} AND {hour + HOUR_MS - 1}")
    in_day = (f"from={day}&to={day + DAY_MS - 1}", f"timestamp BETWEEN {day} AND {day + DAY_MS - 1}")
    some = [3, 7, 11, 17]
    return [
        Query("trace by id", None, [f"/traces/{each}" for each in traces], [f"{select} {trace.format(each)}" for each in traces]),
        where("by correlationId", None, *((f"correlationId={each}", f"correlation_id = '{each}'") for each in traces)),
        Query("event by id", 3, [f"/query/{each}" for each in ids], [f"{select} id = {each}" for each in ids]),
        where("newest 100 of all", 4, ("limit=100", "true")),
        where("newest 100 of a service", 4, *((f"integration=service-{n}", f"integration = 'service-{n}'") for n in some)),
        where("newest 100 with status ERROR", 4, ("status=ERROR", "status = 'ERROR'")),
        where("of one name in 200", 6, *((f"name=GET%20/resource/{n}", f"name = 'GET /resource/{n}'") for n in some)),
        where(
            "service and name",
            15,
            *(
                (f"integration=service-{n}&name=GET%20/resource/{n}", f"integration = 'service-{n}' AND name = 'GET /resource/{n}'")
                for n in some
            ),
        ),
        where(
            "errors of a service in one hour",
            6,
            *(
                (f"integration=service-{n}&status=ERROR&{in_hour[0]}", f"integration = 'service-{n}' AND status = 'ERROR' AND {in_hour[1]}")
                for n in some
            ),
        ),
        where("slow spans", 15, ("minDurationMs=1000", "duration_ns >= 1000000000")),
        where(
            "slow spans of one service in one day",
            15,
            *(
                (f"integration=service-{n}&minDurationMs=1000&{in_day[0]}", f"integration = 'service-{n}' AND duration_ns >= 1000000000 AND {in_day[1]}")
                for n in some
            ),
        ),
        where("event type of one row in 1,000", 20, ("eventType=order.paid", "event_type = 'order.paid'")),
        where("service that stopped two days ago", 20, ("integration=service-19", "integration = 'service-19'")),
        where("absent service", 20, ("integration=absent", "integration = 'absent'")),
        where("absent name", 20, ("name=absent", "name = 'absent'")),
    ]


def ask_sql(url, statements):
    """p50 of SQL alone over one connection, in milliseconds."""
    repeated = [statements[n % len(statements)] for n in range(2 * max(len(statements), 10))]
    script = "\n".join(["\\o /dev/null", "SET plan_cache_mode = force_custom_plan;", "\\timing on", *(f"{each};" for each in repeated)])
    done = subprocess.run(["psql", url, "--no-psqlrc", "--quiet"], input=script, capture_output=True, text=True, check=True)
    times = [float(each) for each in re.findall(r"^Time: ([\d.]+) ms", done.stdout, re.MULTILINE)]
    assert len(times) == len(repeated), done.stderr
    return statistics.median(times[len(times) // 2 :])


def ask_http(bench, ours, paths):
    file = bench.path("paths")
    with open(file, "w") as out:
        out.write("\n".join(paths) + "\n")
    return bench.generate("ask", url=ours.main, paths=file, count=ANSWERS)


def new_searches(paths):
    """The same searches, each with another number of events: the service has not answered any of these before."""
    return [f"{paths[n % len(paths)]}&limit={n + 1}" for n in range(ANSWERS)]


def measure(bench):
    rows = bench.options.rows
    for build in bench.builds:
        with dataset(bench, build, rows) as (url, from_ms):
            ids = bench.postgres.sql(url, f"SELECT id FROM telemetry_events WHERE id % {rows // 20} = 7").split()
            with service(bench, build, url, RUVVECTOR_QUERY_CONCURRENCY=CONCURRENCY) as ours:
                asked = queries(rows, from_ms, ids)
                for query in asked:
                    quiet(bench, build, ours, url, query)
                for rate in WRITING:
                    writing(bench, build, ours, asked, rate)


def quiet(bench, build, ours, url, query):
    sql = ask_sql(url, query.statements)
    answer = ask_http(bench, ours, query.paths)
    is_search = query.paths[0].startswith("/query?") and "limit" not in query.paths[0]
    new = ask_http(bench, ours, new_searches(query.paths)) if is_search else {}
    bench.keep("queries", build.label(query.name), {**answer, "sql_p50_ms": sql, "new_p50_ms": new.get("p50_ms")})
    bound = query.bound_ms or 1.2 * sql + 0.3
    p50 = answer["p50_ms"]
    figure = f"p50 {number(p50)} ms, p99 {number(answer['p99_ms'])} ms"
    if new:
        figure += f"; new searches p50 {number(new['p50_ms'])} ms"
    floor = f"plain SQL {number(sql)} ms"
    bench.add(Line("queries", build.label(query.name), figure, floor, number(p50 / sql), f"p50 <= {number(bound)} ms", p50 <= bound))


def writing(bench, build, ours, asked, rate):
    named = {"url": ours.otlp_http, "pid": ours.pid, "rate": rate, "spans": 100, "seconds": 3_600}
    with bench.generating("steady", **named):
        for query in asked:
            answer = ask_http(bench, ours, query.paths)
            bench.keep("queries", build.label(f"{query.name}, {rate} rows/s"), answer)
            p50, p99 = answer["p50_ms"], answer["p99_ms"]
            what = build.label(f"{query.name} while {rate:,} rows/s are written")
            promise = f"p99 <= {WRITING[rate]}x p50"
            figure = f"p50 {number(p50)} ms, p99 {number(p99)} ms"
            bench.add(Line("queries", what, figure, "", number(p99 / p50), promise, p99 <= WRITING[rate] * p50))
    ours.await_drained()


def disk(bench):
    rows = bench.options.rows
    for build in bench.builds:
        with bench.postgres.database() as empty_url:
            empty = size(bench, empty_url)
        with dataset(bench, build, rows) as (url, _):
            ours = (size(bench, url) - empty) / rows
            bench.postgres.sql(url, (FROZEN / "original.sql").read_text(), ORIGINAL_ROWS, "VACUUM original_events")
            floor = int(bench.postgres.sql(url, "SELECT pg_total_relation_size('original_events')")) / rows
        bench.keep("disk", build.label("bytes a row"), {"service": round(ours, 1), "original schema": round(floor, 1)})
        floor_text = f"original schema {number(floor)} bytes"
        what = build.label("disk a span, everything in the database")
        bench.add(Line("disk", what, f"{number(ours)} bytes", floor_text, number(ours / floor), "<= 0.67x", ours <= 0.67 * floor))


ORIGINAL_ROWS = """
INSERT INTO original_events (correlation_id, integration, provider, event_type, timestamp, metadata, trace_id, span_id, created_at)
SELECT e.correlation_id, e.integration, e.provider, e.event_type, e.timestamp,
       e.metadata || jsonb_strip_nulls(jsonb_build_object('name', e.name, 'kind', e.kind, 'status', e.status,
           'timeUnixNano', e.time_unix_nano::text, 'durationNs', e.duration_ns, 'parentSpanId', e.parent_span_id,
           'resource', r.resource, 'scope', r.scope)),
       e.trace_id, e.span_id, e.created_at AT TIME ZONE 'UTC'
FROM telemetry_events e LEFT JOIN telemetry_resources r ON r.id = e.resource_id
"""


def size(bench, url):
    return int(bench.postgres.sql(url, "SELECT pg_database_size(current_database())"))


TARGETS = [
    Target("queries", 5, "latency of queries of 30 days of rows, beside plain SQL, also while rows are written", measure, 700),
    Target("disk", 2, "disk a span at the queries' data set, beside the original service's schema", disk, 1_900),
]
