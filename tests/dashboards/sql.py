"""Runs every SQL query of the dashboards on a filled PostgreSQL and checks its rows and its plan.

Invariant: each query runs as Grafana would send it, by the role that the dashboards' README creates; only its variables and
macros are replaced.
"""

import json
import re
from urllib.parse import urlsplit

from tests.common.postgres import Database
from tests.common.traffic import TRACE
from tests.dashboards.boards import DIRECTORY, POSTGRES, boards, queries, variables

DAYS, ROWS_A_DAY = 7, 10_000
# Fills the days before today as a running service would have; every minute has its share of events.
FILL = """
DO $$
DECLARE
    day date;
BEGIN
    FOR back IN 1..{days} LOOP
        day := (now() AT TIME ZONE 'utc')::date - back;
        EXECUTE format('CREATE TABLE filled_%s PARTITION OF telemetry_events FOR VALUES FROM (%L) TO (%L)',
            back, day::timestamp AT TIME ZONE 'utc', (day + 1)::timestamp AT TIME ZONE 'utc');
        INSERT INTO telemetry_events (timestamp, time_unix_nano, duration_ns, created_at, kind, correlation_id, integration,
                                      event_type, trace_id, span_id, parent_span_id, name, status, metadata)
        SELECT ms, ms * 1000000, 1000000 * (1 + n % 997), to_timestamp(ms / 1000.0), 2, md5((n / 5)::text || day),
               (ARRAY['shop', 'billing', 'mail'])[1 + n % 3], CASE WHEN n % 7 = 0 THEN 'log' ELSE 'span' END, md5((n / 5)::text || day),
               left(md5(n::text), 16), CASE WHEN n % 5 > 0 THEN left(md5((n - n % 5)::text), 16) END, 'step ' || n % 11,
               CASE WHEN n % 50 = 0 THEN 'ERROR' ELSE 'OK' END, '{{"attributes": {{"http.route": "/cart"}}, "body": "done"}}'
        FROM generate_series(0, {rows} - 1) n,
             LATERAL (SELECT (extract(epoch FROM day::timestamp AT TIME ZONE 'utc') * 1000)::bigint + n::bigint * 86400000 / {rows}) t (ms);
    END LOOP;
END $$;
ANALYZE telemetry_events;
"""
# Selects an hour of yesterday, at whatever time of day the check runs.
HOUR = "SELECT 1000 * extract(epoch FROM (date_trunc('day', now() AT TIME ZONE 'utc') - interval '12 h') AT TIME ZONE 'utc')::bigint"
GROUP = re.compile(r"\$__unixEpochGroup\(([^,]*), \$__interval\)")


def create_documented_role(database):
    """Creates the role of dashboards/README.md, with rights in this database instead of the one that the README names."""
    sql = re.search(r"```sql\n(.*?)```", (DIRECTORY / "README.md").read_text(), re.DOTALL)[1]
    name = urlsplit(database.url).path.removeprefix("/")
    database.run(sql.replace("ON DATABASE telemetry", f'ON DATABASE "{name}"'))


class GrafanaReader(Database):
    """Reads as the documented role."""

    def rows(self, sql):
        return json.loads(self.run(f"SET ROLE grafana; SELECT coalesce(json_agg(t), '[]') FROM ({sql}) t"))

    def plan(self, sql):
        return json.loads(self.run(f"SET ROLE grafana; EXPLAIN (FORMAT JSON) {sql}"))[0]["Plan"]


def substituted(sql, start, integrations):
    sql = GROUP.sub(r"floor((\1)/60)*60", sql)
    values = {
        "$__from": start,
        "$__to": start + 3_600_000,
        "$integration": integrations,
        "${trace_id:sqlstring}": f"'{TRACE.upper()}'",
    }
    for name, value in values.items():
        sql = sql.replace(name, str(value))
    assert "$" not in sql, f"a variable or macro that the check does not know: {sql}"
    return sql


def scans(plan):
    """Yields every node that reads rows or indexes of the filled days."""
    if plan.get("Relation Name", "").startswith("filled_"):
        yield plan
    for child in plan.get("Plans", []):
        yield from scans(child)


def conditions(node):
    own = node.get("Index Cond", "")
    return own + "".join(conditions(child) for child in node.get("Plans", []))


def slow(plan, columns):
    """Yields each filled day that a plan reads without an index on one of the columns."""
    found = list(scans(plan))
    if len(found) < DAYS:
        yield f"reads {len(found)} of {DAYS} days"
    for node in found:
        if node["Node Type"] == "Seq Scan" or not any(column in conditions(node) for column in columns):
            yield f"reads {node['Relation Name']} by {node['Node Type']} {conditions(node)}"


def check_panel(database, panel, text, start):
    columns = ["correlation_id", "trace_id"] if "trace_id:sqlstring" in text else ['"timestamp"']
    # `All` is the column itself; else Grafana gives the quoted values.
    for integrations in ["integration", "'shop','billing'"]:
        sql = substituted(text, start, integrations)
        rows = database.rows(sql)
        if not rows:
            yield "gives no rows"
            continue
        names = [
            override["matcher"]["options"]
            for override in panel["fieldConfig"]["overrides"]
            if override["matcher"]["id"] == "byName"
        ]
        if missing := set(names) - set(rows[0]):
            yield f"sets {missing}, which it has no column for"
        if panel["type"] == "timeseries":
            times = [row["time"] for row in rows]
            if times != sorted(times) or len(set(times)) != 60 or any(time % 60 for time in times):
                yield "is not a series of minutes, in order"
            if "metric" not in rows[0] or len(rows[0]) != 3:
                yield "is not time, metric and one value"
        if not all(any(row[name] is not None for row in rows) for name in rows[0]):
            yield "has a column of nothing but NULL"
        yield from slow(database.plan(sql), columns)


def check(url):
    database = GrafanaReader(url)
    database.run(FILL.format(days=DAYS, rows=ROWS_A_DAY))
    create_documented_role(database)
    start = int(database.run(HOUR))
    for where, panel, text in queries(POSTGRES, "rawSql"):
        for problem in check_panel(database, panel, text, start):
            yield f"{where}: {problem}"
    for name, board in boards().items():
        for variable in variables(board).values():
            if variable["type"] == "query" and variable["datasource"]["type"] == POSTGRES:
                sql = substituted(variable["query"], start, "integration")
                if not database.rows(sql):
                    yield f"{name}: ${variable['name']} has no values"
                for problem in slow(database.plan(sql), ['"timestamp"']):
                    yield f"{name}: ${variable['name']} {problem}"
